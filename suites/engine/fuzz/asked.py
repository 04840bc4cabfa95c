"""Requests to the API as hypothesis draws them, and a client that sends any bytes."""

from __future__ import annotations

import json
import re
import socket
import time

import msgspec
from drawn import JSON, WORDS, WRONG, mangled, typed
from hypothesis import strategies as st

from startkit.daemon.api import LEFT_OUT, ROUTES
from startkit.daemon.types import Config, HostConfig

ANSWER_S, STREAM_S = 25.0, 0.05
BODY = {
    "Image": "startkit/base", "StopSignal": "KILL", "OpenStdin": True,
    "Cmd": ["sh", "-c", "echo up; while read line; do echo $line; done; sleep 100"],
    "HostConfig": {"NetworkMode": "none"},
}  # fmt: skip
# cgroups may be made anywhere in their file systems, which no cage keeps from the machine
FIELDS = [(half, field.encode_name, typed(field.type))
          for half in (Config, HostConfig) for field in msgspec.structs.fields(half)
          if field.name != "cgroup_parent"]  # fmt: skip
NAMES = [*["one"] * 40, "two", "startkit/base", "startkit%2Fbase", "x:1", "sha256:0", "e", "json",
         "..", "..%2f..%2fetc", "%2e%2e/%2e%2e", "a%00b", "%ff", "a%", "%0a", "a b", "é",
         "0" * 64, "a" * 9000, "//", "."]  # fmt: skip
PREFIXES = [*["/v1.41"] * 60, "", "/v1.24", "/v1.23", "/v1.99", "/v2.0", "/v1", "/v01.40", "/v1.41/v1.41",
            "/../v1.41", "//", "/v1." + "4" * 5000, "http://x/v1.41", "*"]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "get", "X" * 300]
PATHS = [(method, path) for method, path, _ in ROUTES]
PATHS += [(method, path) for method, path in PATHS if "{name}" in path or "create" in path] * 2
PATHS += [("GET", re.split(r"[|(]", path)[0]) for path, _ in LEFT_OUT]
PATHS += [("POST", "/containers/create"), ("POST", "/containers/{name}/start")] * 12
PATHS += [("GET", path) for path in ("/", "", "/containers", "/containers//json", "/x", "/%")]
QUERY = ["name", "all", "limit", "size", "filters", "signal", "condition", "stdout", "stderr", "tail",
         "follow", "since", "until", "timestamps", "force", "v", "link", "h", "w", "repo", "tag",
         "fromSrc", "fromImage", "changes", "message", "stream", "stdin", "logs", "detachKeys",
         "platform", "checkpoint", "nobody-knows"]  # fmt: skip
VALUES = [*WORDS, *map(str, WRONG), "1", "true", "-", "removed", "next-exit", "1e9", "2026-11-24T00:00:00Z",
          '{"status":["running"]}', '{"label":{"a":true}}', '{"until":["x"]}', "[" * 20000,
          '{"name":["("]}', "ENV A=1", "CMD [", "%zz", "9" * 5000]  # fmt: skip
HEADERS = [b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: -1", b"content-length: 1e3",
           b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked", b"Host: y",
           b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue", b"Connection: close",
           b"Connection: Upgrade\r\nUpgrade: tcp", b"Connection: Upgrade\r\nUpgrade: h2c",
           b"X: " + b"y" * 70000, b"X: \0", b"X\xff: y", b": y", b" X: y", b"X", b"X : y",
           b"Content-Type: text/\xe9", b"Upgrade: a\r\n b"]  # fmt: skip
TOKENS = [*HEADERS, b"\0", b"\r\n", b"\n", b"\r\n\r\n", b"\xff", b"%00", b"..%2f", b"/../", b"HTTP/1.0",
          b"HTTP/9.9", b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n", b"ffffffffffffffffff\r\n",
          b"5;a=\xff\r\n", b"{" * 9000]  # fmt: skip


