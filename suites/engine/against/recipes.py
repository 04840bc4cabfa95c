"""What `docker create` can be asked for, drawn by hypothesis: bodies of POST /containers/create.

Rule: what startkit refuses by its name (`suites/engine/test_docker_options.py`) is not
drawn; what the kernel or dockerd refuses may be, as both engines have to refuse it.
`<HOST>` stands for a directory of the machine with data/, more/ and file.
"""

from __future__ import annotations

from hypothesis import strategies as st
from portrait import script

MiB = 1 << 20
CAPS = ("CHOWN", "NET_RAW", "SETUID", "KILL", "SYS_CHROOT", "MKNOD")
# not ALL: what a machine withholds, dockerd asks for all the same, and fails
MORE_CAPS = ("NET_ADMIN", "cap_sys_time", "SYS_PTRACE", "IPC_LOCK")
FAILING = (["nope"], ["/nope"], ["/etc/passwd"], ["/etc"], [""])
WORDS = st.sampled_from(["", "1", "x=y", "two words", "ü", "$HOME", "a'b\"c\\"])
NAMES = st.sampled_from(["A", "B", "TERM", "HOSTNAME", "HOME", "LANG"])
LABELS = st.dictionaries(st.sampled_from(["a", "b.c", "d/e"]), WORDS, max_size=2)
ADDRESSES = st.sampled_from(["192.0.2.1", "198.51.100.7", "2001:db8::1", "127.0.0.1"])
NAMED = st.sampled_from(["box", "a-b", "db.example.test", "x1"])


@st.composite
def env(draw):
    """Draw variables: new ones, some in the place of Docker's own, some that only take away."""
    found = [f"{name}={draw(WORDS)}" for name in draw(st.lists(NAMES, max_size=4))]
    found += draw(st.sampled_from([[], [], ["PATH=/bin:/usr/bin"], ["TERM"], ["A"]]))
    return draw(st.permutations(found))


@st.composite
def commands(draw):
    """Draw entrypoint and command: one program in several spellings, or one that cannot run."""
    if draw(st.integers(0, 11)) == 11:
        return {"Cmd": draw(st.sampled_from(FAILING))}
    words = ["sh", "-c", script(draw(st.sampled_from([0, 1, 7, 126, 255])))]
    split = draw(st.integers(0, 3))
    entrypoint, command = words[:split], words[split:]
    if split == 0:
        entrypoint = draw(st.sampled_from([None, [], [""]]))
    if split == 3:
        command = draw(st.sampled_from([None, [], ["one", "two"]]))
    return {"Entrypoint": entrypoint, "Cmd": command}


@st.composite
def mounts(draw):
    """Draw binds and tmpfs, each place once."""
    places = st.sampled_from(["/data", "/data/deep", "/mnt", "/etc/x", "/run", "/tmp", "/dev/shm"])
    targets = draw(st.lists(places, unique=True, max_size=4))
    binds, tmpfs = [], {}
    for target in targets:
        if draw(st.booleans()):
            source = draw(st.sampled_from(["data", "more", "data", "made"]))
            mode = draw(st.sampled_from(["", ":ro", ":rw", ":private", ":ro,rprivate"]))
            binds.append(f"<HOST>/{source}:{target}{mode}")
        else:
            tmpfs[target] = draw(
                st.sampled_from(["", "size=64k", "rw,exec,size=1m", "mode=700,uid=1000", "ro"])
            )
    return {"Binds": binds, "Tmpfs": tmpfs}


SYSCTLS = st.dictionaries(
    st.sampled_from(["net.ipv4.ip_forward", "kernel.msgmax", "kernel.shm_rmid_forced"]),
    st.sampled_from(["0", "1"]),
    max_size=2,
)
ULIMITS = st.lists(
    st.sampled_from(
        [
            {"Name": "nofile", "Soft": 100, "Hard": 200},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "stack", "Soft": MiB, "Hard": 4 * MiB},
            {"Name": "nproc", "Soft": 500, "Hard": 900},
            {"Name": "memlock", "Soft": 65536, "Hard": 65536},
        ]
    ),
    unique_by=lambda one: one["Name"],
    max_size=2,
)


def maybe(strategy, *, nothing=None):
    """Draw nothing half of the time."""
    return st.one_of(st.just(nothing), strategy)


CONFIG = {
    "Env": env(),
    "User": st.sampled_from(
        [
            "",
            "",
            "root",
            "guest",
            "1000",
            "1000:5",
            "guest:tty",
            "4242",
            ":5",
            "nobody:nogroup",
            "who",
        ]
    ),
    "WorkingDir": st.sampled_from(
        ["", "", "/", "/tmp", "/opt/dir", "/made/for/it", "/etc/../tmp/"]
    ),
    "Tty": st.booleans(),
    "OpenStdin": st.booleans(),
    "StdinOnce": st.booleans(),
    "Hostname": maybe(NAMED, nothing=""),
    "Domainname": st.sampled_from(["", "", "lan", "example.test"]),
    "Labels": maybe(LABELS),
    "StopSignal": st.sampled_from([None, None, "SIGTERM", "INT", "10", "SIGKILL"]),
}
HOST = {
    "NetworkMode": st.sampled_from(["none", "none", "none", "host"]),
    "ExtraHosts": maybe(st.lists(st.builds("{}:{}".format, NAMED, ADDRESSES), max_size=2)),
    "Dns": maybe(st.lists(ADDRESSES, max_size=2)),
    "DnsSearch": maybe(st.lists(st.sampled_from(["example.test", "lan", "."]), max_size=2)),
    "DnsOptions": maybe(st.lists(st.sampled_from(["ndots:3", "rotate"]), max_size=2)),
    "ReadonlyRootfs": st.sampled_from([False, False, True]),
    "CapAdd": maybe(st.lists(st.sampled_from(CAPS + MORE_CAPS), max_size=2)),
    "CapDrop": maybe(st.lists(st.sampled_from((*CAPS, "ALL")), max_size=2)),
    # not one twice: dockerd then says that there is no such group
    "GroupAdd": maybe(st.lists(st.sampled_from(["audio", "5", "77"]), max_size=2, unique=True)),
    "Memory": st.sampled_from([0, 0, 16 * MiB, 64 * MiB, 20_000_001]),
    "MemorySwap": st.sampled_from([0, 0, -1, 128 * MiB]),
    "PidsLimit": st.sampled_from([None, 0, -1, 20, 100]),
    "CpuShares": st.sampled_from([0, 0, 2, 512]),
    "ShmSize": st.sampled_from([0, 0, MiB, 65536]),
    "Sysctls": maybe(SYSCTLS),
    "SecurityOpt": st.sampled_from(
        [None, [], ["no-new-privileges"], ["no-new-privileges:false"], ["seccomp=unconfined"]]
    ),
    "Ulimits": maybe(ULIMITS),
    "IpcMode": st.sampled_from(["", "", "private", "shareable", "host"]),
    "LogConfig": st.sampled_from([{}, {"Type": "json-file", "Config": {}}]),
}


@st.composite
def bodies(draw):
    """Draw a request: options left out are left out, as clients do."""
    config = {key: draw(strategy) for key, strategy in draw(some(CONFIG))}
    host = {key: draw(strategy) for key, strategy in draw(some(HOST))}
    host = {"NetworkMode": "none", **host, **draw(mounts())}
    return {**config, **draw(commands()), "HostConfig": host}


def some(options):
    """Draw a few of the options, so that a body stays small enough to be read."""
    return st.lists(st.sampled_from(sorted(options.items(), key=str)), unique_by=lambda o: o[0],
                    max_size=6)  # fmt: skip
