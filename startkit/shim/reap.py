"""The children of a subreaper, and what they died of.

Rule: the shim is told of deaths by SIGCHLD through a pipe that its loop polls, and
reaps whatever is there: orphans of the container become the shim's children too.
Source: prctl(2) PR_SET_CHILD_SUBREAPER, waitpid(2); era 6.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal without enum
import os

FIXED = (_signal.SIGKILL, _signal.SIGSTOP)
ALL = [number for number in range(1, _signal.SIGSYS + 1) if number not in FIXED]


def watch_children() -> int:
    """Return a descriptor that is readable when a child may have died."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda number, frame: None)
    return read


def reap() -> dict[int, int]:
    """Return the exit codes of all children that have died, by pid. Never blocks."""
    dead: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead
        if not pid:
            return dead
        dead[pid] = exit_code(status)


def wait(pid: int) -> int:
    """Block until one child has died; return its exit code."""
    return exit_code(os.waitpid(pid, 0)[1])


def exit_code(status: int) -> int:
    """Return a wait status as a shell tells it: 128 + N for a death by signal N."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def reset_signals() -> None:
    """Give a forked child the default dispositions: not ours, nor those of who started dockerd."""
    _signal.set_wakeup_fd(-1)
    for number in ALL:
        _signal.signal(number, _signal.SIG_DFL)


def start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot: with the pid, its identity.

    Source: proc(5), /proc/PID/stat field 22.
    """
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return stat.read().rpartition(b")")[2].split()[19].decode()


def is_namespace_init(pid: int) -> bool:
    """Tell whether a process is number 1 of a pid namespace, so that all in it die with it."""
    with open(f"/proc/{pid}/status") as status:
        pids = [line.split() for line in status if line.startswith("NSpid:")]
    return bool(pids) and len(pids[0]) > 2 and pids[0][-1] == "1"
