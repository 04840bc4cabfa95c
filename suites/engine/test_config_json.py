"""config.json from inside: what Docker's own options make of it, without a container."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon import bundle, cgroup, mounts, resources
from startkit.daemon.bundle import environment, namespaces
from startkit.daemon.errors import BadParameter
from startkit.daemon.types import Config, Device, HostConfig, Record, State, Ulimit
from startkit.daemon.users import User

ID = "ab" * 32
DIRECTORY = Path("/d/containers") / ID
ROOT = User(0, 0, [])
NAMES = st.sampled_from(["PATH", "HOSTNAME", "TERM", "A", "B"])
ENV = st.lists(st.tuples(NAMES, st.none() | st.sampled_from(["", "1", "x=y"])), max_size=8)
OWN = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/dev/shm"]
SIX = ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue"]


def container(config=None, **host):
    """Return a created container as far as config.json tells of it."""
    record = Record(
        state=State(), id=ID, created="", path="sleep", args=["100"], image="", name="/calm",
        config=Config(hostname=ID[:12], **(config or {})), driver="overlay2", log_path="",
        mount_id="", shm_path=f"{DIRECTORY}/shm",
    )  # fmt: skip
    return SimpleNamespace(
        id=ID, dir=DIRECTORY, rootfs=Path("/merged"), record=record, host=HostConfig(**host)
    )


def document(config=None, user=ROOT, pids=None, **host):
    return bundle.config(container(config, **host), user, host.get("cgroup_parent", ""), pids or {})


def destinations(**host):
    return [entry["destination"] for entry in document(**host)["mounts"]]


def options_of(destination, **host):
    (found,) = (m for m in document(**host)["mounts"] if m["destination"] == destination)
    return found["options"]


# process


def test_args_are_path_and_arguments():
    assert document()["process"]["args"] == ["sleep", "100"]


def test_env_begins_with_path_host_name_and_with_a_terminal_term():
    env = environment(Config(hostname="h", tty=True))
    assert [word.partition("=")[0] for word in env] == ["PATH", "HOSTNAME", "TERM"]
    assert environment(Config(hostname="h")) == env[:2]


@given(ENV, st.booleans())
def test_a_users_value_takes_the_place_of_dockers_and_a_bare_name_removes_it(given, tty):
    words = [name if value is None else f"{name}={value}" for name, value in given]
    dockers = dict(w.split("=", 1) for w in environment(Config(hostname="h", tty=tty)))
    last = {name: value for name, value in given if name in dockers}
    first = {**dockers, **last}
    own = [(name, value) for name, value in given if name not in dockers]
    env = environment(Config(hostname="h", tty=tty, env=words))
    assert [tuple(word.split("=", 1)) for word in env] == [
        (name, value) for name, value in [*first.items(), *own] if value is not None
    ]


def test_the_host_name_carries_the_domain():
    assert document({"domainname": "lan"})["hostname"] == f"{ID[:12]}.lan"
    assert document()["hostname"] == ID[:12]
    assert "hostname" not in document(uts_mode="host")


def test_root_has_its_capabilities_in_force_and_others_may_only_gain_them():
    root, other = (document(user=User(n, 0, []))["process"]["capabilities"] for n in (0, 7))
    assert root["effective"] == root["permitted"] == root["bounding"] == other["bounding"]
    assert other["effective"] == other["permitted"] == []


def test_supplementary_groups_are_named_only_where_there_are_some():
    assert document()["process"]["user"] == {"uid": 0, "gid": 0}
    assert document(user=User(1, 2, [3]))["process"]["user"]["additionalGids"] == [3]


def test_no_limit_is_the_largest_number():
    limits = [Ulimit(name="core", soft=-1, hard=-1), Ulimit(name="nofile", soft=1, hard=2)]
    assert document(ulimits=limits)["process"]["rlimits"] == [
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1},
        {"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1},
    ]


# mounts


def test_the_six_defaults_come_first_and_the_daemons_binds_last():
    assert destinations() == SIX + OWN


def test_a_read_only_root_has_read_only_binds_but_a_writable_shm():
    assert options_of("/etc/hosts", readonly_rootfs=True) == ["rbind", "ro", "rprivate"]
    assert options_of("/dev/shm", readonly_rootfs=True) == ["rbind", "rprivate"]
    assert document(readonly_rootfs=True)["root"] == {"path": "/merged", "readonly": True}


def test_deep_mounts_come_after_shallow_ones_and_volumes_before_the_daemons(tmp_path):
    binds = [f"{tmp_path}:{target}" for target in ("/a/b/c", "/etc/x", "/b", "/a")]
    assert destinations(binds=binds)[6:] == ["/b", "/a", "/etc/x", *OWN, "/a/b/c"]


@given(st.lists(st.sampled_from(["/a", "/a/b", "/b", "/etc", "/dev", "/proc/x", "/dev/shm"]),
                unique=True))  # fmt: skip
def test_no_mount_hides_one_made_before_it(targets):
    made = destinations(tmpfs=dict.fromkeys(targets, ""))
    assert len(made) == len(set(made))
    for place, target in enumerate(made):
        assert not any(t.startswith(target.rstrip("/") + "/") for t in made[:place])


@given(st.permutations(["/a", "/b", "/a/b", "/etc/x", "/x/y/z"]), st.integers(0, 5))
def test_volumes_come_before_dockers_files_and_tmpfs_after_each_depth_for_itself(targets, split):
    volumes, tmpfs = targets[:split], targets[split:]
    made = destinations(binds=[f"/:{t}" for t in volumes], tmpfs=dict.fromkeys(tmpfs, ""))
    assert made == SIX + [
        target
        for depth in (1, 2, 3)
        for target in (*volumes, *OWN, *tmpfs)
        if target.count("/") == depth
    ]


@given(st.lists(st.sampled_from([*mounts.TMPFS_FLAGS, "size=1m", "size=2m", "mode=700", ""])))
def test_tmpfs_options_answer_each_question_once_and_stay_as_they_are(words):
    made = mounts.tmpfs_words(words)
    questions = [mounts.TMPFS_FLAGS.get(word, word.partition("=")[0]) for word in made]
    assert len(questions) == len(set(questions))
    assert mounts.tmpfs_words(made) == made


@pytest.mark.parametrize("target", [*SIX, *OWN])
def test_a_users_mount_replaces_the_one_at_its_place(tmp_path, target):
    found = [
        m for m in document(binds=[f"{tmp_path}:{target}"])["mounts"] if m["destination"] == target
    ]
    assert [entry["source"] for entry in found] == [str(tmp_path)]


def test_a_users_mount_on_dev_drops_the_defaults_below_it():
    assert destinations(binds=["/dev:/dev"]) == ["/proc", "/sys", "/sys/fs/cgroup", "/dev", *OWN]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("", ["rbind", "rprivate"]),
        (":ro", ["rbind", "ro", "rprivate"]),
        (":private", ["rbind", "private"]),
    ],
)
def test_a_bind_says_how_it_is_mounted(tmp_path, mode, expected):
    assert options_of("/b", binds=[f"{tmp_path}:/b{mode}"]) == expected


def test_a_source_that_is_absent_is_made(tmp_path):
    document(binds=[f"{tmp_path}/new/one:/b"])
    assert (tmp_path / "new/one").is_dir()


def test_a_shared_bind_of_a_private_mount_is_refused():
    with pytest.raises(
        BadParameter, match=r"path /proc is mounted on /proc but it is not a shared"
    ):
        mounts.require_propagation("/proc", "shared")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "noexec nosuid nodev rprivate"),
        ("size=1m,ro,exec", "nosuid nodev rprivate size=1m ro exec"),
        ("noexec,size=1m,size=2m,mode=700", "nosuid nodev rprivate noexec size=2m mode=700"),
        ("rshared", "noexec nosuid nodev rshared"),
    ],
)
def test_of_two_tmpfs_options_that_contradict_the_last_one_stays(text, expected):
    assert options_of("/t", tmpfs={"/t": text}) == expected.split()


@pytest.mark.parametrize("word", ["foo", "foo=bar", "size", "ro=1", "bind"])
def test_an_option_that_no_tmpfs_has_is_refused(word):
    with pytest.raises(BadParameter, match="invalid tmpfs option"):
        mounts.tmpfs(HostConfig(tmpfs={"/t": word}))


# linux


def test_namespaces_are_dockers_five_in_order():
    assert namespaces(HostConfig(), {}) == [
        {"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc")
    ]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("network", "network_mode"), ("uts", "uts_mode"), ("pid", "pid_mode"), ("ipc", "ipc_mode")],
)
def test_a_namespace_shared_with_the_machine_is_absent(kind, mode):
    made = [entry["type"] for entry in namespaces(HostConfig(**{mode: "host"}), {})]
    assert kind not in made
    assert len(made) == 4


def test_a_namespace_of_another_container_is_that_of_its_init():
    made = namespaces(HostConfig(pid_mode="container:x"), {"container:x": 42})
    assert {"type": "pid", "path": "/proc/42/ns/pid"} in made


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        ("", f"/docker/{ID}"), ("/a/b", f"/a/b/{ID}"), ("a", f"/a/{ID}"), ("//a", f"/a/{ID}"),
        ("/", f"/{ID}"), ("../..", f"/{ID}"), ("a/../../../b", f"/b/{ID}"), ("/../a", f"/a/{ID}"),
    ],
)  # fmt: skip
def test_a_cgroups_path_is_the_id_below_the_parent(parent, expected):
    assert document(cgroup_parent=parent)["linux"]["cgroupsPath"] == expected


@given(st.text("/.a", max_size=20))
def test_no_parent_leads_out_of_the_hierarchy(parent):
    path = cgroup.path_of(ID, parent)
    assert path.startswith("/")
    assert not path.startswith("//")
    assert ".." not in path.split("/")
    assert os.path.normpath(path) == path
    assert path.endswith(f"/{ID}")


def test_a_privileged_container_has_no_paths_masked_and_a_writable_sys():
    linux = document(privileged=True)["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    for place in ("/sys", "/sys/fs/cgroup"):
        assert "ro" in options_of(place)
        assert "ro" not in options_of(place, privileged=True, readonly_rootfs=True)


def test_the_devices_of_a_privileged_container_are_nodes_and_no_symlinks():
    paths = [entry["path"] for entry in document(privileged=True)["linux"]["devices"]]
    assert "/dev/null" in paths
    assert not any(os.path.islink(path) for path in paths)
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in paths)


def test_a_device_is_made_and_allowed_with_its_permissions():
    null = Device(path_on_host="/dev/null", path_in_container="/dev/foo", cgroup_permissions="r")
    linux = document(devices=[null])["linux"]
    (node,) = linux["devices"]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/foo", "c", 1, 3)
    assert linux["resources"]["devices"][-1] == resources.rule(True, "c", 1, 3, "r")


def test_without_devices_there_is_no_list():
    assert "devices" not in document()["linux"]


@pytest.mark.parametrize(
    ("path", "why"), [("/dev/absent", "no such file"), ("/etc/passwd", "not a device node")]
)
def test_what_is_no_device_is_refused(path, why):
    with pytest.raises(BadParameter, match=f'custom device "{path}": {why}'):
        resources.devices(HostConfig(devices=[Device(path_on_host=path)]))


@pytest.mark.parametrize(
    ("host", "group", "expected"),
    [
        ({"memory": 1 << 26}, "memory", {"limit": 1 << 26, "swap": 1 << 27}),
        (
            {"memory": 1 << 26, "memory_swap": 1 << 26},
            "memory",
            {"limit": 1 << 26, "swap": 1 << 26},
        ),
        ({"memory": 1 << 26, "memory_swap": -1}, "memory", {"limit": 1 << 26}),
        ({"memory_reservation": 1 << 26}, "memory", {"reservation": 1 << 26}),
        ({"nano_cpus": 1_500_000_000}, "cpu", {"quota": 150_000, "period": 100_000}),
        ({"cpu_shares": 512, "cpuset_cpus": "0"}, "cpu", {"shares": 512, "cpus": "0"}),
        ({"cpu_quota": -1}, "cpu", {"quota": -1}),
        ({"pids_limit": 33}, "pids", {"limit": 33}),
        ({"pids_limit": -1}, "pids", None),
        ({"pids_limit": 0}, "pids", None),
        ({}, "memory", None),
    ],
)
def test_a_limit_is_written_as_the_kernel_wants_it(host, group, expected):
    assert resources.of(HostConfig(**host)).get(group) == expected
