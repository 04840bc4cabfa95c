"""The API's table over a core that only notes what it was asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon.api import Api
from startkit.daemon.errors import BadParameter, Conflict, NotFound, NotModified
from startkit.daemon.graph import open_driver
from startkit.daemon.images import Images
from startkit.daemon.listen import Server

LIMIT_S = 10


class Core:
    """A daemon with one container `c`; `asked` holds every call."""

    def __init__(self, root):
        self.asked = []
        self.exited = asyncio.Event()
        self.waiting = asyncio.Event()
        self.events = SimpleNamespace(subscribe=self.subscribe)
        self.images = Images(root, open_driver("vfs", root / "vfs"))

    async def subscribe(self, since, until, filters):
        self.asked.append(("events", since, until, filters))
        for number in range(2):
            yield {"n": number}

    def note(self, *call):
        self.asked.append(call)

    def find(self, ref):
        if ref != "c":
            raise NotFound(f"No such container: {ref}")
        return "c"

    def create(self, name, body):
        self.note("create", name, body)
        if body == b"bad":
            raise BadParameter("invalid JSON: at `$.Cmd`")
        return {"Id": "1", "Warnings": []}

    def list(self, **options):
        self.note("list", options)
        return []

    def inspect(self, container):
        return {}

    def info(self):
        return {"ID": "x"}

    async def start(self, container):
        self.note("start")
        if len(self.asked) > 1:
            raise NotModified

    async def stop(self, container, timeout):
        self.note("stop", timeout)

    async def restart(self, container, timeout):
        self.note("restart", timeout)

    async def kill(self, container, signal):
        self.note("kill", signal)

    async def wait(self, container, condition):
        self.note("wait", condition)
        self.waiting.set()
        await self.exited.wait()
        return {"StatusCode": 3, "Error": None}

    def rename(self, container, name):
        self.note("rename", name)
        if name == "taken":
            raise Conflict("name in use")

    async def remove(self, container, **options):
        self.note("remove", options)

    async def resize(self, container, height, width):
        self.note("resize", height, width)

    async def logs(self, container, options):
        self.note("logs", options)
        yield b"one"
        yield b"two"

    async def attach(self, container, options, reader, writer):
        self.note("attach", options)
        writer.write((await reader.read(100)).upper())


@asynccontextmanager
async def serving():
    root = Path(tempfile.mkdtemp(prefix="startkit-api-"))
    core = Core(root)
    server = Server(Api(core))
    core.path = str(root / "api.sock")
    try:
        await server.listen(core.path)
        yield core
    finally:
        await server.close()
        shutil.rmtree(root)


async def ask(core, method, target, body=b"", headers=""):
    """Return (status, headers, body) of one request on a connection of its own."""
    reader, writer = await asyncio.open_unix_connection(core.path, limit=1 << 24)
    writer.write(
        f"{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    answer = await asyncio.wait_for(reader.read(), LIMIT_S)
    writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    if fields.get("Transfer-Encoding") == "chunked":
        content = unchunked(content)
    return int(lines[0].split()[1]), fields, content


def unchunked(content):
    whole = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        whole += content[: int(size, 16)]
        content = content[int(size, 16) + 2 :]
    return whole


def run(scenario):
    async def main():
        async with serving() as core:
            return await asyncio.wait_for(scenario(core), LIMIT_S)

    return asyncio.run(main())


def once(method, target, body=b""):
    """Ask one thing; return (status, document, what the core was asked)."""

    async def scenario(core):
        status, _, content = await ask(core, method, target, body)
        return status, json.loads(content) if content else None, core.asked

    return run(scenario)


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41"])
def test_every_version_in_range_and_none_reach_the_same_route(prefix):
    assert once("GET", f"{prefix}/info")[:2] == (200, {"ID": "x"})


NEWER = "client version {} is too new. Maximum supported API version is 1.41"
OLDER = (
    "client version {} is too old. Minimum supported API version is 1.24, "
    "please upgrade your client to a newer version"
)


@pytest.mark.parametrize(
    ("version", "text"), [("1.99", NEWER), ("1.42", NEWER), ("2.0", NEWER), ("1.12", OLDER)]
)
def test_a_version_out_of_range_is_refused_in_dockers_words(version, text):
    assert once("GET", f"/v{version}/info")[:2] == (400, {"message": text.format(version)})


@pytest.mark.parametrize("target", ["/_ping", "/nothing", "/v1.99/info", "/containers/x/json"])
def test_every_answer_carries_what_a_client_negotiates_by(target):
    _, headers, _ = run(lambda core: ask(core, "GET", target))
    assert headers["Api-Version"] == "1.41"
    assert headers["Ostype"] == "linux"
    assert headers["Docker-Experimental"] == "false"
    assert headers["Server"].startswith("startkit/")


def test_ping_is_ok_to_get_and_empty_to_head():
    assert run(lambda core: ask(core, "GET", "/_ping"))[::2] == (200, b"OK")
    assert run(lambda core: ask(core, "HEAD", "/_ping"))[::2] == (200, b"")


def test_version_names_the_range_and_the_engine():
    document = once("GET", "/version")[1]
    assert (document["ApiVersion"], document["MinAPIVersion"]) == ("1.41", "1.24")
    assert document["Components"][0]["Name"] == "Engine"


@pytest.mark.parametrize(
    "target", ["/", "/nothing", "/v1.41", "/containers", "/containers/a/b/json"]
)
def test_an_unknown_page_is_a_404(target):
    assert once("GET", target)[:2] == (404, {"message": "page not found"})


@pytest.mark.parametrize(
    ("method", "target", "what"),
    [
        ("POST", "/build", "build"),
        ("POST", "/containers/c/exec", "exec"),
        ("GET", "/v1.41/networks", "networks"),
        ("POST", "/volumes/create", "volumes"),
        ("GET", "/containers/c/stats", "stats"),
        ("POST", "/containers/prune", "prune"),
        ("GET", "/images/a/b/get", "image save"),
        ("POST", "/images/create?fromImage=ubuntu&tag=latest", "pull images (wanted ubuntu)"),
        ("POST", "/images/create?fromSrc=http://x/y.tar", "import from 'http://x/y.tar'"),
        ("POST", "/containers/c/attach?detachKeys=ctrl-a", "detach keys"),
        ("POST", "/containers/create?platform=linux/s390x", "linux/s390x"),
        ("DELETE", "/containers/c?link=1", "links"),
    ],
)
def test_what_is_left_out_is_a_501_that_names_it(method, target, what):
    status, document, asked = once(method, target)
    assert status == 501
    assert what in document["message"]
    assert asked == []


CALLS = [
    ("POST", "/containers/create?name=n", b"{}", 201, ("create", "n", b"{}")),
    ("POST", "/containers/create", b"{}", 201, ("create", None, b"{}")),
    ("POST", "/containers/c/start", b"", 204, ("start",)),
    ("POST", "/containers/c/stop?t=5", b"", 204, ("stop", 5)),
    ("POST", "/containers/c/stop", b"", 204, ("stop", None)),
    ("POST", "/containers/c/restart?t=0", b"", 204, ("restart", 0)),
    ("POST", "/containers/c/kill?signal=HUP", b"", 204, ("kill", "HUP")),
    ("POST", "/containers/c/kill", b"", 204, ("kill", None)),
    ("POST", "/containers/c/rename?name=%2Fd", b"", 204, ("rename", "/d")),
    ("POST", "/containers/c/resize?h=24&w=80", b"", 200, ("resize", 24, 80)),
    (
        "DELETE",
        "/containers/c?force=1&v=true",
        b"",
        204,
        ("remove", {"force": True, "volumes": True}),
    ),
    ("DELETE", "/containers/%63", b"", 204, ("remove", {"force": False, "volumes": False})),
]


@pytest.mark.parametrize(("method", "target", "body", "status", "call"), CALLS)
def test_a_request_becomes_one_call(method, target, body, status, call):
    assert once(method, target, body)[0::2] == (status, [call])


def test_ps_passes_its_options_on():
    filters = quote(json.dumps({"status": {"exited": True, "dead": False}, "label": {"a": True}}))
    asked = once("GET", f"/containers/json?all=1&limit=3&size=0&filters={filters}")[2]
    expected = {"all": True, "limit": 3, "size": False,
                "filters": {"status": ["exited"], "label": ["a"]}}  # fmt: skip
    assert asked == [("list", expected)]


@pytest.mark.parametrize("target", ["/start", "/json", "/logs?stdout=1", "/attach", "/wait"])
def test_an_unknown_container_is_a_404(target):
    method = "GET" if target.startswith(("/json", "/logs")) else "POST"
    expected = {"message": "No such container: d"}
    assert once(method, f"/containers/d{target}")[:2] == (404, expected)


@pytest.mark.parametrize("ref", ["..%2F..%2Fetc", "%2E%2E", "a%00b", "%FF"])
def test_a_path_in_place_of_a_container_is_a_404(ref):
    assert once("GET", f"/containers/{ref}/json")[0] == 404


def test_errors_of_the_core_keep_their_status():
    bad = once("POST", "/containers/create", b"bad")
    assert (bad[0], once("POST", "/containers/c/rename?name=taken")[0]) == (400, 409)


def test_starting_twice_is_a_304_without_a_body():
    async def scenario(core):
        await ask(core, "POST", "/containers/c/start")
        return await ask(core, "POST", "/containers/c/start")

    assert run(scenario)[::2] == (304, b"")


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/containers/c/resize?h=1", "w"),
        ("/containers/c/resize?h=x&w=1", "h"),
        ("/containers/c/wait?condition=never", "condition"),
        ("/containers/c/start", "body"),
    ],
)
def test_a_bad_parameter_is_a_400_that_names_it(target, field):
    status, document, asked = once("POST", target, b'{"HostConfig": {}}')
    assert status == 400
    assert field in document["message"]
    assert asked == []


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/containers/json?limit=many", "limit"),
        ("/containers/json?all=perhaps", "all"),
        ("/containers/json?filters=[1]", "filters"),
        ("/containers/c/logs", "at least one stream"),
        ("/containers/c/logs?stdout=1&since=yesterday", "since"),
        ("/containers/c/logs?stdout=1&tail=few", "tail"),
        ("/events?until=later", "until"),
        ("/images/json?filters={%22colour%22:[%22red%22]}", "colour"),
    ],
)
def test_a_bad_question_is_a_400_that_names_it(target, text):
    status, document, _ = once("GET", target)
    assert status == 400
    assert text in document["message"]


def test_wait_sends_its_head_before_the_container_ends():
    async def scenario(core):
        reader, writer = await asyncio.open_unix_connection(core.path)
        writer.write(b"POST /containers/c/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        registered = core.waiting.is_set()
        core.exited.set()
        body = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return head, registered, unchunked(body), core.asked

    head, registered, body, asked = run(scenario)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert registered
    assert json.loads(body) == {"StatusCode": 3, "Error": None}
    assert asked == [("wait", "next-exit")]


def test_logs_are_streamed_with_their_options():
    target = "/containers/c/logs?stdout=1&follow=1&tail=2&since=1.5&timestamps=1"

    async def scenario(core):
        return *await ask(core, "GET", target), core.asked

    status, headers, body, [(_, options)] = run(scenario)
    assert (status, body) == (200, b"onetwo")
    assert headers["Content-Type"] == "application/vnd.docker.raw-stream"
    assert (options.stdout, options.stderr, options.follow) == (True, False, True)
    assert (options.tail, options.since, options.timestamps) == (2, 1.5, True)


def test_attach_hands_over_the_streams_early_bytes_included():
    async def scenario(core):
        reader, writer = await asyncio.open_unix_connection(core.path)
        writer.write(
            b"POST /v1.41/containers/c/attach?stdin=1&stdout=1&stream=1 HTTP/1.1\r\nHost: d\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nearly"
        )
        answer = await reader.read()
        writer.close()
        return answer, core.asked

    answer, [(_, options)] = run(scenario)
    assert answer.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert b"Api-Version: 1.41" in answer
    assert answer.endswith(b"\r\n\r\nEARLY")
    assert (options.stdin, options.stdout, options.stderr) == (True, True, False)


def test_events_are_one_object_a_line():
    target = f"/events?since=1&until=2.25&filters={quote(json.dumps({'type': ['image']}))}"

    async def scenario(core):
        return (await ask(core, "GET", target))[2], core.asked

    body, asked = run(scenario)
    assert body == b'{"n":0}\n{"n":1}\n'
    assert asked == [("events", 1.0, 2.25, {"type": ["image"]})]


@given(
    st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
)
def test_no_path_is_a_500(method, path):
    path = path.replace("#", "")
    status, _, body = run(lambda core: ask(core, method, f"/{path}"))
    assert status < 500 or status == 501
    assert b"Traceback" not in body
