"""What `docker events` shows: the last 256 things that happened, and those that will."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Event = dict[str, Any]
KEPT = 256
WAITING = 1024  # events that a listener may be behind; then it misses some, as Docker's does


class Events:
    """One daemon's events."""

    def __init__(self) -> None:
        self.past: deque[Event] = deque(maxlen=KEPT)
        self.listeners: weakref.WeakSet[asyncio.Queue[Event]] = weakref.WeakSet()

    def publish(self, kind: str, action: str, actor: str, attributes: dict[str, str]) -> None:
        """Tell everyone that `action` happened to `actor`, an id, of the type `kind`."""
        moment = time.time_ns()
        event: Event = {
            "status": action,
            "id": actor,
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": attributes},
            "scope": "local",
            "time": moment // 10**9,
            "timeNano": moment,
        }
        if "image" in attributes and kind == "container":
            event["from"] = attributes["image"]
        self.past.append(event)
        for listener in self.listeners:
            if not listener.full():
                listener.put_nowait(event)

    def subscribe(
        self, since: float | None, until: float | None, filters: dict[str, list[str]]
    ) -> AsyncIterator[Event]:
        """Return the events from `since` (Unix seconds) to `until`, past ones first.

        From this call on none is missed, however late the first is asked for.
        """
        queue: asyncio.Queue[Event] = asyncio.Queue(WAITING)
        if since is not None:
            for event in self.past:
                if event["timeNano"] >= since * 1e9:
                    queue.put_nowait(event)
        self.listeners.add(queue)
        return follow(queue, until, filters)


async def follow(
    queue: asyncio.Queue[Event], until: float | None, filters: dict[str, list[str]]
) -> AsyncIterator[Event]:
    """Yield what comes into the queue until the clock shows `until`."""
    while True:
        try:
            left = None if until is None else max(until - time.time(), 0)
            event = (
                queue.get_nowait()
                if not queue.empty()
                else await asyncio.wait_for(queue.get(), left)
            )
        except TimeoutError:
            return
        if until is not None and event["timeNano"] > until * 1e9:
            return
        if matches(event, filters):
            yield event


def matches(event: Event, filters: dict[str, list[str]]) -> bool:
    """Say whether an event passes: one of the values of every filter fits."""
    attributes = event["Actor"]["Attributes"]
    for key, values in filters.items():
        if key in ("type", "event"):
            seen = event["Type"] if key == "type" else event["Action"]
            fits = seen in values
        elif key in ("container", "image"):
            names = (event["id"], attributes.get("name"), attributes.get("image"))
            relevant = event["Type"] == key or key == "image"
            fits = relevant and any(v in names or event["id"].startswith(v) for v in values)
        elif key == "label":
            pairs = {name: f"{name}={value}" for name, value in attributes.items()}
            fits = all(v in pairs or v in pairs.values() for v in values)
        else:
            fits = False
        if not fits:
            return False
    return True
