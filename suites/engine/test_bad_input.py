"""Requests that are wrong: one clear line, the right status, and nothing made."""

from __future__ import annotations

import json

import pytest

GOOD = {"Image": "startkit/base", "Cmd": ["true"]}


@pytest.fixture
def create(engine):
    """Give a function that asks for a container and returns status and message."""

    def ask(body, name=None):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        query = {"name": name} if name is not None else {}
        reply = engine.api.post("/v1.41/containers/create", raw, **query)
        return reply.status, reply.message

    yield ask
    assert "Traceback" not in (engine.root / "log").read_text()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "invalid JSON"),
        (b"[]", "invalid JSON"),
        (b"\xff", "invalid JSON"),
        ({**GOOD, "Tty": "yes"}, "$.Tty"),
        ({**GOOD, "Env": "A=1"}, "$.Env"),
        ({**GOOD, "HostConfig": {"Memory": "1g"}}, "$.Memory"),
        ({**GOOD, "HostConfig": []}, "HostConfig"),
        ({**GOOD, "HostConfig": {"Memory": 1}}, "memory limit"),
        ({**GOOD, "HostConfig": {"ShmSize": -1}}, "SHM size"),
        ({**GOOD, "HostConfig": {"Dns": ["nowhere"]}}, "Dns"),
        ({**GOOD, "HostConfig": {"ExtraHosts": ["x"]}}, "add-host"),
        ({**GOOD, "HostConfig": {"CapAdd": ["FLY"]}}, "FLY"),
        ({**GOOD, "HostConfig": {"Binds": ["/a:relative"]}}, "/a:relative"),
        ({**GOOD, "HostConfig": {"Binds": ["/a:/"]}}, "/a:/"),
        ({**GOOD, "HostConfig": {"Binds": ["/a:/b:odd"]}}, "odd"),
        ({**GOOD, "HostConfig": {"Ulimits": [{"Name": "x", "Soft": 1, "Hard": 1}]}}, "ulimit"),
        ({**GOOD, "Hostname": "a" * 64}, "hostname"),
        ({**GOOD, "Hostname": "a/../b"}, "hostname"),
        ({**GOOD, "Hostname": "a\nb"}, "hostname"),
        ({**GOOD, "Domainname": "-x"}, "domainname"),
        ({**GOOD, "WorkingDir": "tmp"}, "working directory"),
        ({**GOOD, "StopSignal": "SIGNOTHING"}, "SIGNOTHING"),
        ({"Image": "startkit/base", "Cmd": ["a\0b"]}, "Cmd"),
        ({"Cmd": ["true"]}, "image"),
    ],
)  # fmt: skip
def test_a_body_that_is_wrong_is_400_and_names_the_field(create, engine, body, words):
    status, message = create(body)

    assert (status, words in message) == (400, True), message
    assert engine.api.get("/containers/json", all=True).json() == []


@pytest.mark.parametrize("name", ["a", "../x", "/../../etc", "x y", "é" * 3, "x\n", "-x", "."])
def test_a_name_that_is_no_name_is_400(create, name):
    assert create(GOOD, name)[0] == 400


def test_a_name_in_use_is_409(create):
    assert create(GOOD, "taken")[0] == 201

    status, message = create(GOOD, "/taken")
    assert status == 409
    assert '"/taken" is already in use' in message


def test_an_unknown_image_is_404(create):
    assert create({**GOOD, "Image": "nobody/knows"})[0] == 404


@pytest.mark.parametrize(
    "ref", ["nobody", "..", "%2e%2e%2f%2e%2e%2fetc", "a%00b", "%2Fetc%2Fpasswd"]
)
@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("GET", "json"),
        ("POST", "start"),
        ("POST", "stop"),
        ("GET", "logs?stdout=1"),
        ("DELETE", ""),
    ],
)
def test_a_container_that_is_not_there_is_404(engine, method, what, ref):
    reply = engine.api.request(method, f"/v1.41/containers/{ref}/{what}".rstrip("/"))

    assert reply.status == 404
    assert "\n" not in reply.message


@pytest.mark.parametrize("query", ["?signal=SIGNOTHING", "?signal=0", "?signal=99"])
def test_a_signal_that_is_none_is_400(engine, query):
    made = engine.ok("run", "-d", "$IMAGE", "sleep", "100")

    assert engine.api.post(f"/containers/{made}/kill{query}").status == 400


def test_states_that_do_not_allow_it_are_told(engine):
    made = engine.ok("create", "$IMAGE", "sleep", "100")
    assert engine.api.post(f"/containers/{made}/stop").status == 304
    assert engine.api.post(f"/containers/{made}/kill").status == 409
    engine.ok("start", made)

    assert engine.api.post(f"/containers/{made}/start").status == 304
    assert engine.api.delete(f"/containers/{made}").status == 409
