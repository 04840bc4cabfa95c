"""The first arrow: HTTP to an engine over a unix socket.

Rule: one request, one connection, one limit of time. Nothing is retried, decoded or
repaired on the way: who judges an engine needs the status, the headers and the bytes
that it sent.

Source: article, heading "start的大概流程", first bullet; RFC 9112.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, NamedTuple

import h11
import msgspec

from startkit import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

TIMEOUT_S = 30.0
CHUNK = 65536
SAID = 1000  # characters of what an engine says about a failure
WHOLE = 64 << 20  # bytes of an answer that is read at once

Body = bytes | dict[str, Any] | list[Any] | None


class ClientError(Exception):
    """An engine that could not be reached or did not speak HTTP; one line of text."""


class Reply(NamedTuple):
    """A whole answer: status, headers with lower-case names, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON, or its text where it is none.

        Strict, so that whatever is returned can be written as JSON again.
        """
        try:
            return msgspec.json.decode(self.body) if self.body else None
        except (ValueError, RecursionError):
            return self.body.decode(errors="replace")

    @property
    def message(self) -> str:
        """What the engine says about a failure, in one line."""
        body = self.json()
        text = body.get("message", body) if isinstance(body, dict) else body
        return " ".join(str(text)[:SAID].split())


class Connection:
    """One request on its way and the answer to it.

    `send` and `head` first, then either `body` (a normal answer) or `hijack` (the
    connection as a raw stream).
    """

    def __init__(self, path: str, timeout_s: float, label: str) -> None:
        self.label = f"{label} on {path}"
        self.end = time.monotonic() + timeout_s
        self.http = h11.Connection(h11.CLIENT)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            with self.failing():
                self.hurry()
                self.socket.connect(path)
        except ClientError:
            self.socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.socket.close()

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Turn what the socket and h11 raise into one line that names the request."""
        try:
            yield
        except TimeoutError:
            raise ClientError(f"{self.label}: no answer in time") from None
        except OSError as error:
            raise ClientError(f"{self.label}: {error.strerror or error}") from None
        except h11.ProtocolError as error:
            raise ClientError(f"{self.label}: not HTTP: {error}") from None

    def hurry(self) -> None:
        """Give the next socket call the time that is left. Raises TimeoutError."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    def put(self, *events: h11.Event) -> None:
        """Send events; one `sendall` for each."""
        for event in events:
            if data := self.http.send(event):
                self.hurry()
                self.socket.sendall(data)

    def send(self, request: h11.Request, body: Iterable[bytes]) -> None:
        """Send the head and the body, which may be endless: its pieces go out as they come.

        An engine may answer and close before it has read the whole body; that answer counts.
        """
        with self.failing(), contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.put(request)
            for piece in body:
                self.put(h11.Data(data=piece))
            self.put(h11.EndOfMessage())

    def next_event(self) -> Any:
        """Return the next h11 event of the answer."""
        with self.failing():
            while True:
                event = self.http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self.hurry()
                data = self.socket.recv(CHUNK)
                if not data and self.http.their_state is h11.SEND_RESPONSE:
                    raise ClientError(f"{self.label}: closed without an answer")
                self.http.receive_data(data)

    def head(self) -> tuple[int, dict[str, str]]:
        """Wait for the status line and the headers; 100 Continue is passed over."""
        event = self.next_event()
        while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            event = self.next_event()
        if not isinstance(event, h11.Response | h11.InformationalResponse):
            raise ClientError(f"{self.label}: not HTTP: {type(event).__name__} is no answer")
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in event.headers}
        return event.status_code, headers

    def body(self) -> Iterator[bytes]:
        """Yield the pieces of the body as they come."""
        while isinstance(event := self.next_event(), h11.Data):
            yield bytes(event.data)

    def hijack(self) -> tuple[socket.socket, bytes]:
        """Return the raw socket, in the caller's hands from now on, and the bytes already read."""
        early = self.http.trailing_data[0]
        mine = self.socket.dup()
        mine.settimeout(None)
        return mine, early


class Stream(NamedTuple):
    """An answer whose body is still coming."""

    status: int
    headers: dict[str, str]
    pieces: Iterator[bytes]


class Hijacked(NamedTuple):
    """A connection that is no longer HTTP: what came early, then the socket."""

    status: int
    headers: dict[str, str]
    early: bytes
    socket: socket.socket


