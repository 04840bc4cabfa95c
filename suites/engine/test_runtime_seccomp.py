"""A seccomp profile is obeyed: seen by calls that the kernel then refuses."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from startkit import kernel
from startkit.runtime import seccomp
from startkit.runtime.text import ContainerError

GETPID, SOCKET, PERSONALITY, NEWER = {
    "x86_64": (39, 41, 135, 9999),
    "aarch64": (172, 198, 92, 9999),
}[os.uname().machine]
# ioctls of a listener, linux/seccomp.h: a notification of 80 bytes, a response of 24
RECEIVE, SEND = 0xC0502100, 0xC0182101
ARCHITECTURES = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


def rule(*names, action="SCMP_ACT_ERRNO", **more):
    return {"names": list(names), "action": action, **more}


def profile(*rules, default="SCMP_ACT_ALLOW", **more):
    return {"defaultAction": default, "syscalls": list(rules), **more}


def answer(wanted, number, *arguments):
    """Make a system call in a child under a profile; return its errno, 0 when it went well."""
    made = seccomp.compile_profile(wanted)
    pid = os.fork()
    if pid == 0:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        made.load()
        result = kernel.libc.syscall(number, *map(ctypes.c_ulong, arguments))
        os._exit(ctypes.get_errno() if result == -1 else 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def agent(tmp_path):
    """Answer the calls of containers with EXDEV, as an agent outside; `agent.seen` is its mail."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "agent"))
    listening.listen()

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                mail, (fd,), _, _ = socket.recv_fds(connection, 65536, 4)
            thread.seen.append(json.loads(mail))
            threading.Thread(target=refuse_calls, args=(fd,)).start()

    thread = threading.Thread(target=serve)
    thread.seen, thread.path = [], str(tmp_path / "agent")
    thread.start()
    yield thread
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def refuse_calls(fd):
    """Answer every call of one listener until its processes are gone."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while not poll.poll()[0][1] & select.POLLHUP:
        call = bytearray(80)
        fcntl.ioctl(fd, RECEIVE, call)
        fcntl.ioctl(fd, SEND, call[:8] + struct.pack("=qiI", 0, -errno.EXDEV, 0))
    os.close(fd)


@pytest.mark.parametrize("privileges", [True, False])
def test_an_agent_answers_the_calls_it_is_asked_about(bundle, agent, privileges):
    bundle.config["process"]["noNewPrivileges"] = privileges
    asking = rule("mkdir", "mkdirat", action="SCMP_ACT_NOTIFY")
    bundle.config["linux"]["seccomp"] = profile(
        asking, listenerPath=agent.path, listenerMetadata="word"
    )
    pid = bundle.create("sh", "-c", "mkdir /tmp/a || sleep 100")
    bundle.call("start", bundle.id)
    done = bundle.call("exec", bundle.id, "mkdir", "/tmp/b")
    init, visitor = agent.seen

    assert "Invalid cross-device link" in done.stderr
    assert bundle.state()["status"] == "running"
    assert (init["fds"], init["metadata"]) == (["seccompFd"], "word")
    assert (init["pid"], init["state"]["status"]) == (pid, "creating")
    assert (visitor["pid"] != pid, visitor["state"]["pid"]) == (True, pid)


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        (["mkdir"], {"listenerPath": "/absent"}, "failed to connect with seccomp agent /absent: "),
        (["mkdir"], {}, "config.json /linux/seccomp/listenerPath: is required"),
        (["write"], {"listenerPath": "/absent"}, "config.json /linux/seccomp/syscalls: "),
    ],
)
def test_an_agent_that_cannot_be_asked_is_told_at_create(bundle, names, more, words):
    asking = rule(*names, action="SCMP_ACT_NOTIFY")
    bundle.config["linux"]["seccomp"] = profile(asking, **more)
    done = bundle.run("true")

    assert (done.returncode, done.stderr[: len(words)]) == (1, words)


@pytest.mark.parametrize("privileges", [True, False])
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_refused_call_fails_in_the_container(bundle, privileges, uid):
    bundle.config["process"] |= {"noNewPrivileges": privileges, "user": {"uid": uid, "gid": uid}}
    bundle.config["linux"]["seccomp"] = profile(
        rule("mkdir", "mkdirat", errnoRet=errno.EXDEV), architectures=ARCHITECTURES
    )
    done = bundle.run("sh", "-c", "mkdir /tmp/x; grep Seccomp: /proc/self/status")

    assert done.stdout == "Seccomp:\t2\n"
    assert "Invalid cross-device link" in done.stderr
    assert not (bundle.rootfs / "tmp/x").exists()


def test_without_new_privileges_the_filter_comes_last(bundle):
    # What the runtime needs on its way from root to the user is refused to the program only.
    calls = rule("setuid", "setresuid", "setgroups", "setresgid", "capset", "prctl", "chdir")
    bundle.config["process"]["noNewPrivileges"] = True
    bundle.config["linux"]["seccomp"] = profile(calls)

    assert bundle.run("sh", "-c", "cd /tmp 2>&- || echo refused").stdout == "refused\n"


@pytest.mark.parametrize("privileges", [True, False])
@pytest.mark.parametrize("runtime", ["startkit-runc", "runc"])
def test_the_profile_of_a_real_dockerd_is_obeyed_as_runc_does(bundle, privileges, runtime):
    # As dockerd 20.10.24 wrote it into a container's config.json.
    text = Path(__file__).with_name("seccomp-dockerd-20.10.json").read_text()
    bundle.config["linux"]["seccomp"] = json.loads(text)
    bundle.config["process"]["noNewPrivileges"] = privileges
    script = "grep Seccomp: /proc/self/status; mount -t tmpfs none /tmp; mkdir /tmp/x && echo made"
    bundle.config["process"]["args"] = ["sh", "-c", script]
    if runtime == "runc":
        if shutil.which("runc") is None:
            pytest.skip("needs runc")
        bundle.call("list")  # writes config.json
        done = subprocess.run(["runc", "--root", bundle.root, "run", "-b", bundle.path, bundle.id],
                              capture_output=True, text=True, check=False)  # fmt: skip
    else:
        done = bundle.run()

    assert (done.returncode, done.stdout) == (0, "Seccomp:\t2\nmade\n")
    assert "Operation not permitted" in done.stderr or "permission denied" in done.stderr


@pytest.mark.parametrize(
    ("wanted", "call", "expected"),
    [
        (profile(rule("getpid")), (GETPID,), errno.EPERM),
        (profile(rule("getpid", errnoRet=7)), (GETPID,), 7),
        (profile(rule("getpid", action="SCMP_ACT_KILL_PROCESS")), (GETPID,), -31),
        (profile(rule("getpid", action="SCMP_ACT_TRAP")), (GETPID,), -31),
        (profile(rule("getpid", action="SCMP_ACT_TRACE")), (GETPID,), errno.ENOSYS),
        (profile(rule("getpid", action="SCMP_ACT_LOG")), (GETPID,), 0),
        (profile(rule("nonsense", "getpid")), (GETPID,), errno.EPERM),
        (profile(rule("getpid"), flags=["SECCOMP_FILTER_FLAG_LOG"]), (GETPID,), errno.EPERM),
        (profile(rule("getpid", "exit_group", action="SCMP_ACT_ALLOW"),
                 default="SCMP_ACT_ERRNO", defaultErrnoRet=5), (1,), 5),
        (profile(rule("exit_group", "renameat2", action="SCMP_ACT_ALLOW"),
                 default="SCMP_ACT_ERRNO", architectures=ARCHITECTURES), (GETPID,), errno.EPERM),
        (profile(rule("exit_group", "renameat2", action="SCMP_ACT_ALLOW"),
                 default="SCMP_ACT_ERRNO", architectures=ARCHITECTURES), (NEWER,), errno.ENOSYS),
    ],
)  # fmt: skip
def test_the_action_is_the_profiles(wanted, call, expected):
    assert answer(wanted, *call) == expected


@pytest.mark.parametrize(
    ("op", "value", "two", "refused"),
    [
        ("NE", 8, 0, (7, 9)), ("LT", 8, 0, (7,)), ("LE", 8, 0, (7, 8)), ("EQ", 8, 0, (8,)),
        ("GE", 8, 0, (8, 9)), ("GT", 8, 0, (9,)), ("MASKED_EQ", 9, 8, (8,)),
    ],
)  # fmt: skip
def test_an_argument_is_compared(op, value, two, refused):
    compared = {"index": 0, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}
    wanted = profile(rule("socket", errnoRet=99, args=[compared]))

    assert tuple(n for n in (7, 8, 9) if answer(wanted, SOCKET, n, 77, 0) == 99) == refused


def test_two_conditions_on_one_argument_are_alternatives_and_on_two_must_both_hold():
    def condition(index, value):
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    either = profile(rule("socket", errnoRet=99, args=[condition(0, 7), condition(0, 9)]))
    both = profile(rule("socket", errnoRet=99, args=[condition(0, 7), condition(1, 77)]))

    assert [answer(either, SOCKET, n, 77, 0) == 99 for n in (7, 8, 9)] == [True, False, True]
    assert [answer(both, SOCKET, 7, n, 0) == 99 for n in (77, 78)] == [True, False]


def test_a_profile_that_allows_everything_needs_no_library(monkeypatch):
    monkeypatch.setattr(seccomp, "LIBRARY", "libabsent.so.9")

    assert seccomp.compile_profile(profile(rule("getpid", action="SCMP_ACT_ALLOW"))) is None
    with pytest.raises(ContainerError, match=r"the profile needs libabsent.so.9, which is not"):
        seccomp.compile_profile(profile(rule("getpid")))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (profile(architectures=["SCMP_ARCH_PDP11"], default="SCMP_ACT_KILL"),
         "/linux/seccomp/architectures/0: SCMP_ARCH_PDP11 is not known"),
        (profile(rule("getpid", action="SCMP_ACT_ASK")), "/linux/seccomp/syscalls/0/action: must"),
        (profile(rule("getpid", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])),
         "/linux/seccomp/syscalls/0/args/0/index: must be"),
        (profile(listenerPath=7), "/linux/seccomp/listenerPath: must be text"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_kept_is_refused_before_anything_is_made(bundle, wanted, words):
    bundle.config["linux"]["seccomp"] = wanted
    done = bundle.run("true")

    assert (done.returncode, f"config.json {words}" in done.stderr) == (1, True)
    assert not bundle.root.exists()
