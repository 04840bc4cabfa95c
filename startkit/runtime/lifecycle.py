"""`start`, `kill` and `delete`: what happens to a container that was created.

Rule: a process is signalled only after its start time has shown that it is the container's
init, and not a later process with the same pid.

Source: OCI runtime.md Operations and Lifecycle, steps 6 to 13.
"""

from __future__ import annotations

import fcntl
import os
import select

from startkit.runtime import signals
from startkit.runtime.text import ContainerError, reason, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from startkit.runtime import state
    from startkit.runtime.text import Log

DEATH_MS = 10_000  # a killed init that lives on longer hangs in the kernel


def start(container: state.Container, log: Log) -> None:
    """Let init go, and return once the user's program runs. Raises ContainerError."""
    status = container.status()
    if status == "stopped":
        raise ContainerError("cannot start a container that has stopped")
    if status != "created":
        raise ContainerError("cannot start an already running container")
    words = open_gate(container)
    if words:
        raise ContainerError(words)
    run_late_hooks(container, "poststart", log)


def open_gate(container: state.Container) -> str:
    """Open the FIFO that init waits for; return what it says about its exec, "" when it did."""
    try:  # one `start` at a time: a second one would wait for ever for a writer
        lock = os.open(container.directory, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fifo = os.open(container.fifo, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, BlockingIOError):
        raise ContainerError("cannot start an already running container") from None
    init = os.pidfd_open(container.pid)
    poll = select.poll()
    poll.register(fifo, select.POLLIN | select.POLLHUP)
    poll.register(init, select.POLLIN)
    said = b""
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if fifo in ready:
            words = os.read(fifo, 65536)
            if not words:  # closed by exec, or by the end of init
                break
            said += words
        elif init in ready:
            said = said or b"init died before it ran the program"
            break
    if os.path.exists(container.fifo):  # not, when deleted by force meanwhile
        os.unlink(container.fifo)
    for fd in (fifo, init, lock):
        os.close(fd)
    return told(said)


def kill(container: state.Container, number: int, *, everyone: bool) -> None:
    """Send a signal to init, or to every process of the container. Raises ContainerError."""
    status = container.status()
    if everyone:
        from startkit.runtime import cgroup

        cgroup.signal_all(container.record["cgroups"], number)
        thaw(container, status, number)
        return
    if status not in ("created", "running", "paused"):
        raise ContainerError("container not running")
    handle = os.pidfd_open(container.pid)
    try:
        if container.is_alive():
            signals.send(handle, number)
        thaw(container, status, number)
    except ProcessLookupError:
        raise ContainerError("container not running") from None
    finally:
        os.close(handle)


def thaw(container: state.Container, status: str, number: int) -> None:
    """Let a paused container die of a SIGKILL: under cgroup v1 it would not, frozen."""
    if status == "paused" and number == signals.KILL:
        from startkit.runtime import freezer

        freezer.freeze(container.record["cgroups"], frozen=False)


def delete(container: state.Container, log: Log, *, force: bool) -> None:
    """Remove everything that `create` made. A running container must be forced.

    A created one is killed, as runc does, though the specification wants an error.
    """
    status = container.status()
    if status in ("running", "paused", "creating") and not force:
        raise ContainerError(
            f"cannot delete container {container.id} that is not stopped: {status}"
        )
    if status in ("created", "running", "paused"):
        end_init(container)
    remove(container, log)


def end_init(container: state.Container) -> None:
    """Kill init and wait until it is gone; its parent is not us, so a zombie is gone enough."""
    try:
        handle = os.pidfd_open(container.pid)
    except ProcessLookupError:
        return
    if container.is_alive():
        signals.send(handle, signals.KILL)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        for _ in range(DEATH_MS // 100):
            thaw(container, container.status(), signals.KILL)  # again: a `pause` may come after
            if poll.poll(100):
                break
        else:
            raise ContainerError(f"init {container.pid} does not die")
    os.close(handle)


def remove(container: state.Container, log: Log) -> None:
    """Remove a stopped container's processes, cgroups and state, then run the poststop hooks."""
    from startkit.runtime import cgroup

    directories = container.record["cgroups"]
    if not container.pid or not container.record.get("ownPids"):
        cgroup.signal_all(directories, signals.KILL)
    try:
        cgroup.remove(directories)
    except OSError as error:
        if not cgroup.processes(directories):
            raise
        log.warning(f"cgroup {reason(error)}: left to other processes in it")
    container.remove()
    run_late_hooks(container, "poststop", log)


def run_late_hooks(container: state.Container, kind: str, log: Log) -> None:
    """Run hooks whose failure is only worth a warning."""
    found = container.record["hooks"][kind]
    if not found:
        return
    from startkit.runtime import hooks

    status = "running" if kind == "poststart" else "stopped"
    for hook in found:
        try:
            hooks.run_hooks(kind, [hook], container.describe(status))
        except ContainerError as error:
            log.warning(str(error))
