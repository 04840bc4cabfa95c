"""Attacks by the container's own program: on the runtime, on its caller, out of its privileges."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from startkit import kernel
from startkit.runtime import init, process, seccomp, trampoline
from startkit.runtime.text import ContainerError

RUNTIME = [sys.executable, "-I", "-m", "startkit.runtime"]
GETEUID = 175 if trampoline.ARM else 107
SESSION_KEYRING = 0xFFFFFFFD  # KEY_SPEC_SESSION_KEYRING, -3


def status(pid):
    """Return a process's status file as {key: words}."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


def test_what_the_program_kills_is_its_own(bundle):
    # A signal to process group 0 reaches a group's members in every pid namespace.
    bundle.config["process"]["args"] = ["sh", "-c", "sh -c 'kill -9 0'; echo survived"]
    bundle.call("list")  # writes config.json
    command = [*RUNTIME, "--root", bundle.root, "run", "-b", bundle.path, bundle.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          start_new_session=True)  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "survived\n")


@pytest.mark.parametrize("command", ["exec", "create"])
@pytest.mark.parametrize("way", ["/proc/self/fd/{}", "/proc/self/fd/{}/..", "/link"])
def test_a_descriptor_of_the_caller_is_no_working_directory(bundle, command, way):
    # CVE-2024-21626, by a descriptor that whoever called the runtime left open.
    host = os.open("/usr/bin", os.O_RDONLY)
    (bundle.rootfs / "link").symlink_to(f"/proc/self/fd/{host}")
    cwd = way.format(host)
    if command == "exec":
        bundle.create("sleep", "100")
        bundle.call("start", bundle.id)
        words = ["exec", "--cwd", cwd, "--preserve-fds", str(host), bundle.id, "pwd"]
    else:
        bundle.config["process"]["cwd"] = cwd
        words = ["create", "--preserve-fds", str(host), "-b", str(bundle.path), bundle.id]
    done = bundle.call(*words, keep=(host,))
    os.close(host)

    assert done.returncode in (1, 255)
    assert "too many levels of symbolic links" in done.stderr


def test_a_twin_of_the_working_directory_outside_of_the_root_is_noticed(tmp_path):
    # The same directory by the host's mount of it: a search for its name would end at our root.
    pid = os.fork()
    if pid == 0:
        (tmp_path / "root").mkdir()
        (tmp_path / "twin/in").mkdir(parents=True)
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, "/", None, kernel.MS_PRIVATE | kernel.MS_REC)
        kernel.mount(tmp_path / "twin", tmp_path / "root", None, kernel.MS_BIND)
        os.chdir(tmp_path / "twin/in")
        os.chroot(tmp_path / "root")
        try:
            process.enter_cwd(".")
        except ContainerError as error:
            os._exit(7 if "it lies outside of the container" in str(error) else 1)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_the_users_home_is_not_read_through_a_descriptor_of_the_runtime(bundle, tmp_path):
    (tmp_path / "host").write_text("root:x:0:0::/leaked:\n")
    (bundle.rootfs / "etc/passwd").unlink()
    (bundle.rootfs / "etc/passwd").symlink_to("/proc/self/fd/7")
    bundle.config["process"]["args"] = ["sh", "-c", "echo $HOME > /tmp/home"]
    opened = lambda _: os.dup2(os.open(tmp_path / "host", os.O_RDONLY), 7)  # noqa: E731

    assert bundle.create_with_step("fill-dev", opened) == 0
    bundle.call("start", bundle.id)
    bundle.wait()
    assert (bundle.rootfs / "tmp/home").read_text() == "/\n"


def result_of(bundle, code, mode=0o755, flags=()):
    """Run a program that makes one system call by `code`, and return its result."""
    tell = trampoline.call(trampoline.WRITE, 1, trampoline.STACK, 8)
    body = code + trampoline.KEEP + tell
    program = bundle.rootfs / "program"
    program.write_bytes(trampoline.elf(body + trampoline.call(trampoline.EXIT_GROUP, 0)))
    program.chmod(mode)
    bundle.config["process"]["args"] = ["/program"]
    bundle.call("list")  # writes config.json
    command = [*RUNTIME, "--root", bundle.root, "run", *flags, "-b", bundle.path, bundle.id]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return struct.unpack("=q", done.stdout)[0]


