"""Killed at any point: `delete --force` leaves nothing, and no command answers with a traceback.

The kill points are real: a tracer counts the stops of ptrace(2) at each system call of the
runtime, or of its children, and sends SIGKILL at the one drawn. HYPOTHESIS_PROFILE=thorough
takes ten times as many points.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import signal
import time
import traceback
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from startkit import kernel, runtime
from startkit.runtime import cli

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
TRACEME, SYSCALL, SETOPTIONS = 0, 24, 0x4200
SYSGOOD, CHILDREN = 1, 2 | 4 | 8  # PTRACE_O_TRACESYSGOOD; _FORK, _VFORK, _CLONE
CALL_STOP = signal.SIGTRAP | 0x80
WALL = 0x40000000
DEADLINE_S = 3
HOOK = [{"path": "/bin/true"}]


def ptrace(request, pid, data):
    """Steer a tracee; one that was killed meanwhile is no error."""
    kernel.libc.ptrace(request, pid, None, ctypes.c_void_p(data))


def be_runtime(bundle, argv):
    """In a fork: run one command line and never return; a traceback goes to stderr."""
    try:
        os.chdir(bundle.path)
        code = cli.main(["--root", str(bundle.root), *argv])
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        code = 99
    finally:
        os._exit(code)


def follow(bundle, argv, victim, at):
    """Trace a command; kill the runtime, or the child that stops, at stop `at`.

    Returns how many stops the victim had and how the runtime ended.
    """
    first = os.fork()
    if first == 0:
        ptrace(TRACEME, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        be_runtime(bundle, argv)
    os.waitpid(first, 0)
    ptrace(SETOPTIONS, first, SYSGOOD | (CHILDREN if victim == "child" else 0))
    ptrace(SYSCALL, first, 0)
    count = 0
    while True:
        pid, status = os.waitpid(-1, WALL)
        if not os.WIFSTOPPED(status):
            if pid == first:
                return count, os.waitstatus_to_exitcode(status)
            continue
        number = os.WSTOPSIG(status)
        if number == CALL_STOP and (pid == first) == (victim == "runtime"):
            count += 1
            if count == at:
                os.kill(pid, signal.SIGKILL)
                continue
        own = (CALL_STOP, signal.SIGTRAP, signal.SIGSTOP)
        ptrace(SYSCALL, pid, 0 if number in own else number)


class Crashes:
    """A bundle, a way into each command's starting point, and what was left behind."""

    def __init__(self, bundle):
        self.bundle, self.before, self.process = bundle, self.children(), os.getpid()
        (bundle.path / "config.json").write_text(json.dumps(bundle.config))
        self.running = 0

    def call(self, *argv, victim="", at=0):
        """Run a command, perhaps traced; return its (stops, exit code, stderr)."""
        reader, writer = os.pipe()
        with TemporaryFile() as err, TemporaryFile() as out:
            self.running = pid = os.fork()
            if pid == 0:
                try:
                    os.dup2(out.fileno(), 1)
                    os.dup2(err.fileno(), 2)
                    if not victim:
                        be_runtime(self.bundle, argv)
                    os.write(writer, json.dumps(follow(self.bundle, argv, victim, at)).encode())
                finally:
                    os._exit(0)
            self.reap()
            os.close(writer)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self.running = 0
            found = json.loads(os.read(reader, 100)) if victim else (0, code)
            os.close(reader)
            err.seek(0)
            return *found, err.read().decode()

    def children(self):
        """Return the pids of this process's children."""
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return {int(word) for word in text.split()}

    def on_child(self, *_):
        """Reap while a command runs, as a subreaper must: the end of an init waits for it."""
        if self.running and os.getpid() == self.process:
            self.reap()

    def reap(self):
        """Reap orphans that became our children."""
        for pid in self.children() - self.before - {self.running}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def orphans(self):
        """Return the orphans that still live after a while, having killed them."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            self.reap()
            if not self.children() - self.before:
                return []
            time.sleep(0.005)
        left = self.children() - self.before
        names = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in left]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return [f"process {name}" for name in names]

    def left(self):
        """Return the cgroups, state, mounts, temporary files and processes that are left."""
        name = self.bundle.id
        top = Path("/sys/fs/cgroup")
        cgroups = [str(p) for h in top.iterdir() if h.is_dir() for p in h.glob(f"*/{name}")]
        states = os.listdir(self.bundle.root) if self.bundle.root.exists() else []
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        mounts = [line for line in lines if name in line]
        files = [str(p) for p in self.bundle.path.glob("*.new")]
        return cgroups + states + mounts + files + self.orphans()

    def recover(self):
        """Ask, delete by force twice; return what was wrong with the answers, and what is left."""
        wrong = []
        for argv in (("state", self.bundle.id), ("list",), ("list", "-f", "json")):
            _, code, err = self.call(*argv)
            if code not in (0, 1) or err.count("\n") > 1 or code == bool(err == ""):
                wrong.append(f"{argv[0]}: {code} {err}")
        for _ in range(2):
            _, code, err = self.call("delete", "--force", self.bundle.id)
            if (code, err) != (0, ""):
                wrong.append(f"delete: {code} {err}")
        return wrong + self.left()

    def prepare(self, *commands):
        """Bring a container to where a sweep begins."""
        for argv in commands:
            _, code, err = self.call(*argv)
            assert (code, err) == (0, "")


@pytest.fixture
def crashes(bundle):
    """Give the crashes of a bundle with a hook of each kind; all of the runtime is imported."""
    for module in pkgutil.iter_modules(runtime.__path__, "startkit.runtime."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = ("prestart", "createRuntime", "poststart", "poststop")
    bundle.config["hooks"] = dict.fromkeys(kinds, HOOK)
    bundle.config["process"]["args"] = ["sleep", "1000"]
    made = Crashes(bundle)
    old = signal.signal(signal.SIGCHLD, made.on_child)
    yield made
    signal.signal(signal.SIGCHLD, old)


def points(total, wanted):
    """Return stops spread over the whole range, the first and the last among them."""
    wanted = min(total, wanted * (10 if THOROUGH else 1))
    return sorted({1 + index * (total - 1) // max(wanted - 1, 1) for index in range(wanted)})


CREATED = ("create", "--pid-file", "pid", "ID")
SWEEPS = [
    # command line, what goes before, how many points
    (CREATED, (), 25),
    (("run", "--pid-file", "pid", "-d", "ID"), (), 12),
    (("start", "ID"), (CREATED,), 10),
    (("exec", "ID", "true"), (CREATED, ("start", "ID")), 10),
    (("pause", "ID"), (CREATED, ("start", "ID")), 5),
    (("resume", "ID"), (CREATED, ("start", "ID"), ("pause", "ID")), 5),
    (("update", "--memory", "64M", "--pids-limit", "9", "ID"), (CREATED, ("start", "ID")), 5),
    (("delete", "--force", "ID"), (CREATED, ("start", "ID")), 10),
    (("kill", "ID", "KILL"), (CREATED, ("start", "ID")), 5),
]


def named(argv, crashes):
    return tuple(crashes.bundle.id if word == "ID" else word for word in argv)


def sweep(crashes, argv, before, wanted, victim):
    """Kill at each point; return how many there were, and those that left something."""
    argv, before = named(argv, crashes), [named(words, crashes) for words in before]
    crashes.prepare(*before)
    total, _, _ = crashes.call(*argv, victim=victim)
    assert crashes.recover() == []
    leaks, drawn = {}, points(total, wanted)
    for at in drawn:
        crashes.prepare(*before)
        _, code, err = crashes.call(*argv, victim=victim, at=at)
        wrong = [err] if "Traceback" in err or err.count("\n") > 1 else []
        if victim == "child" and code and argv[0] in ("create", "run"):
            wrong += [f"not undone: {thing}" for thing in crashes.left()]
        wrong += crashes.recover()
        if wrong:
            leaks[at] = wrong
    return leaks


@pytest.mark.parametrize(("argv", "before", "wanted"), SWEEPS, ids=[argv[0] for argv, *_ in SWEEPS])
def test_killed_at_any_point_nothing_survives_a_forced_delete(crashes, argv, before, wanted):
    assert sweep(crashes, argv, before, wanted, "runtime") == {}


@pytest.mark.parametrize("index", [0, 1, 3], ids=["create", "run", "exec"])
def test_a_child_killed_at_any_point_is_a_failure_that_leaves_nothing(crashes, index):
    assert sweep(crashes, *SWEEPS[index], "child") == {}


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_dies_with_its_runtime_or_by_force(crashes, kind):
    bundle = crashes.bundle
    fifo = bundle.rootfs / "ready"
    os.mkfifo(fifo)
    script = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {fifo}; exec sleep 1000"]}
    bundle.config["hooks"] = {kind: [script]}
    (bundle.path / "config.json").write_text(json.dumps(bundle.config))
    pid = os.fork()
    if pid == 0:
        be_runtime(bundle, ["create", bundle.id])
    fifo.read_text()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert crashes.recover() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_force_removes_a_container_whose_record_is_torn(crashes, text):
    directory = crashes.bundle.root / crashes.bundle.id
    directory.mkdir(parents=True)
    (directory / "state.json").write_text(text)

    assert crashes.recover() == []


def test_of_many_creates_of_one_id_exactly_one_wins(crashes):
    bundle, pids = crashes.bundle, []
    for _ in range(6):
        pids.append(os.fork())
        if pids[-1] == 0:
            be_runtime(bundle, ["--log", "log", "create", bundle.id])
    crashes.before |= set(pids)
    ends = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)

    assert ends == [0, 1, 1, 1, 1, 1]
    assert (bundle.path / "log").read_text().count("container with given ID already exists") == 5
    assert bundle.state()["status"] == "created"
    assert crashes.recover() == []


@pytest.mark.parametrize(
    "rivals", ["start start", "delete delete", "start delete", "kill delete", "start kill",
               "pause delete"]
)  # fmt: skip
def test_rivals_end_with_success_or_one_clear_line(crashes, rivals):
    words = {"delete": ("delete", "--force", "ID"), "kill": ("kill", "ID", "KILL")}
    for _ in range(5):
        crashes.prepare(named(CREATED, crashes))
        pids = []
        with TemporaryFile() as err:
            for command in rivals.split():
                pids.append(os.fork())
                if pids[-1] == 0:
                    os.dup2(err.fileno(), 2)
                    be_runtime(crashes.bundle, named(words.get(command, (command, "ID")), crashes))
            crashes.before |= set(pids)
            ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            crashes.before -= set(pids)
            err.seek(0)
            said = err.read().decode()
        assert set(ends) <= {0, 1}, said
        assert said.count("\n") == ends.count(1), said
        assert "Error:" not in said
        assert crashes.recover() == []
