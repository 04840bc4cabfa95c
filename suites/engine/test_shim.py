"""The shim alone, started as containerd starts it: a state directory, FIFOs, a runtime."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from startkit.containerd import shims
from startkit.containerd.state import Process, State, StateDirectory
from startkit.shim.shim import END, GRACE_MS, START


def installed(name):
    """Return a parameter: a runtime's path, or the reason to skip."""
    path = shutil.which(name, path="/usr/sbin:/usr/bin")
    return pytest.param(path, id=name, marks=pytest.mark.skipif(not path, reason=f"no {name}"))


RUNTIMES = ["docker-runc", installed("runc")]
BUSYBOX = shutil.which("busybox")
LIMIT_S = float(os.environ.get("SHIM_LIMIT", "20"))
ROOT = Path(__file__).parents[2]
PTS = ["newinstance", "ptmxmode=0666", "mode=0620"]

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not BUSYBOX, reason="needs root and busybox-static"
)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory):
    root = tmp_path_factory.mktemp("shim-rootfs")
    for name in ("bin", "dev", "proc", "etc", "tmp"):
        (root / name).mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "cat", "sleep", "echo", "stty", "head", "ls", "tr", "wc", "sha256sum"):
        (root / "bin" / name).symlink_to("busybox")
    return root


def config(rootfs, identity, script, *, terminal=False, pid=True, args=None):
    namespaces = [{"type": kind} for kind in ("mount", "uts", "ipc", "network")]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": PTS},
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": args or ["sh", "-c", script],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
        },
        "root": {"path": str(rootfs)},
        "hostname": "shim",
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces + ([{"type": "pid"}] if pid else []),
            "cgroupsPath": f"/startkit-{identity[:12]}",
        },
    }


class Started:
    """A shim and the ends that dockerd would hold."""

    def __init__(
        self, base, rootfs, script, *, runtime="docker-runc", fifos=(), spoil=None, **options
    ):
        self.id = secrets.token_hex(32)
        self.bundle = base / self.id
        self.bundle.mkdir()
        self.terminal = options.get("terminal", False)
        document = config(rootfs, self.id, script, **options)
        (self.bundle / "config.json").write_text(json.dumps(document))
        names = fifos or (("stdin", "stdout") + (() if self.terminal else ("stderr",)))
        paths = {name: str(self.bundle / f"init-{name}") for name in names}
        for path in paths.values():
            os.mkfifo(path, 0o700)
        self.ends = {name: open_end(path, name) for name, path in paths.items()}
        self.directory = StateDirectory(base, "state-" + self.id)
        self.runtime_root = base / "runtime"
        if spoil:
            spoil(self.bundle)
        self.start(runtime, paths)

    def start(self, runtime, paths):
        arguments = ["--root", str(self.runtime_root)]
        everything = {**dict.fromkeys(("stdin", "stdout", "stderr"), ""), **paths}
        self.directory.write(
            State(str(self.bundle)),
            Process(
                self.id,
                str(self.bundle),
                self.terminal,
                runtime=runtime,
                runtime_args=arguments,
                no_pivot_root=False,
                **everything,
            ),
        )
        init = self.directory.init
        self.exit = os.open(init / "exit", os.O_RDONLY | os.O_NONBLOCK)
        self.control = os.open(init / "control", os.O_RDWR | os.O_NONBLOCK)
        self.shim = shims.spawn(init, self.id, str(self.bundle), runtime)
        said = read(self.shim.stdout.fileno())
        self.shim.stdout.close()
        self.report = json.loads(said) if said else {}

    def write(self, content):
        """Write to the container's stdin as far as the FIFO takes it at once."""
        return os.write(self.ends["stdin"], content)

    def read(self, name="stdout", until=None):
        return read(self.ends[name], until)

    def order(self, text):
        os.write(self.control, text)

    def status(self):
        """Wait for the shim's end as containerd does; return what it recorded."""
        read(self.exit)
        assert self.shim.wait(LIMIT_S) == 0
        return self.directory.number("exitStatus")

    def rows(self):
        """Return {fifo: kinds of descriptors}, in the order of their numbers, as lsof shows."""
        kinds = {}
        for fd in sorted(os.listdir(f"/proc/{self.shim.pid}/fd"), key=int):
            target = os.readlink(f"/proc/{self.shim.pid}/fd/{fd}")
            if target.startswith(str(self.bundle)):
                kinds.setdefault(Path(target).name, []).append(kind(self.shim.pid, fd))
        return kinds

    def close(self):
        if self.shim.poll() is None:
            if "pid" in self.report and self.directory.number("exitStatus") is None:
                os.kill(self.report["pid"], signal.SIGKILL)
            shutil.rmtree(self.bundle)  # nobody can read any more: the shim does not wait
            self.shim.wait(LIMIT_S)
        for fd in (*self.ends.values(), self.exit, self.control):
            os.close(fd)


