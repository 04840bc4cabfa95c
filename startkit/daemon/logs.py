"""The json log: what the container has said, a JSON object a line.

Rule: an entry ends where the container's line ends, or after 16 KiB. The file is
only ever appended to, over restarts too.
Source: article, heading on the files inside the container; era.md section 3, json log.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from io import BufferedReader, FileIO
    from pathlib import Path

    from startkit.daemon.start import Start

ENTRY_BYTES = 16 * 1024
CHUNK = 64 * 1024  # bytes of the file that are read before others have their turn
NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}
EACH_BYTE = "replace-each-byte"


def replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Decode what is no UTF-8 as Go does, byte by byte; Python takes a cut letter as one."""
    assert isinstance(error, UnicodeDecodeError)
    return "\N{REPLACEMENT CHARACTER}" * (error.end - error.start), error.end


codecs.register_error(EACH_BYTE, replace_each_byte)


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
        self.file: FileIO | None = None  # held while the container runs, lest no descriptor be left

    def open(self) -> None:
        """Make the file, 0640, unless it is there, and hold it. Raises OSError."""
        self.close()
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self.file = open(fd, "ab", buffering=0)  # noqa: SIM115
        os.fchmod(fd, 0o640)

    def close(self) -> None:
        """Let go of the file."""
        if self.file:
            self.file.close()
        self.file = None

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
        """Write entries in one go and tell the followers. They came at once: one time for all."""
        if not entries:
            return
        quote = msgspec.json.encode
        tail = b',"stream":%b,"time":%b}\n' % (quote(stream), quote(stamp()))
        lines = b"".join(
            b'{"log":%b%b' % (quote(text.decode("utf-8", EACH_BYTE)), tail) for text in entries
        )
        self.file = self.file or open(self.path, "ab", buffering=0)  # noqa: SIM115
        self.file.write(lines)
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

    It comes some entries at a time. A line that a full disk or a crash has cut is passed over.
    """
    if not log.path.exists():
        return
    with open(log.path, "rb") as file:
        if options.tail is not None:
            seek_tail(file, max(options.tail, 0))
        while True:
            grown, alive = log.grown, running()
            while lines := file.readlines(CHUNK):
                if block := b"".join(text_of(e, options, tty) for e in wanted(lines, options)):
                    yield block
                await asyncio.sleep(0)
            if not (options.follow and alive):
                return
            left = None if options.until is None else options.until - time.time()
            try:
                await asyncio.wait_for(grown.wait(), left)
            except TimeoutError:  # what comes now comes after `until`
                return


def seek_tail(file: BufferedReader, count: int) -> None:
    """Let the file stand before its last `count` lines, whatever the other options say of them.

    Source: as dockerd 20.10 does.
    """
    start = file.seek(0, os.SEEK_END)
    while start > 0:
        size = min(CHUNK, start)
        start = file.seek(start - size)
        block = file.read(size)
        ends = block.count(b"\n")
        if ends > count:  # what stands before the lines ends in here
            file.seek(start + len(block.rsplit(b"\n", count + 1)[0]) + 1)
            return
        count -= ends
    file.seek(0)


def wanted(lines: Iterable[bytes], options: LogOptions) -> Iterator[Entry]:
    """Yield the entries of these lines that the options let through."""
    streams = {name for name in ("stdout", "stderr") if getattr(options, name)}
    for line in lines:
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
