"""The json log: what the container has said, a JSON object a line.

Rule: an entry ends where the container's line ends, or after 16 KiB. The file is
only ever appended to, over restarts too.
Source: article, heading on the files inside the container; era.md section 3, json log.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from startkit.daemon.start import Start

ENTRY_BYTES = 16 * 1024
NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


class Entry(msgspec.Struct):
    """One line of the log."""

    log: str
    stream: str
    time: str


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `docker logs` asks for. `since` and `until` are Unix times in seconds."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    since: float | None = None
    until: float | None = None
    timestamps: bool = False
    tail: int | None = None


def stamp() -> str:
    """Return the time as Go's RFC3339Nano, in UTC."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return (f"{text}.{nanoseconds:09}".rstrip("0").rstrip(".")) + "Z"


def frame(stream: str, data: bytes) -> bytes:
    """Return `data` behind the eight bytes that name its stream and length.

    Source: Docker Engine API, ContainerAttach, stream format.
    """
    return bytes((NUMBERS[stream], 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Log:
    """The log of one container. `grown` is set, and replaced, at every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.grown = asyncio.Event()
        self.rest: dict[str, bytes] = {}

    def open(self) -> None:
        """Make the file, 0640, unless it is there. Raises OSError."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        os.fchmod(fd, 0o640)
        os.close(fd)

    def write(self, stream: str, data: bytes) -> None:
        """Append the whole lines of `data`; the rest waits for its end. Raises OSError."""
        whole = self.rest.pop(stream, b"") + data
        entries, start = [], 0
        while start < len(whole):
            limit = start + ENTRY_BYTES
            end = whole.find(b"\n", start, limit) + 1 or limit
            if end > len(whole):
                break
            entries.append(whole[start:end])
            start = end
        self.rest[stream] = whole[start:]
        self.append(stream, entries)

    def end(self, stream: str) -> None:
        """Append what came without a newline at the end. Raises OSError."""
        rest = self.rest.pop(stream, b"")
        self.append(stream, [rest] if rest else [])

    def append(self, stream: str, entries: list[bytes]) -> None:
        """Write entries in one go and tell the followers."""
        if not entries:
            return
        lines = b"".join(
            msgspec.json.encode(Entry(text.decode("utf-8", "replace"), stream, stamp())) + b"\n"
            for text in entries
        )
        with open(self.path, "ab") as file:
            file.write(lines)
        self.tell()

    def tell(self) -> None:
        """Wake the followers."""
        self.grown.set()
        self.grown = asyncio.Event()


def open_log(start: Start) -> None:
    """Step: the json log; it has no undo, a log outlives its run."""
    start.container.streams.log.open()


async def read(
    log: Log, options: LogOptions, tty: bool, running: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield what `docker logs` prints: framed, raw with a tty; with `follow` until it ends.

    A line that a full disk or a crash has cut is passed over.
    """
    if not log.path.exists():
        return
    with open(log.path, "rb") as file:
        if options.tail is not None:
            past = deque(wanted(file, options), maxlen=max(options.tail, 0))
            for entry in past:
                yield text_of(entry, options, tty)
        while True:
            grown, alive = log.grown, running()
            for entry in wanted(file, options):
                yield text_of(entry, options, tty)
            if not (options.follow and alive):
                return
            left = None if options.until is None else options.until - time.time()
            try:
                await asyncio.wait_for(grown.wait(), left)
            except TimeoutError:  # what comes now comes after `until`
                return


def wanted(file: Iterator[bytes], options: LogOptions) -> Iterator[Entry]:
    """Yield the entries, from where the file stands, that the options let through."""
    streams = {name for name in ("stdout", "stderr") if getattr(options, name)}
    for line in file:
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            continue
        if entry.stream not in streams:
            continue
        if options.since is not None or options.until is not None:
            moment = msgspec.convert(entry.time, datetime).timestamp()
            if options.since is not None and moment < options.since:
                continue
            if options.until is not None and moment > options.until:
                continue
        yield entry


def text_of(entry: Entry, options: LogOptions, tty: bool) -> bytes:
    """Return one entry as the client gets it."""
    text = f"{entry.time} {entry.log}" if options.timestamps else entry.log
    return text.encode() if tty else frame(entry.stream, text.encode())
