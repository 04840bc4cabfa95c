"""The named pipes between dockerd and the shim, and who listens at this end.

Rule: each FIFO is held by a handle (O_PATH) and one real end, opened through that
handle: write for stdin, read for the others. Bytes leave in the order they came; a
slow reader slows its container down, nothing is dropped. Only the last words of a
container that has ended do not wait for one who takes nothing at all.
Source: article, heading on the IO files, its lsof table; era.md section 5.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from startkit.daemon.logs import Log, frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from startkit.daemon.start import Start
    from startkit.daemon.store import Container
    from startkit.daemon.types import AttachOptions

CHUNK = 64 * 1024
DETACH = b"\x10\x11"  # ctrl-p ctrl-q
STALLED_S = 2.0  # without a byte taken. Docker 20.10 waits for ever, and so do its kill and rm


class Client:
    """Somebody attached. `gone` is set when there is nothing more to wait for."""

    def __init__(
        self, container: Container, options: AttachOptions, writer: asyncio.StreamWriter
    ) -> None:
        self.container, self.options, self.writer = container, options, writer
        self.tty = container.record.config.tty
        self.gone = asyncio.Event()

    async def send(self, stream: str, data: bytes) -> None:
        """Pass on what the container said, as far as this client asked for it."""
        if self.gone.is_set() or not getattr(self.options, stream):
            return
        try:
            self.writer.write(data if self.tty else frame(stream, data))
            while not await self.took():
                pass
        except (ConnectionError, RuntimeError):
            self.gone.set()

    async def took(self) -> bool:
        """Wait for room for more; False after STALLED_S. Raises ConnectionError.

        Nothing else tells of the container's end: its shim stays until all is read.
        """
        transport = self.writer.transport
        waiting = transport.get_write_buffer_size()
        try:
            async with asyncio.timeout(STALLED_S):
                await self.writer.drain()
        except TimeoutError:
            ended = not os.path.exists(f"/proc/{self.container.record.state.pid}")
            if ended and transport.get_write_buffer_size() == waiting:
                transport.abort()
            return False
        return True


class Streams:
    """One container's side of the FIFOs. It lives as long as the container is known."""

    def __init__(self, directory: Path, bundle: Path, container_id: str, tty: bool) -> None:
        self.bundle, self.tty = bundle, tty
        self.log = Log(directory / f"{container_id}-json.log")
        self.clients: set[Client] = set()
        self.handles: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        self.pumps: list[asyncio.Task[None]] = []
        self.started = asyncio.Event()

    def path(self, stream: str) -> str:
        """Return the FIFO's path, empty for the stderr of a terminal, which has one output."""
        if stream == "stderr" and self.tty:
            return ""
        return os.fspath(self.bundle / f"init-{stream}")

    def open(self) -> None:
        """Make the FIFOs that are absent and open our ends. Raises OSError, nothing left open."""
        try:
            for stream in ("stdin", "stdout", "stderr"):
                path = self.path(stream)
                if not path:
                    continue
                with contextlib.suppress(FileExistsError):
                    os.mkfifo(path, 0o700)
                    os.chmod(path, 0o700)
                way = os.O_WRONLY if stream == "stdin" else os.O_RDONLY
                self.handles[stream] = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
                self.ends[stream] = self.open_end(self.handles[stream], way)
        except OSError:
            self.close()
            raise

    def open_end(self, handle: int, way: int) -> int:
        """Open one end through its handle, without blocking.

        A write end cannot be opened while nobody reads (ENXIO, fifo(7)), so both ends
        are open for a moment.
        """
        again = f"/proc/self/fd/{handle}"
        both = os.open(again, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.open(again, way | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(both)

    def close_stdin(self) -> None:
        """Let go of the FIFO that nobody will ever write to."""
        os.close(self.ends.pop("stdin"))
        os.close(self.handles.pop("stdin"))

    def pump(self) -> None:
        """Begin to read: the shim holds the other ends now, so an end of file is a real one."""
        self.pumps = [
            asyncio.ensure_future(self.copy(stream, fd))
            for stream, fd in self.ends.items()
            if stream != "stdin"
        ]
        self.started.set()

    async def copy(self, stream: str, fd: int) -> None:
        """Read one FIFO to its end, into the log and to everyone attached."""
        while data := await read(fd):
            self.write_log(self.log.write, stream, data)
            for client in list(self.clients):
                await client.send(stream, data)
            await asyncio.sleep(0)  # a FIFO that is never empty leaves the others their turn
        self.write_log(self.log.end, stream)

    def write_log(self, write: Callable[..., None], *what: object) -> None:
        """Write to the log; a full disk costs the log, not the container."""
        with contextlib.suppress(OSError):
            write(*what)

    async def feed(self, client: Client, reader: asyncio.StreamReader) -> bool:
        """Carry a client's input to the container; say whether it ended on its own.

        On a terminal ctrl-p ctrl-q lets go of the container.
        """
        await self.started.wait()
        held = b""
        while data := await reader.read(CHUNK):
            data = held + data
            held = b""
            if self.tty and DETACH in data:
                await write(self.ends.get("stdin"), data.partition(DETACH)[0])
                client.gone.set()
                return False
            if self.tty and data.endswith(DETACH[:1]):
                data, held = data[:-1], data[-1:]
            await write(self.ends.get("stdin"), data)
        await write(self.ends.get("stdin"), held)
        return True

    async def drained(self) -> None:
        """Wait until every byte has been read; the shim is gone, so the end will come."""
        await asyncio.gather(*self.pumps)

    def finish(self) -> None:
        """Let go of everyone attached, and wake those who follow the log."""
        for client in self.clients:
            client.gone.set()
        self.clients.clear()
        self.log.close()
        self.log.tell()

    def close(self) -> None:
        """Close our ends and remove the FIFOs."""
        for task in self.pumps:
            task.cancel()
        for fd in [*self.ends.values(), *self.handles.values()]:
            os.close(fd)
        for stream in ("stdin", "stdout", "stderr"):
            if self.path(stream):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path(stream))
        self.ends, self.handles, self.pumps = {}, {}, []
        self.started.clear()


async def ready(fd: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    """Wait until the event loop says that `fd` is ready."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    add(fd, wake)
    try:
        await future
    finally:
        remove(fd)


async def read(fd: int) -> bytes:
    """Read what is there, waiting for the first byte; empty at the end of file."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            await ready(fd, loop.add_reader, loop.remove_reader)


async def write(fd: int | None, data: bytes) -> None:
    """Write all of `data`; dropped where the container has closed its stdin or is gone."""
    loop = asyncio.get_running_loop()
    while data and fd is not None:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            await ready(fd, loop.add_writer, loop.remove_writer)
        except OSError:
            return


async def attach(
    container: Container,
    options: AttachOptions,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    close_stdin: Callable[[Container], Awaitable[None]],
) -> None:
    """Join a client to the container until one of them ends.

    A client that has sent its last byte goes on to listen; where the container was made
    for one client (StdinOnce), its stdin is closed then.
    """
    streams, config = container.streams, container.record.config
    client = Client(container, options, writer)
    streams.clients.add(client)
    feeding = None
    if options.stdin and config.open_stdin:
        feeding = asyncio.ensure_future(feed(container, client, reader, close_stdin))
    try:
        await client.gone.wait()
    finally:
        streams.clients.discard(client)
        if feeding:
            feeding.cancel()
            await asyncio.wait([feeding])  # the reader is free again when we return


async def feed(
    container: Container,
    client: Client,
    reader: asyncio.StreamReader,
    close_stdin: Callable[[Container], Awaitable[None]],
) -> None:
    """Carry a client's input over, and close the container's stdin after its last byte."""
    with contextlib.suppress(ConnectionError):
        ended = await container.streams.feed(client, reader)
        config = container.record.config
        if ended and config.stdin_once and not config.tty:
            await close_stdin(container)


def is_mute(container: Container) -> bool:
    """Say whether nobody can ever talk to the container: no `-i`, no terminal."""
    config = container.record.config
    return not config.open_stdin and not config.tty


def open_fifos(start: Start) -> None:
    """Step: the FIFOs in the bundle directory, our ends open. Raises OSError."""
    start.container.streams.open()


def close_fifos(start: Start) -> None:
    """Undo of `open_fifos`."""
    start.container.streams.close()
