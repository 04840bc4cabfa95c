"""exec: whom the second process is, where it stands, what its caller gets to know.

Where runc is installed it is the control: what is asked of ours is asked of it as well.
"""

from __future__ import annotations

import array
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

needs_v1 = pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory").is_dir(), reason="this host has no cgroup v1"
)
WORDS = "unable to start container process: "


@pytest.fixture(params=["startkit-runc", "runc"])
def either(request, bundle, monkeypatch):
    """Start a sleeping container, with ours and with runc."""
    if request.param == "runc":
        runc = shutil.which("runc") or pytest.skip("needs runc")
        monkeypatch.setitem(type(bundle).call.__globals__, "RUNTIME", [runc])
    running(bundle)
    yield bundle
    bundle.close()
    bundle.pids.clear()


@pytest.fixture
def ours(bundle):
    """Start a sleeping container."""
    return running(bundle)


def running(bundle):
    """Start the bundle with a program that stays."""
    bundle.create("sleep", "1000")
    assert bundle.call("start", bundle.id).returncode == 0
    return bundle


def enter(bundle, *argv):
    """Run `exec` with flags, the id in place of ID, and words; return what it printed."""
    done = bundle.call("exec", *(bundle.id if word == "ID" else word for word in argv))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_process_is_in_all_namespaces_of_init(either):
    names = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    script = f"for name in {' '.join(names)}; do readlink /proc/self/ns/$name; done"
    seen = enter(either, "ID", "sh", "-c", script)

    assert seen.split() == [os.readlink(f"/proc/{either.pids[0]}/ns/{name}") for name in names]


def test_the_process_is_in_inits_cgroups(either):
    seen = enter(either, "ID", "cat", "/proc/self/cgroup")

    assert seen == Path(f"/proc/{either.pids[0]}/cgroup").read_text()


@needs_v1
def test_the_process_is_in_a_cgroup_below_inits_on_demand(either):
    memory = Path("/sys/fs/cgroup/memory" + either.config["linux"]["cgroupsPath"])
    (memory / "inner").mkdir()
    seen = enter(either, "--cgroup", "memory:inner", "ID", "cat", "/proc/self/cgroup")
    refused = [
        either.call("exec", "--cgroup", word, either.id, "true")
        for word in ("..", "absent", "memory:absent", "nowhere:/")
    ]

    inside = {line for line in seen.splitlines() if line.endswith("/inner")}
    assert [line.split(":")[1] for line in inside] == ["memory"]
    assert [done.returncode == 0 for done in refused] == [False] * 4
    assert " .. is not a sub cgroup path" in refused[0].stderr
    assert "/absent/cgroup.procs: no such file" in refused[1].stderr
    assert "/absent/cgroup.procs: no such file" in refused[2].stderr
    assert "unknown controller nowhere" in refused[3].stderr


@pytest.mark.parametrize("uid", [0, 42])
def test_root_without_capabilities_enters_a_cwd_of_somebody_else(either, uid):
    home = either.rootfs / "home"
    home.mkdir(exist_ok=True)
    home.chmod(0o700)
    os.chown(home, 42, 42)
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
    wanted = {"cwd": "/home", "args": ["/bin/pwd"], "user": {"uid": uid, "gid": uid}}
    (either.path / "process").write_text(json.dumps({**wanted, "capabilities": sets}))

    assert enter(either, "--process", str(either.path / "process"), "ID") == "/home\n"


def test_the_exit_status_is_the_programs(either):
    exited = either.call("exec", either.id, "sh", "-c", "exit 7")
    killed = either.call("exec", either.id, "sh", "-c", "kill -9 $$")

    assert (exited.returncode, killed.returncode) == (7, 137)


def test_words_that_look_like_flags_are_the_programs(either):
    assert enter(either, "ID", "echo", "-d", "--tty") == "-d --tty\n"


def test_user_groups_cwd_and_environment_are_as_the_flags_say(either):
    flags = ("--user", "1000:1001", "-g", "7", "-g", "8", "--cwd", "/tmp",
             "--env", "A=1", "--env", "B=2")  # fmt: skip
    seen = enter(either, *flags, "ID", "sh", "-c", "id -u; id -G; pwd; echo $A$B $HOME $PATH")

    assert seen.split("\n") == ["1000", "1001 7 8", "/tmp", "12 /home/ada /usr/bin:/bin", ""]


def status_of(text, key):
    """Return one field of /proc/PID/status."""
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{key}:"))


def test_capabilities_are_the_configs_and_cap_adds_to_them(either):
    init = Path(f"/proc/{either.pids[0]}/status").read_text()
    plain = enter(either, "ID", "cat", "/proc/self/status")
    more = enter(either, "--cap", "CAP_SYS_ADMIN", "ID", "cat", "/proc/self/status")

    for key in ("CapBnd", "CapEff", "CapPrm"):
        assert status_of(plain, key) == status_of(init, key)
        assert int(status_of(more, key), 16) == int(status_of(init, key), 16) | 1 << 21