def open_end(path, name):
    guard = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if name != "stdin":
        return guard
    end = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.close(guard)
    return end


def kind(pid, fd):
    flags = int(Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split("flags:")[1].split()[0], 8)
    if flags & os.O_PATH:
        return "handle"
    return ("read", "write")[flags & os.O_ACCMODE]


def read(fd, until=None, limit_s=LIMIT_S):
    """Read up to end of file, or to where `until` has come."""
    said = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while until is None or until not in said:
        assert poll.poll(limit_s * 1000), f"nothing more after {said[-200:]!r}"
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            assert until is None, f"end of file after {said[-200:]!r}"
            break
        said += chunk
    return said


@pytest.fixture
def start(tmp_path, rootfs):
    started = []

    def begin(script, **options):
        started.append(Started(tmp_path, rootfs, script, **options))
        return started[-1]

    yield begin
    for one in started:
        one.close()
    left = tmp_path / "runtime"
    assert not left.exists() or not list(left.iterdir())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bytes_go_to_the_container_and_come_back(start, runtime):
    one = start("cat; echo oops >&2; exit 7", runtime=runtime)
    one.write(b"hello\n")
    one.order(b"0 0 0\n")
    assert one.read("stderr", b"\n") == b"oops\n"
    at_once = GRACE_MS / 2000  # no end is left open that the shim would have to give up
    assert read(one.ends["stdout"], limit_s=at_once) == b"hello\n"
    assert one.status() == 7


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_terminal_has_one_output_and_echoes(start, runtime):
    one = start("read a; echo got $a; tty >&2", terminal=True, runtime=runtime)
    one.write(b"x\n")
    assert one.read() == b"x\r\ngot x\r\n/dev/pts/0\r\n"
    assert one.status() == 0


def test_five_megabytes_reach_a_slow_reader_whole(start):
    one = start("head -c 5000000 /dev/urandom >/tmp/f; sha256sum /tmp/f >&2; cat /tmp/f")
    told = one.read("stderr", b"/tmp/f\n").split()[0].decode()
    got = b"".join(iter(lambda: next_bytes(one.ends["stdout"], 5000), b""))
    assert (len(got), hashlib.sha256(got).hexdigest()) == (5_000_000, told)


def next_bytes(fd, most):
    """Read what is there, `most` bytes at a time: the writer finds the pipe half full."""
    assert select.select([fd], [], [], LIMIT_S)[0]
    return os.read(fd, most)


def test_stdin_closes_after_the_bytes_before_it(start):
    one = start("sleep 0.2; wc -c")
    sent = one.write(b"x" * 65536)
    one.order(b"0 0 0\n")
    assert one.read() == f"{sent}\n".encode()


def test_an_order_in_two_pieces_is_one_order(start):
    one = start("cat; echo end")
    one.order(b"0 ")
    one.order(b"0 0\nnonsense\n")
    assert one.read() == b"end\n"
    assert one.status() == 0
    assert "nonsense" in (one.directory.init / "shim-log.json").read_text()


def test_an_end_of_file_is_typed_on_a_terminal(start):
    one = start("cat; echo end", terminal=True)
    one.order(b"0 0 0\n")
    assert one.read() == b"end\r\n"


def test_a_terminal_changes_its_size(start):
    one = start(
        "trap 'stty size; exit 3' WINCH; echo ready; while :; do read a; done", terminal=True
    )
    one.read(until=b"ready")
    one.order(b"1 77 33\n")
    one.write(b"\n")
    one.read(until=b"33 77\r\n")
    assert one.status() == 3


FOUR = ["handle", "write", "handle", "read"]


@pytest.mark.parametrize(
    ("terminal", "fifos"),
    [
        (True, ("stdin", "stdout")),
        (False, ("stdin", "stdout", "stderr")),
        (False, ("stdout", "stderr")),
    ],
)
def test_the_shim_holds_four_descriptors_of_each_fifo(start, terminal, fifos):
    one = start("sleep 100", terminal=terminal, fifos=fifos)
    assert one.rows() == {f"init-{name}": FOUR for name in fifos}


