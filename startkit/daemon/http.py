"""HTTP/1.1 over a unix socket: h11 decides what the bytes mean, asyncio moves them.

Rule: nothing here knows a route. A handler gets one `Exchange`, answers it once, and
may take the connection over (`hijack`). Bytes that came in the same segment as the
head of a hijacked request are kept: the first read returns them.

A client that vanishes cancels its handler. A client that only closes its sending side
does not: it still wants the answer. The two look the same to `read`, so the kernel is
asked: EPOLLHUP comes when both sides are shut, and not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import sys
import traceback
from typing import TYPE_CHECKING

import h11
import msgspec

from startkit import __version__
from startkit.daemon.errors import ApiError, BadParameter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Handler = Callable[["Exchange"], Awaitable[None]]

HEAD_MAX = 64 * 1024  # bytes of a request's head; then 431
BODY_MAX = 4 * 1024 * 1024  # bytes of a JSON body; then 413. Archives are streamed, without limit
REST_MAX = 1024 * 1024  # bytes of an unread body worth skipping for the sake of keep-alive
CHUNK = 256 * 1024
HANGUP_GRACE_S = 1.0  # between the last byte of a vanished client and the end of its handler
RAW_STREAM = "application/vnd.docker.raw-stream"
JSON = "application/json"
SERVER = f"startkit/{__version__} (linux)"
REASONS = {
    101: "UPGRADED", 200: "OK", 201: "Created", 204: "No Content", 304: "Not Modified",
    400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
    413: "Content Too Large", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip


class GoneError(Exception):
    """The client left in the middle of its request."""


class TooLargeError(ApiError):
    """413: a JSON body beyond all use."""

    status = 413


class Early:
    """A StreamReader's `read` with bytes in front that had been read too far."""

    def __init__(self, early: bytes, reader: asyncio.StreamReader) -> None:
        self.early, self.reader = early, reader

    async def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; b"" once the client has closed its sending side, or all."""
        if self.early and size:
            count = len(self.early) if size < 0 else size
            block, self.early = self.early[:count], self.early[count:]
            return block if size >= 0 else block + await self.read()
        try:
            return await self.reader.read(size)
        except ConnectionError:
            return b""

    def is_drained(self) -> bool:
        """Whether everything the client sent has been read, its end included."""
        return not self.early and (self.reader.at_eof() or self.reader.exception() is not None)


class Hangups:
    """Hears of clients that have closed both directions, through one descriptor for all."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.calls: dict[int, Callable[[], object]] = {}
        asyncio.get_running_loop().add_reader(self.poll.fileno(), self.look)

    @contextlib.contextmanager
    def watch(self, fd: int, call: Callable[[], object]) -> Iterator[None]:
        """Make the call once when the client behind a socket has gone."""
        # No event is asked for: EPOLLHUP comes unasked. EPOLLIN would come with every byte.
        self.poll.register(fd, select.EPOLLONESHOT)
        self.calls[fd] = call
        try:
            yield
        finally:
            if self.calls.get(fd) == call:  # else it is closed, and another client's by now
                del self.calls[fd]
                with contextlib.suppress(OSError):
                    self.poll.unregister(fd)

    def look(self) -> None:
        """Make the calls that are due."""
        for fd, _ in self.poll.poll(0):
            if call := self.calls.get(fd):
                call()

    def close(self) -> None:
        """Hear of nobody any more."""
        asyncio.get_running_loop().remove_reader(self.poll.fileno())
        self.poll.close()