def test_no_new_privs_is_set_on_demand(either):
    plain = enter(either, "ID", "cat", "/proc/self/status")
    without = enter(either, "--no-new-privs", "ID", "cat", "/proc/self/status")

    assert (status_of(plain, "NoNewPrivs"), status_of(without, "NoNewPrivs")) == ("0", "1")


def test_a_process_file_describes_it_whole(either):
    file = either.path / "process.json"
    user = {"uid": 1000, "gid": 5}
    wanted = {"args": ["sh", "-c", "id -u; pwd; echo $X"], "cwd": "/etc", "user": user}
    file.write_text(json.dumps(wanted | {"env": ["PATH=/bin", "X=y"]}))

    assert enter(either, "--process", str(file), "ID") == "1000\n/etc\ny\n"


def test_only_stdio_and_its_own_descriptors_are_inherited(ours):
    with open("/etc/hostname") as file:
        done = ours.call("exec", ours.id, "ls", "/proc/self/fd", keep=(file.fileno(),))

    assert done.stdout.split() == ["0", "1", "2", "3"]  # 3 is of ls itself


def test_a_detached_process_lives_on_and_its_pid_is_written(either):
    file = either.path / "exec-pid"
    enter(either, "--detach", "--pid-file", str(file), "ID", "sleep", "1001")
    pid = int(file.read_text())
    either.pids.append(pid)

    while not (words := Path(f"/proc/{pid}/cmdline").read_bytes()):
        time.sleep(0.01)  # in the middle of its execve, for which runc does not wait
    assert words == b"sleep\x001001\x00"
    assert int(status_of(Path(f"/proc/{pid}/status").read_text(), "PPid")) == os.getpid()
    either.call("delete", "--force", either.id)
    assert os.waitstatus_to_exitcode(os.waitpid(either.pids.pop(), 0)[1]) == -9
    os.waitpid(either.pids.pop(), 0)


def test_a_terminal_of_the_container_goes_to_the_console_socket(either):
    path = str(either.path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        flags = ("--tty", "--detach", "--console-socket", path)
        enter(either, *flags, "ID", "sh", "-c", "tty; read a")
        connection = listener.accept()[0]
    with connection:
        _, ancillary, _, _ = connection.recvmsg(64, 64)
    (master,) = array.array("i", ancillary[0][2][:4])

    assert os.read(master, 64) == b"/dev/pts/0\r\n"
    os.close(master)
    either.call("delete", "--force", either.id)
    ended = {os.waitpid(-1, 0)[0] for _ in range(2)}
    assert either.pids.pop() in ended


REFUSED = {
    "no program": (["nope"], f'{WORDS}exec: "nope": executable file not found in $PATH'),
    "no file": (["/nope"], f'{WORDS}exec: "/nope": stat /nope: no such file or directory'),
    "no right": (["/etc/passwd"], f'{WORDS}exec: "/etc/passwd": permission denied'),
    "no words": ([], "process args cannot be empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_program_that_cannot_run_is_named_and_the_code_is_255(either, case):
    argv, words = REFUSED[case]
    done = either.call("exec", either.id, *argv)

    assert (done.returncode, done.stderr) == (255, f"exec failed: {words}\n")


@pytest.mark.parametrize("flags", [["--tty", "--detach"], ["--console-socket", "/nope"]])
def test_a_terminal_and_its_taker_must_fit(either, flags):
    done = either.call("exec", *flags, either.id, "true")

    assert done.returncode == 255
    assert "exec failed: cannot" in done.stderr


def test_a_cwd_that_is_absent_is_named(either):
    done = either.call("exec", "--cwd", "/nope", either.id, "true")
    words = f'{WORDS}chdir to cwd ("/nope") set in config.json failed: no such file or directory'

    assert (done.returncode, done.stderr) == (255, f"exec failed: {words}\n")


def test_a_container_that_is_not_there_or_over_takes_nobody_in(either):
    nobody = either.call("exec", "nobody", "true")
    either.call("kill", either.id, "KILL")
    either.wait()
    stopped = either.call("exec", either.id, "true")

    assert (nobody.returncode, nobody.stderr) == (255, "exec failed: container does not exist\n")
    words = "exec failed: cannot exec in a stopped container\n"
    assert (stopped.returncode, stopped.stderr) == (255, words)


def test_a_user_namespace_is_entered_as_its_root(bundle):
    with bundle.user_namespace():
        running(bundle)
        seen = enter(bundle, "ID", "sh", "-c", "id -u; cat /proc/self/uid_map").split()
        bundle.call("delete", "--force", bundle.id)

    assert seen == ["0", "0", "100000", "1000"]


@pytest.mark.parametrize("privileges", [True, False])
def test_the_seccomp_profile_holds_for_who_comes_later(bundle, privileges):
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    bundle.config["process"]["noNewPrivileges"] = privileges
    running(bundle)

    done = bundle.call("exec", bundle.id, "sh", "-c", "mkdir /tmp/x || echo refused")

    assert done.stdout == "refused\n"
