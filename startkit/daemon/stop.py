"""The way back: signals, and what is undone when a container has ended.

Rule: a container ends in one place, `finish`, whoever ended it; the start's steps are
undone there, the last one first.
Source: era.md sections 3, 5 and 7.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from startkit import steps
from startkit.daemon import options, store
from startkit.daemon.errors import Conflict, NotModified, ServerError
from startkit.daemon.start import HERE, Start

if TYPE_CHECKING:
    from startkit.daemon.engine import Daemon
    from startkit.daemon.store import Container

GRACE_S = 10  # what `docker stop` waits before SIGKILL
KILL_S = 30.0  # after that an uninterruptible process is the machine's affair


async def finish(daemon: Daemon, container: Container, status: int) -> None:
    """Record that a container has ended with `status`, and undo its start."""
    async with container.lock:
        if not container.running:
            return
        await container.streams.drained()
        steps.undo(HERE, Start(daemon, container))
        state = container.record.state
        state.running, state.paused, state.pid, state.exit_code = False, False, 0, status
        state.finished_at = store.now()
        container.runs += 1
        try:
            container.save_record()
        except OSError as error:
            daemon.warn(f"container {container.id[:12]}: {error}")
    daemon.publish(container, "die", exitCode=str(status))
    container.streams.finish()
    await container.announce()
    if container.host.auto_remove:
        daemon.remove_later(container)


async def until_ended(container: Container, seconds: float | None) -> bool:
    """Wait until the container does not run; False where it still does after `seconds`."""
    async with container.changed:
        try:
            ended = container.changed.wait_for(lambda: not container.running)
            await asyncio.wait_for(ended, seconds)
        except TimeoutError:
            return False
    return True


def stop_signal(container: Container) -> int:
    """Return the number of the signal that asks the program to end."""
    return options.signal_number(container.record.config.stop_signal or "SIGTERM")


async def send(daemon: Daemon, container: Container, number: int) -> None:
    """Send a signal to init; what may end it lets a paused one go on, to hear of it.

    That is SIGKILL and the stop signal, and where none was chosen any.
    """
    await daemon.containerd.signal(container, number)
    chosen = container.record.config.stop_signal
    ends = not chosen or number in (signal.SIGKILL, stop_signal(container))
    if container.record.state.paused and ends:
        with contextlib.suppress(ServerError):  # the signal may have ended it before
            await daemon.containerd.pause(container, paused=False)
        container.record.state.paused = False


async def pause(daemon: Daemon, container: Container, *, paused: bool) -> None:
    """Let all processes stand still, or go on. Raises Conflict where they do, ServerError."""
    async with container.lock:
        state = container.record.state
        if not container.running:
            raise Conflict(f"Container {container.id} is not running")
        if state.paused is paused:
            raise Conflict(f"Container {container.id} is {'already' if paused else 'not'} paused")
        await daemon.containerd.pause(container, paused=paused)
        state.paused = paused
        container.save_record()
    daemon.publish(container, "pause" if paused else "unpause")


async def stop(daemon: Daemon, container: Container, timeout: int | None) -> None:
    """Send the stop signal, and SIGKILL after `timeout` seconds (negative: never).

    Raises NotModified where it does not run, ServerError where it survives SIGKILL.
    """
    if not container.running:
        raise NotModified
    container.record.has_been_manually_stopped = True
    graces = (timeout, container.record.config.stop_timeout, GRACE_S)
    seconds = next(s for s in graces if s is not None)
    await send(daemon, container, stop_signal(container))
    if not await until_ended(container, None if seconds < 0 else seconds):
        await send(daemon, container, signal.SIGKILL)
        if not await until_ended(container, KILL_S):
            raise ServerError(f"container {container.id} does not end, not even by SIGKILL")
    daemon.publish(container, "stop")


async def kill(daemon: Daemon, container: Container, word: str | None) -> None:
    """Send a signal, SIGKILL unless told otherwise; after SIGKILL wait for the end.

    Raises BadParameter for an unknown signal, Conflict where the container does not run.
    """
    number = options.signal_number(word or "SIGKILL")
    if not container.running:
        raise Conflict(
            f"Cannot kill container: {container.name}: Container {container.id} is not running"
        )
    await send(daemon, container, number)
    daemon.publish(container, "kill", signal=str(number))
    if number == signal.SIGKILL:
        await until_ended(container, KILL_S)


async def wait(container: Container, condition: str) -> dict[str, object]:
    """Return the exit status once `not-running`, `next-exit` or `removed` holds."""
    runs = container.runs

    def holds() -> bool:
        if condition == "removed":
            return container.removed
        if condition == "next-exit":
            return container.runs > runs or container.removed
        return not container.running

    async with container.changed:
        await container.changed.wait_for(holds)
    state = container.record.state
    # with `removed` the error would be the removal's: why a start failed, start has said
    error = state.error if condition != "removed" else ""
    return {"StatusCode": state.exit_code, "Error": {"Message": error} if error else None}