class Exchange:
    """One request and its answer.

    `path` is still percent-encoded, `query` what follows the question mark.
    Header names are lower case.
    """

    def __init__(self, connection: Connection, request: h11.Request) -> None:
        self.connection = connection
        self.method = request.method.decode("ascii")
        self.path, _, self.query = request.target.decode("latin-1").partition("?")
        self.headers = {k.decode("ascii"): v.decode("latin-1") for k, v in request.headers}
        self.answered = self.hijacked = False
        self.extra_headers: dict[str, str] = {}

    async def read(self) -> bytes:
        """Return some bytes of the body; b"" at its end.

        Raises BadParameter for a body that is wrong, GoneError for one that is cut.
        """
        return await self.connection.read_body()

    async def body(self, limit: int = BODY_MAX) -> bytes:
        """Return the whole body. Raises TooLargeError."""
        blocks = []
        while block := await self.read():
            blocks.append(block)
            limit -= len(block)
            if limit < 0:
                raise TooLargeError("request body too large")
        return b"".join(blocks)

    async def reply(self, status: int, body: bytes = b"", kind: str = JSON) -> None:
        """Send the whole answer."""
        headers = [("Content-Length", str(len(body)))] if status not in (204, 304) else []
        if body:
            headers.insert(0, ("Content-Type", kind))
        await self.head(status, headers)
        if body and self.method != "HEAD" and status not in (204, 304):
            self.connection.send(h11.Data(data=body))
        await self.end()

    async def json(self, document: object, status: int = 200) -> None:
        """Send a JSON document, with the newline that dockerd ends it with."""
        await self.reply(status, msgspec.json.encode(document) + b"\n")

    async def head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Send the status line and the headers at once: the body may take its time."""
        self.answered = True
        all_headers = [*self.extra_headers.items(), *headers]
        self.connection.send(
            h11.Response(
                status_code=status, headers=all_headers, reason=REASONS.get(status, "").encode()
            )
        )
        await self.connection.writer.drain()

    async def stream(self, kind: str = JSON) -> None:
        """Begin an answer of unknown length; `write` and `end` follow."""
        await self.head(200, [("Content-Type", kind), ("Transfer-Encoding", "chunked")])

    async def write(self, block: bytes) -> None:
        """Send one chunk, now. Waits while the client does not read."""
        if block and self.method != "HEAD":
            self.connection.send(h11.Data(data=block))
            await self.connection.writer.drain()

    async def end(self) -> None:
        """End the answer."""
        self.connection.send(h11.EndOfMessage())
        await self.connection.writer.drain()

    async def hijack(self, kind: str = RAW_STREAM) -> tuple[Early, asyncio.StreamWriter]:
        """Take the connection over: 101 for who asked to upgrade, a bare 200 else.

        Returns where the client's bytes come from, early ones first, and where ours go.
        """
        while await self.read():
            pass
        self.answered = self.hijacked = True
        upgrade = "upgrade" in self.headers.get("connection", "").lower()
        words = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK"]
        words += [f"{key}: {value}" for key, value in self.extra_headers.items()]
        words.append(f"Content-Type: {kind}")
        if upgrade:
            words += ["Connection: Upgrade", f"Upgrade: {self.headers.get('upgrade', 'tcp')}"]
        writer = self.connection.writer
        writer.write("\r\n".join([*words, "", ""]).encode("latin-1"))
        await writer.drain()
        return self.connection.take_over(), writer


class Connection:
    """One client's connection: requests one after the other, until either side closes."""

    def __init__(
        self, handler: Handler, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        self.handler = handler
        self.reader, self.writer = streams
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        self.hijacked: Early | None = None
        self.task = asyncio.current_task()
        self.fd: int = self.writer.get_extra_info("socket").fileno()

    def send(self, event: h11.Event) -> None:
        """Queue an event's bytes. Raises GoneError where the connection is closed already."""
        if self.writer.is_closing():
            raise GoneError
        data = self.h11.send(event)
        if data:
            self.writer.write(data)

    async def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event. Raises h11.RemoteProtocolError for what is not HTTP."""
        while (event := self.h11.next_event()) is h11.NEED_DATA:
            if self.h11.they_are_waiting_for_100_continue:
                self.send(
                    h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                )
            self.h11.receive_data(await self.reader.read(CHUNK))
        return event

    async def read_body(self) -> bytes:
        """Return the next bytes of the request's body, b"" at its end."""
        if self.h11.their_state is not h11.SEND_BODY:
            return b""
        try:
            event = await self.next_event()
        except h11.RemoteProtocolError as error:
            if self.reader.at_eof():
                raise GoneError from None
            raise BadParameter(f"malformed request body: {error}") from None
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def take_over(self) -> Early:
        """Return what is left of the client's bytes, from the first that h11 did not use."""
        early, _ = self.h11.trailing_data
        self.hijacked = Early(early, self.reader)
        return self.hijacked

    async def run(self) -> None:
        """Serve requests until the connection ends."""
        while await self.serve_one():
            self.h11.start_next_cycle()

    async def serve_one(self) -> bool:
        """Serve one request; return whether another can follow."""
        try:
            event = await self.next_event()
        except h11.RemoteProtocolError as error:
            await self.refuse(error)
            return False
        except ConnectionError:
            return False
        if not isinstance(event, h11.Request):
            return False
        exchange = Exchange(self, event)
        try:
            await self.handler(exchange)
        except ApiError as error:
            await self.answer_error(exchange, error)
        except (GoneError, ConnectionError):
            return False
        except RecursionError:
            await self.answer_error(exchange, BadParameter("a document is nested too deeply"))
        except Exception as error:
            sys.stderr.write(f"{exchange.method} {exchange.path}:\n{traceback.format_exc()}")
            await self.answer_error(exchange, ApiError(one_line(error)))
        return not exchange.hijacked and await self.skip_rest()

    async def answer_error(self, exchange: Exchange, error: ApiError) -> None:
        """Send the error; an answer that has begun is broken off by closing without its end."""
        if exchange.answered:
            return
        with contextlib.suppress(GoneError, ConnectionError):
            body = msgspec.json.encode({"message": error.message}) + b"\n"
            await exchange.reply(error.status, b"" if error.status == 304 else body)

    async def refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is not HTTP, or a head that is too long."""
        if self.h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = msgspec.json.encode({"message": f"bad request: {error}"}) + b"\n"
        status = error.error_status_hint
        headers = [
            ("Server", SERVER),
            ("Content-Type", JSON),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        reason = REASONS.get(status, "Bad Request").encode()
        with contextlib.suppress(GoneError, ConnectionError):
            self.send(h11.Response(status_code=status, headers=headers, reason=reason))
            self.send(h11.Data(data=body))
            self.send(h11.EndOfMessage())
            await self.writer.drain()

    async def skip_rest(self) -> bool:
        """Read what the handler left of the body; return whether the connection can be kept."""
        left = REST_MAX
        try:
            while left > 0 and (block := await self.read_body()):
                left -= len(block)
        except (ApiError, GoneError, ConnectionError):
            return False
        return self.h11.our_state is h11.DONE and self.h11.their_state is h11.DONE

    def hang_up(self) -> None:
        """Cancel the task, after a grace where it is a hijacked one, once its input is used up."""
        loop = asyncio.get_running_loop()
        if self.task is None or self.task.done():
            return
        if self.hijacked is None:
            self.task.cancel()
        elif self.hijacked.is_drained():
            loop.call_later(HANGUP_GRACE_S, self.task.cancel)
        else:
            loop.call_later(HANGUP_GRACE_S, self.hang_up)


def one_line(error: Exception) -> str:
    """Return an unexpected exception as the client is told it: never a traceback."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space left on device"
    return " ".join(str(error).split()) or type(error).__name__
