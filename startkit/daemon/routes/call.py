"""One routed request: who serves it, what it said, and how work outlives its client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from startkit.daemon.engine import Daemon
    from startkit.daemon.http import Exchange
    from startkit.daemon.query import Query

T = TypeVar("T")
unfinished: set[asyncio.Task[Any]] = set()


@dataclass(frozen=True)
class Call:
    """A request. `name` is the path's variable part, percent-decoded."""

    daemon: Daemon
    exchange: Exchange
    query: Query
    name: str = ""


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await a change of state that goes on to its end when its client vanishes half-way."""
    task = asyncio.ensure_future(work)
    unfinished.add(task)
    task.add_done_callback(settle)
    return await asyncio.shield(task)


def settle(task: asyncio.Task[Any]) -> None:
    """Forget a task; its error, if nobody is left to be told, is not an error of the loop."""
    unfinished.discard(task)
    if not task.cancelled():
        task.exception()
