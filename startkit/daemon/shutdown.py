"""The daemon's own end: what is under way comes to its end, all stops, containerd last.

Rule: nothing begins any more, and every wait has its bound: a start that hangs, or a
container that does not end, is cut off.
Source: dockerd's shutdown timeout of 15 s, or five more than the longest stop timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from startkit.daemon import cgroup, stop

if TYPE_CHECKING:
    from startkit.daemon.engine import Daemon
    from startkit.daemon.store import Container

AT_LEAST_S, BEYOND_S = 15.0, 5.0
FORCE_S = 3.0  # for what has had its time


def patience(daemon: Daemon) -> float | None:
    """Return how long all may take, in seconds; None for ever: a container has asked for that."""
    asked = [container.record.config.stop_timeout for container in daemon.store]
    graces = [stop.GRACE_S if one is None else one for one in asked]
    return (
        max(AT_LEAST_S, BEYOND_S + max(graces, default=0)) if min(graces, default=0) >= 0 else None
    )


async def end(daemon: Daemon, container: Container, timeout: int | None) -> None:
    """Stop a container, once a start that is under way has come to its end."""
    async with container.lock:
        pass
    if container.running:
        await stop.stop(daemon, container, timeout)


async def stop_all(
    daemon: Daemon, timeout: int | None, seconds: float | None, hurry: asyncio.Event
) -> None:
    """Stop every container, until all have ended, the time is over, or there is a hurry."""
    ends = (end(daemon, container, timeout) for container in daemon.store)
    ended = asyncio.gather(*ends, return_exceptions=True)
    both: list[asyncio.Future[Any]] = [ended, asyncio.create_task(hurry.wait())]
    await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for one in both:
        one.cancel()
    await asyncio.gather(*both, return_exceptions=True)


async def shut_down(daemon: Daemon, hurry: asyncio.Event) -> None:
    """Begin nothing more, stop every container, then containerd."""
    daemon.closing = True
    await stop_all(daemon, None, patience(daemon), hurry)
    await stop_all(daemon, 0, FORCE_S, asyncio.Event())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FORCE_S):
            while rest := daemon.tasks - {daemon.following}:
                await asyncio.wait(rest)  # removals of `--rm`
    for task in list(daemon.tasks):
        task.cancel()
    await asyncio.gather(*daemon.tasks, return_exceptions=True)
    await daemon.containerd.close()  # it undoes the starts that hang
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FORCE_S):
            for container in daemon.store:
                async with container.lock:
                    pass
    cgroup.remove_parents(daemon.config.exec_root)