class Sent(bytes):
    """A request's bytes, shown to a length that can be read."""

    def __repr__(self):
        return repr(bytes(self[:300]))


@st.composite
def bodies(draw):
    """Draw the body of a create: a good one with some fields of ours, of their types or not."""
    body = {**BODY, "HostConfig": dict(BODY["HostConfig"])}
    for half, name, values in draw(st.lists(st.sampled_from(FIELDS), max_size=2)):
        part = body["HostConfig"] if half is HostConfig else body
        part[name] = draw(values | st.sampled_from(WRONG))
    if draw(st.integers(0, 9)) == 0:
        body[draw(st.sampled_from([*body, "NetworkingConfig", "Healthcheck"]))] = draw(JSON)
    return json.dumps(body).encode()


@st.composite
def queries(draw, path):
    """Draw what follows the path. A stop is told not to wait, else the fuzz would."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(QUERY), st.sampled_from(VALUES)), max_size=3))
    if path.endswith("/create"):
        pairs.insert(0, ("name", draw(st.sampled_from(["one"] * 60 + WORDS))))
    if path.endswith(("/stop", "/restart")):
        pairs.insert(0, ("t", draw(st.sampled_from(["0", "0", "0", "x", "1e3", "9" * 40]))))
    if path.endswith(("/logs", "/attach")):
        pairs.insert(0, ("stdout", "1"))
    if path == "/images/create":
        pairs.insert(0, ("fromSrc", "-"))
    text = "&".join(f"{key}={value}" for key, value in pairs)
    return "?" + re.sub(r"[\0- #é\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 255:02x}", text)


@st.composite
def requests(draw):
    """Draw one request's bytes: often one that is well-formed, sometimes mangled."""
    method, path = draw(st.sampled_from(PATHS))
    method = draw(st.sampled_from([method] * 90 + METHODS))
    target = draw(st.sampled_from(PREFIXES)) + re.sub(
        r"{\w+}", lambda _: draw(st.sampled_from(NAMES)), path
    )
    body = b""
    if path == "/containers/create":
        body = draw(bodies())
    elif method != "GET":
        body = draw(st.sampled_from([b""] * 4 + [b"{}", b"null", b"\xff", b"[" * 99999, b" " * 9]))
    headers = (
        draw(st.lists(st.sampled_from(HEADERS), max_size=2)) if draw(st.integers(0, 5)) == 0 else []
    )
    if draw(st.integers(0, 7)) == 0:
        headers.append(b"Transfer-Encoding: chunked")
        body = (
            b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:9], body[9:]) if p)
            + b"0\r\n\r\n"
        )
    else:
        headers.append(b"Content-Length: %d" % len(body))
    line = f"{method} {target}{draw(queries(path))} HTTP/1.1".encode("latin-1", "replace")
    data = b"\r\n".join([line, b"Host: x", *headers, b"", body])
    return Sent(draw(mangled(data, TOKENS)) if draw(st.integers(0, 6)) == 0 else data)


def post(path, body=b""):
    """Return the bytes of a good request."""
    head = f"POST /v1.41{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return Sent(head.encode() + body)


GOOD = [
    post("/containers/create?name=one", json.dumps(BODY).encode()),
    post("/containers/one/start"),
]


def may_wait(data):
    """Say whether a request may be one whose answer has no end."""
    return re.search(rb"(events|wait|logs|attach)", data) is not None


def ask(path, data):
    """Send bytes and then no more; return all that is answered, and whether that had an end."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        got, end = b"", time.monotonic() + ANSWER_S
        client.settimeout(ANSWER_S)
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was there
        if may_wait(data):
            client.settimeout(STREAM_S)
        try:
            while block := client.recv(65536):
                got += block
                if time.monotonic() > end:
                    return got, False
        except TimeoutError:
            return got, False
        except ConnectionResetError:
            pass
        return got, True
