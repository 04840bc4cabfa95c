"""The daemon's HTTP, asked by a client that sends what no library would."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import stat
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon.errors import Conflict
from startkit.daemon.http import HEAD_MAX
from startkit.daemon.listen import Server

LIMIT_S = 5


class Recorder:
    """A handler with one route for each thing a client can do to a connection."""

    def __init__(self):
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()

    async def __call__(self, exchange):
        await getattr(self, exchange.path.strip("/"))(exchange)

    async def hello(self, exchange):
        await exchange.reply(200, b"hello", "text/plain")

    async def echo(self, exchange):
        await exchange.reply(200, await exchange.body(limit=10_000), "text/plain")

    async def attach(self, exchange):
        reader, writer = await exchange.hijack()
        while block := await reader.read(7):
            writer.write(block.upper())
        writer.write(b"[eof]")
        await writer.drain()

    async def talk(self, exchange):
        """Send after the client's end of input, as a container does that was told to finish."""
        reader, writer = await exchange.hijack()
        while await reader.read(100):
            pass
        for word in (b"one ", b"two ", b"three"):
            writer.write(word)
            await writer.drain()

    async def hang(self, exchange):
        await exchange.stream()
        await self.wait_for_ever()

    async def hang_attached(self, exchange):
        await exchange.hijack()
        await self.wait_for_ever()

    async def wait_for_ever(self):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def crash(self, exchange):
        raise RuntimeError("something\nunexpected")

    async def full(self, exchange):
        raise OSError(28, "No space left on device")

    async def conflict(self, exchange):
        raise Conflict("name in use")

    async def half(self, exchange):
        await exchange.stream()
        await exchange.write(b"some")
        raise Conflict("too late")


@asynccontextmanager
async def serving():
    root = tempfile.mkdtemp(prefix="startkit-http-")
    handler = Recorder()
    server = Server(handler)
    try:
        await server.listen(f"{root}/run/api.sock")
        handler.path = f"{root}/run/api.sock"
        yield handler
    finally:
        await server.close()
        shutil.rmtree(root)


async def ask(path, *parts, close_after=True):
    """Send the parts, one segment each, close the sending side, and return all that comes."""
    reader, writer = await asyncio.open_unix_connection(path)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    if close_after:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), LIMIT_S)
    finally:
        writer.close()


def run(scenario):
    async def main():
        async with serving() as handler:
            return await asyncio.wait_for(scenario(handler), LIMIT_S)

    return asyncio.run(main())


def get(path, *headers):
    return "\r\n".join([f"GET /{path} HTTP/1.1", "Host: d", *headers, "", ""]).encode()


def post(path, body=b"", *headers):
    length = f"Content-Length: {len(body)}"
    return get(path, length, *headers).replace(b"GET", b"POST", 1) + body


UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")


def test_two_requests_share_one_connection():
    answer = run(lambda h: ask(h.path, get("hello") + get("hello")))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"\r\n\r\nhello")


def test_every_byte_in_its_own_segment_is_the_same_request():
    request = post("echo", b"body")
    answer = run(lambda h: ask(h.path, *[request[i : i + 1] for i in range(len(request))]))
    assert answer.endswith(b"\r\n\r\nbody")


def test_a_chunked_body_is_read():
    head = get("echo", "Transfer-Encoding: chunked").replace(b"GET", b"POST")
    answer = run(lambda h: ask(h.path, head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"))
    assert answer.endswith(b"\r\n\r\nabcde")


def test_a_client_that_waits_for_100_continue_gets_it():
    async def scenario(handler):
        reader, writer = await asyncio.open_unix_connection(handler.path)
        writer.write(post("echo", b"", "Expect: 100-continue").replace(b"h: 0", b"h: 4"))
        line = await reader.readline()
        writer.write(b"body")
        writer.write_eof()
        rest = await reader.read()
        writer.close()
        return line, rest

    line, rest = run(scenario)
    assert line == b"HTTP/1.1 100 Continue\r\n"
    assert rest.endswith(b"body")


def test_an_upgraded_attach_is_answered_101_with_the_raw_stream():
    head, _, stream = run(lambda h: ask(h.path, post("attach", b"", *UPGRADE))).partition(
        b"\r\n\r\n"
    )
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 UPGRADED"
    assert b"Content-Type: application/vnd.docker.raw-stream" in lines
    assert b"Upgrade: tcp" in lines
    assert stream == b"[eof]"


def test_an_attach_without_upgrade_is_answered_200():
    head = run(lambda h: ask(h.path, post("attach"))).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Upgrade" not in head


@pytest.mark.parametrize("headers", [(), UPGRADE], ids=["plain", "upgrade"])
def test_bytes_in_the_segment_of_the_head_are_not_lost(headers):
    answer = run(lambda h: ask(h.path, post("attach", b"", *headers) + b"early", b" late"))
    assert answer.endswith(b"\r\n\r\nEARLY LATE[eof]")


@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=4))
def test_a_hijacked_stream_is_the_same_however_it_is_cut(data, cuts):
    request = post("attach", b"", *UPGRADE) + data
    marks = sorted({0, len(request), *[c for c in cuts if c < len(request)]})
    parts = [request[a:b] for a, b in itertools.pairwise(marks)]
    assert run(lambda h: ask(h.path, *parts)).endswith(b"\r\n\r\n" + data.upper() + b"[eof]")