def test_the_session_keyring_is_the_containers_and_not_the_callers(bundle):
    ask = trampoline.call(init.SYS_KEYCTL, 0, SESSION_KEYRING, 0)
    callers = kernel.libc.syscall(init.SYS_KEYCTL, 0, -3, 0)

    assert result_of(bundle, ask, flags=("--no-new-keyring",)) == callers
    assert result_of(bundle, ask) not in (callers, -1)


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.EDQUOT, "unable to join session keyring: disk quota exceeded"), (errno.ENOSYS, "")],
)
def test_a_callers_keyring_that_cannot_be_left_is_an_error(bundle, code, words):
    refuse = {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": code}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse]}

    done = bundle.create_in_child(lambda: seccomp.compile_profile(profile).load())
    assert done == (1 if words else 0)
    assert not words or words in (bundle.path / "log").read_text()


def test_a_device_that_is_not_allowed_cannot_be_opened_though_its_node_can_be_made(bundle):
    script = "cd /tmp; mknod no c 10 229; mknod yes c 1 5; (: < yes) && (: < no) || echo over"
    bundle.config["process"]["args"] = ["sh", "-c", script]
    refused = bundle.run()
    devices = bundle.config["linux"]["resources"]["devices"]
    devices.append({"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"})
    for name in ("no", "yes"):
        (bundle.rootfs / "tmp" / name).unlink()
    allowed = bundle.run()

    assert (refused.stdout, "can't open no: Operation not permitted" in refused.stderr) == (
        "over\n", True)  # fmt: skip
    assert (allowed.stdout, allowed.stderr) == ("", "")


def test_groups_of_the_caller_are_dropped(bundle):
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}

    assert bundle.create_in_child(lambda: os.setgroups([0, 4242])) == 0
    assert status(bundle.pids[0])["Groups"] == ["5"]


@pytest.mark.parametrize("kept", [True, False])
def test_no_new_privileges_takes_the_power_of_a_setuid_program(bundle, kept):
    bundle.config["process"] |= {"noNewPrivileges": kept, "user": {"uid": 1000, "gid": 1000}}

    assert result_of(bundle, trampoline.call(GETEUID), mode=0o4755) == (1000 if kept else 0)


@pytest.mark.skipif(trampoline.ARM, reason="the door is x86's")
def test_a_call_by_the_32_bit_door_is_refused_as_well(bundle):
    getpid = bytes.fromhex("b814000000 cd80")  # mov eax,20; int 0x80
    refuse = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}
    assert result_of(bundle, getpid) == 1
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]}  # fmt: skip

    assert result_of(bundle, getpid) == -errno.EXDEV


