"""Processes that a target leaves: they become our children, and none outlives it.

Rule: only descendants that were not there before are ended; whom another process than
ours has for a parent is somebody else's.

Source: prctl(2), PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from startkit import kernel
from startkit.observe import cgroups, procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

END_S = 10.0  # until killed processes are gone
POLL_S = 0.01


@contextlib.contextmanager
def adopted() -> Iterator[set[int]]:
    """Take over what is orphaned below us; at the end nothing of it runs, nor has a cgroup.

    Gives the children that were there before, for `descendants`.
    """
    before = set(procfs.children(os.getpid()))
    was = kernel.is_subreaper()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield before
    finally:
        end(before)
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, was)


def descendants(before: set[int]) -> list[int]:
    """Return the pids below us, parents first, but for the children `before` and what is theirs."""
    found = [pid for pid in procfs.children(os.getpid()) if pid not in before]
    for pid in found:  # which grows on the way
        found += procfs.children(pid)
    return found


def end(before: set[int]) -> None:
    """Stop and then kill all descendants but `before`: whoever forks without end stands still."""
    places: set[str] = set()
    limit = time.monotonic() + END_S
    stopped: set[int] = set()
    while (found := descendants(before)) and time.monotonic() < limit:
        fresh = set(found) - stopped
        for pid in fresh or found:
            send(pid, signal.SIGSTOP if fresh else signal.SIGKILL)
            places |= own_cgroups(pid) if fresh else set()
        stopped |= fresh
        if not fresh:
            reap(found)
            time.sleep(POLL_S)
    for place in sorted(places, reverse=True):
        with contextlib.suppress(OSError):  # others are in it
            os.rmdir(place)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a descendant that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def reap(pids: list[int]) -> None:
    """Reap those that are our own children by now and have ended."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def own_cgroups(pid: int) -> set[str]:
    """Return the directories of a process's cgroups that are not ours."""
    tops = cgroups.hierarchies()
    ours = procfs.read("/proc/self/cgroup").splitlines()
    found = set()
    for line in procfs.read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        top = tops.get(names.removeprefix("name=") or "unified")
        if top and line not in ours and path != "/":
            found.add(top + path)
    return found