def test_output_flows_on_after_the_clients_end_of_input():
    answer = run(lambda h: ask(h.path, post("talk", b"", *UPGRADE), b"stdin"))
    assert answer.endswith(b"\r\n\r\none two three")


@pytest.mark.parametrize("route", ["hang", "hang_attached"])
def test_a_client_that_vanishes_cancels_its_handler(route):
    async def scenario(handler):
        _, writer = await asyncio.open_unix_connection(handler.path)
        writer.write(post(route, b"", *UPGRADE))
        await handler.started.wait()
        writer.close()
        await handler.cancelled.wait()

    run(scenario)


def test_a_client_that_closes_its_sending_side_still_gets_its_answer():
    async def scenario(handler):
        task = asyncio.create_task(ask(handler.path, get("hang")))
        await handler.started.wait()
        await asyncio.sleep(0)
        cancelled = handler.cancelled.is_set()
        task.cancel()
        return cancelled

    assert run(scenario) is False


def test_an_error_is_a_message():
    answer = run(lambda h: ask(h.path, get("conflict")))
    assert answer.startswith(b"HTTP/1.1 409 Conflict\r\n")
    assert answer.endswith(b'\r\n\r\n{"message":"name in use"}\n')


def test_a_crash_is_a_500_in_one_line_and_a_traceback_on_stderr(capfd):
    answer = run(lambda h: ask(h.path, get("crash") + get("hello")))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'\r\n\r\n{"message":"something unexpected"}\n' in answer
    assert b"Traceback" not in answer
    assert answer.endswith(b"hello")
    assert "RuntimeError" in capfd.readouterr().err


def test_a_full_disk_is_said_as_such(capfd):
    assert b'"no space left on device"' in run(lambda h: ask(h.path, get("full")))


def test_an_error_in_the_middle_of_a_stream_breaks_it_off():
    answer = run(lambda h: ask(h.path, get("half")))
    assert answer.endswith(b"4\r\nsome\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"x" * (HEAD_MAX + 1), b"431"),
        (get("hello", "Content-Length: minus one"), b"400"),
        (post("echo", b"x" * 10_001), b"413"),
    ],
    ids=["no HTTP", "no host", "long head", "bad length", "long body"],
)
def test_a_bad_request_is_refused_with_a_message(request_bytes, status):
    answer = run(lambda h: ask(h.path, request_bytes))
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'{"message":"' in answer


def test_a_chunked_body_with_a_bad_length_is_a_400():
    head = get("echo", "Transfer-Encoding: chunked").replace(b"GET", b"POST")
    answer = run(lambda h: ask(h.path, head, b"zz\r\nabc\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_head_is_answered_without_a_body():
    head = get("hello").replace(b"GET", b"HEAD")
    answer = run(lambda h: ask(h.path, head + head))
    assert answer.count(b"Content-Length: 5") == 2
    assert b"hello" not in answer


def test_the_socket_is_0660_whatever_the_umask():
    async def scenario(handler):
        return stat.S_IMODE(os.stat(handler.path).st_mode)

    old = os.umask(0)
    try:
        assert run(scenario) == 0o660
    finally:
        os.umask(old)


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    async def scenario():
        path = str(tmp_path / "api.sock")
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(path)
        stale.close()
        first, second = Server(Recorder()), Server(Recorder())
        await first.listen(path)
        with pytest.raises(OSError, match="somebody listens"):
            await second.listen(path)
        await first.close()
        return Path(path).exists()

    assert asyncio.run(scenario()) is False


def test_a_file_in_the_way_of_the_socket_is_kept(tmp_path):
    precious = tmp_path / "api.sock"
    precious.write_text("precious")

    async def listen():
        await Server(Recorder()).listen(str(precious))

    with pytest.raises(FileExistsError):
        asyncio.run(listen())
    assert precious.read_text() == "precious"
