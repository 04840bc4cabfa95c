"""What happened to containers: stored in events.log, streamed to whoever listens.

Rule: an event is written before anyone hears of it, one JSON object a line, so a
dockerd that comes back asks from its last event on and misses none.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from startkit.containerd.proto import api_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import IO

KEPT = 500  # containerd's --retain-count


class Line(msgspec.Struct):
    """One line of events.log. `timestamp` is RFC 3339 in UTC, to the nanosecond."""

    type: str
    id: str
    status: int
    pid: str
    timestamp: str


class Events:
    """The log of one containerd. Raises BlockingIOError where another one has it open."""

    def __init__(self, path: Path) -> None:
        self.stored: deque[api_pb2.Event] = deque(maxlen=KEPT)
        self.listeners: set[asyncio.Queue[api_pb2.Event]] = set()
        with locked(path) as old:
            self.load(old)
            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)
            self.log = locked(new)  # open as long as we live
            self.log.write(b"".join(text(stored) for stored in self.stored))
            new.rename(path)

    def load(self, log: IO[bytes]) -> None:
        """Read a log, and keep its newest whole lines only."""
        log.seek(0)
        for line in log.read().splitlines(keepends=True):
            try:
                self.stored.append(event(msgspec.json.decode(line, type=Line)))
            except (msgspec.MsgspecError, ValueError):
                continue  # cut off by a crash

    def last(self, container: str) -> str:
        """Return the type of a container's newest stored event; "" where there is none."""
        return next((e.type for e in reversed(self.stored) if e.id == container), "")

    def publish(self, kind: str, container: str, status: int = 0, pid: str = "") -> None:
        """Store an event that happens now, and tell the listeners."""
        seconds, nanos = divmod(time.time_ns(), 10**9)
        now = Timestamp(seconds=seconds, nanos=nanos)
        new = api_pb2.Event(type=kind, id=container, status=status, pid=pid, timestamp=now)
        self.log.write(text(new))
        self.stored.append(new)
        for listener in self.listeners:
            listener.put_nowait(new)

    async def listen(
        self, since: Timestamp | None, container: str, *, stored_only: bool
    ) -> AsyncIterator[api_pb2.Event]:
        """Yield the stored events from `since` on (without: none), then the live ones.

        `stored_only` takes all stored ones where there is no `since`, and ends.
        """
        queue: asyncio.Queue[api_pb2.Event] = asyncio.Queue()
        for old in self.stored if since or stored_only else ():
            if since is None or at(old.timestamp) >= at(since):
                queue.put_nowait(old)
        self.listeners.add(queue)
        try:
            while not (stored_only and queue.empty()):
                new = await queue.get()
                if container in ("", new.id):
                    yield new
        finally:
            self.listeners.discard(queue)


def locked(path: Path) -> IO[bytes]:
    """Open a log for us alone, unbuffered. Raises BlockingIOError where another one has it."""
    log = open(path, "ab+", buffering=0)  # noqa: SIM115  # its lock goes with it
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.close()
        raise
    return log


def at(timestamp: Timestamp) -> tuple[int, int]:
    """Return a timestamp as something that compares."""
    return timestamp.seconds, timestamp.nanos


def text(event: api_pb2.Event) -> bytes:
    """Return the log's line of an event."""
    when = event.timestamp.ToJsonString()
    return msgspec.json.encode(Line(event.type, event.id, event.status, event.pid, when)) + b"\n"


def event(line: Line) -> api_pb2.Event:
    """Return the event of a line. Raises ValueError for a time that is none."""
    when = Timestamp()
    when.FromJsonString(line.timestamp)
    return api_pb2.Event(
        type=line.type, id=line.id, status=line.status, pid=line.pid, timestamp=when
    )