class Client:
    """The engine behind one socket. `path` may be written as unix:///PATH.

    `until`: the moment (of time.monotonic) at which every request gives up.
    """

    def __init__(self, path: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.path = path.removeprefix("unix://")
        self.timeout_s = timeout_s
        self.until = math.inf

    def request(
        self,
        method: str,
        target: str,
        body: Body | Iterable[bytes] = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        **query: Any,
    ) -> Reply:
        """Send one request and return the whole answer. Raises ClientError.

        A dict or list goes as JSON, bytes as they are, other iterables chunked.
        """
        with self.stream(
            method, target, body, headers=headers, timeout_s=timeout_s, **query
        ) as answer:
            whole = bytearray()
            for piece in answer.pieces:
                whole += piece
                if len(whole) > WHOLE:
                    said = f"{method} {target} on {self.path}"
                    raise ClientError(f"{said}: more than {WHOLE >> 20} MiB of an answer")
            return Reply(answer.status, answer.headers, bytes(whole))

    def get(self, target: str, **query: Any) -> Reply:
        """GET, the whole answer."""
        return self.request("GET", target, **query)

    def post(self, target: str, body: Body = None, **query: Any) -> Reply:
        """POST, the whole answer."""
        return self.request("POST", target, body, **query)

    def delete(self, target: str, **query: Any) -> Reply:
        """DELETE, the whole answer."""
        return self.request("DELETE", target, **query)

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        target: str,
        body: Body | Iterable[bytes] = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        **query: Any,
    ) -> Iterator[Stream]:
        """Send one request; the body of the answer is read while the caller asks for it."""
        with self.open(method, target, timeout_s) as connection:
            connection.send(*message(method, with_query(target, query), body, headers or {}))
            status, answered = connection.head()
            yield Stream(status, answered, connection.body())

    def hijack(self, target: str, *, early: bytes = b"", **query: Any) -> Hijacked:
        """POST an upgrade, as attach wants it; the caller closes the socket.

        `early` is sent in the same segment as the head. Any status but 101 and 200 raises
        ClientError with the engine's message.
        """
        upgrade = {"connection": "Upgrade", "upgrade": "tcp"}
        request, _ = message("POST", with_query(target, query), None, upgrade)
        with self.open("POST", target, None) as connection:
            with connection.failing():
                head = (connection.http.send(request) or b"") + (
                    connection.http.send(h11.EndOfMessage()) or b""
                )
                connection.socket.sendall(head + early)
            status, headers = connection.head()
            if status not in {101, 200}:
                text = Reply(status, headers, b"".join(connection.body())).message
                raise ClientError(f"{connection.label}: {status} {text}")
            mine, first = connection.hijack()
            return Hijacked(status, headers, first, mine)

    @contextlib.contextmanager
    def by(self, moment: float) -> Iterator[None]:
        """Have every request meanwhile give up at a moment; then it is as it was before."""
        before, self.until = self.until, moment
        try:
            yield
        finally:
            self.until = before

    def open(self, method: str, target: str, timeout_s: float | None) -> Connection:
        """Connect for one request."""
        left = self.until - time.monotonic()
        limit = min(timeout_s or self.timeout_s, left)
        return Connection(self.path, limit, f"{method} {target}")


def with_query(target: str, query: Mapping[str, Any]) -> str:
    """Return `target` with a query string; booleans as 1 and 0, dicts as JSON."""
    words = {name: query_text(value) for name, value in query.items() if value is not None}
    return f"{target}?{urllib.parse.urlencode(words)}" if words else target


def query_text(value: Any) -> str:
    """Return a query value as the Engine API writes it."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def message(
    method: str, target: str, body: Body | Iterable[bytes], extra: Mapping[str, str]
) -> tuple[h11.Request, Iterable[bytes]]:
    """Return the head and the pieces of the body of a request."""
    headers = {"host": "localhost", "user-agent": f"startkit/{__version__}"}
    if isinstance(body, dict | list):
        headers["content-type"] = "application/json"
        body = json.dumps(body).encode()
    if body is None or isinstance(body, bytes):
        pieces: Iterable[bytes] = [body] if body else []
        if body or method in {"POST", "PUT"}:
            headers["content-length"] = str(len(body or b""))
    else:
        headers.setdefault("content-type", "application/x-tar")
        headers["transfer-encoding"] = "chunked"
        pieces = body
    headers |= extra
    return h11.Request(method=method, target=target, headers=list(headers.items())), pieces