def test_output_waits_for_a_reader_that_comes_back(start):
    one = start("cat; echo last words")
    os.close(one.ends["stdout"])
    one.write(b"while nobody reads\n")
    one.order(b"0 0 0\n")
    wait_for(one.directory.init / "exitStatus")
    assert one.shim.poll() is None
    one.ends["stdout"] = open_end(one.bundle / "init-stdout", "stdout")
    assert one.read() == b"while nobody reads\nlast words\n"
    assert one.status() == 0


def test_an_order_after_the_end_costs_no_last_words(start):
    one = start("read line; head -c 10000 /dev/zero")
    fcntl.fcntl(one.ends["stdout"], fcntl.F_SETPIPE_SZ, 4096)  # the rest waits in the shim
    one.write(b"x\n")
    wait_for(one.directory.init / "exitStatus")
    one.order(b"0 0 0\n")
    assert len(one.read()) == 10_000


def wait_for(path):
    """Wait until a file is there: inotify has no place in the standard library."""
    limit = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < limit, path
        time.sleep(0.01)


def test_a_shim_whose_fifos_are_removed_does_not_wait(start):
    one = start("echo nobody will read this")
    wait_for(one.directory.init / "exitStatus")
    shutil.rmtree(one.bundle)
    assert one.shim.wait(LIMIT_S) == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_container_inherits_nothing_of_the_shim(start, runtime):
    one = start("ls /proc/self/fd", runtime=runtime)
    assert one.read().split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory ls reads


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_signals_are_as_a_fresh_program_expects(start, runtime):
    one = start("", args=["cat", "/proc/self/status"], runtime=runtime)
    status = one.read().decode()
    assert ignored_signals(status) == 0
    assert "SigBlk:\t0000000000000000\n" in status


def ignored_signals(status):
    """Return SigIgn of a /proc/PID/status without 32 and 33, which glibc's posix_spawn ignores."""
    return int(status.split("SigIgn:")[1].split()[0], 16) & ~(3 << 31)


def test_a_runtime_gets_the_default_signals_whatever_dockerd_ignores(start, tmp_path):
    program = tmp_path / "runtime.sh"
    program.write_text(f"#!/bin/sh\ncat /proc/self/status >{tmp_path}/status; exit 1\n")
    program.chmod(0o700)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    start("", runtime=str(program))
    signal.signal(signal.SIGHUP, before)
    assert ignored_signals((tmp_path / "status").read_text()) == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_without_a_pid_namespace_the_rest_is_killed(start, runtime):
    one = start("sleep 1000 & echo $!; read a; exit 4", pid=False, runtime=runtime)
    end = os.pidfd_open(int(one.read(until=b"\n")))
    one.write(b"\n")
    assert select.select([end], [], [], GRACE_MS / 2000)[0], "killed, not left until delete"
    assert one.status() == 4
    os.close(end)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_program_is_reported_and_undone(start, runtime):
    one = start("", args=["nope"], runtime=runtime)
    assert one.report["error"].startswith("oci runtime error: ")
    assert 'exec: "nope": executable file not found in $PATH' in one.report["error"]
    assert one.shim.wait(LIMIT_S) == 1


def test_a_missing_runtime_is_reported(start):
    one = start("", runtime="/no/such/runc")
    assert one.report["error"].startswith("shim error: ")
    assert "/no/such/runc" in one.report["error"]


def test_something_else_than_a_fifo_is_refused(start):
    one = start("", spoil=lambda bundle: replace_by_file(bundle / "init-stdout"))
    assert one.report == {"error": f"shim error: {one.bundle}/init-stdout is not a FIFO"}


def replace_by_file(path):
    path.unlink()
    path.touch()


def test_the_steps_have_their_names():
    names = "read-process become-subreaper open-exit open-control open-fifos create start report"
    assert [step.name for step in START] == names.split()
    names = "write-exit-status kill-rest drain close-fifos delete"
    assert [step.name for step in END] == names.split()
    assert all(step.says for step in START + END)


def test_a_shim_imports_no_slow_module():
    code = "import sys; sys.path[:0] = sys.argv[1:]; import startkit.shim.shim; print(*sys.modules)"
    ran = subprocess.run(
        [shims.PYTHON, "-I", "-S", "-c", code, ROOT], capture_output=True, text=True, check=True
    )
    slow = {"re", "enum", "typing", "json", "signal", "socket", "subprocess", "collections"}
    assert slow & set(ran.stdout.split()) == set()