def test_nobody_else_reaches_what_the_runtime_keeps(bundle):
    bundle.create("sleep", "100")
    tried = [bundle.root / bundle.id / name for name in ("state.json", "exec.fifo")]
    for path in (bundle.path, *list(bundle.path.parents)[:-2]):
        path.chmod(path.stat().st_mode | 0o011)  # pytest's directories are for root alone
    pid = os.fork()
    if pid == 0:
        os.setresuid(1000, 1000, 1000)
        os._exit(sum(1 for path in tried for mode in (os.R_OK, os.W_OK) if os.access(path, mode)))

    assert os.waitpid(pid, 0)[1] == 0
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (bundle.root, tried[0])]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize(
    ("kind", "setting", "rule"),
    [
        ("network", {"net.ipv4.ip_default_ttl": "64"}, "needs a network namespace of its own"),
        ("ipc", {"kernel.msgmni": "32000"}, "needs an ipc namespace of its own"),
        ("uts", {}, "/hostname: needs a uts namespace of its own"),
    ],
)
def test_a_setting_of_a_joined_namespace_that_is_the_hosts_is_refused(bundle, kind, setting, rule):
    bundle.config["hostname"] = os.uname().nodename  # all values are those that the host has
    bundle.config["linux"]["sysctl"] = setting
    for entry in bundle.config["linux"]["namespaces"]:
        if entry["type"] == kind:
            entry["path"] = f"/proc/{os.getpid()}/ns/{kind[:3]}"
    done = bundle.run("true")

    assert (done.returncode, rule in done.stderr) == (1, True)


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer", "poststop"])
def test_a_hook_has_no_descriptor_but_its_stdio(bundle, kind):
    place = bundle.rootfs / "tmp" if kind == "startContainer" else bundle.path
    inside = "/tmp" if kind == "startContainer" else place
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"ls /proc/self/fd > {inside}/seen"]}
    bundle.config["hooks"] = {kind: [hook]}
    bundle.config["process"]["args"] = ["true"]
    with open("/etc/hostname") as inherited:
        keep = inherited.fileno()
        bundle.call("run", "--preserve-fds", str(keep), "-b", str(bundle.path), bundle.id,
                    keep=(keep,))  # fmt: skip

    assert (place / "seen").read_text().split() == ["0", "1", "2", "3"]  # 3: the directory


@pytest.mark.parametrize(
    ("flags", "seen"), [((), "0 1 2 3"), (("--preserve-fds", "20"), "0 1 2 3 4")]
)
def test_of_descriptors_nothing_but_the_callers_preserved_ones_goes_in(bundle, flags, seen):
    # Systemd's LISTEN_FDS is no wish of the caller; 20 are more than there are, ours among them.
    bundle.config["process"]["args"] = ["sh", "-c", "echo $LISTEN_FDS $(ls /proc/self/fd)"]
    bundle.call("list")  # writes config.json
    command = [*RUNTIME, "--root", bundle.root, "run", *flags, "-b", bundle.path, bundle.id]
    script = 'exec "$@" 3< /etc/hostname'
    done = subprocess.run(["sh", "-c", script, "sh", *command], capture_output=True, text=True,
                          env={**os.environ, "LISTEN_FDS": "1"}, check=False)  # fmt: skip

    assert (done.stdout, done.stderr) == (f"{seen}\n", "")


@pytest.mark.parametrize("flags", [(), ("--no-pivot",)])
def test_a_user_namespace_inside_mounts_no_unmasked_proc(bundle, flags):
    (bundle.rootfs / "bin/unshare").symlink_to("busybox")
    script = "unshare -Urmpf mount -t proc proc /tmp || unshare -Urmpf mount -t sysfs sysfs /tmp"
    bundle.config["process"]["args"] = ["sh", "-c", f"{script} || echo refused"]
    done = bundle.call("run", *flags, "-b", str(bundle.path), bundle.id)

    assert (done.returncode, done.stdout) == (0, "refused\n")
    assert done.stderr.count("mount: permission denied") == 2


def test_what_root_of_a_user_namespace_mounts_on_a_bind_stays_inside(bundle):
    source = bundle.path / "shared"
    source.mkdir()
    kernel.mount("tmpfs", source, "tmpfs")
    try:
        kernel.mount(None, source, None, kernel.MS_SHARED)
        (source / "in").mkdir()
        with bundle.user_namespace() as place:
            (place / "rootfs/srv").mkdir()
            bind = {"destination": "/srv", "source": str(source), "options": ["bind"]}
            bundle.config["mounts"].append(bind)
            for kind in ("bounding", "effective", "permitted"):
                bundle.config["process"]["capabilities"][kind] = ["CAP_SYS_ADMIN"]
            assert bundle.shell("mount -t tmpfs x /srv/in && echo mounted") == "mounted\n"
        assert not os.path.ismount(source / "in")
    finally:
        kernel.umount(source, kernel.MNT_DETACH)
