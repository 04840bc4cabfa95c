"""An engine under load: readers that stall, clients that are slow, many of everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import settings

from startkit.daemon import events, io
from startkit.observe import procfs

LIMIT_S = 60
POLL_S = 0.02
AT_ONCE = {"thorough": 200}.get(settings.get_current_profile_name(), 32)
CLIENTS = 16
IDLE = min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 300)
SAID_BYTES = 16 << 20
MEMORY_KIB = 8 << 10  # that a daemon may take more: half of what is said
pytestmark = pytest.mark.timeout(300)


def until(holds):
    """Wait until something holds, for which there is no event."""
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(POLL_S)


def memory(engine):
    return int(procfs.status(engine.daemon.pid)["VmRSS"].split()[0])


def descriptors(engine):
    return len(os.listdir(f"/proc/{engine.daemon.pid}/fd"))


def create(engine, *command, **more):
    host = {"NetworkMode": "none", **more.pop("HostConfig", {})}
    body = {"Image": "startkit/base", "Cmd": [*command], "HostConfig": host, **more}
    return engine.api.post("/containers/create", body).json()["Id"]


def start(engine, container):
    started = engine.api.post(f"/containers/{container}/start")
    assert started.status == 204, started.message
    return container


def log_path(engine, container):
    return Path(engine.api.get(f"/containers/{container}/json").json()["LogPath"])


def logged(engine, container):
    """Return what the json log says was said."""
    lines = log_path(engine, container).read_bytes().splitlines()
    return b"".join(json.loads(line)["log"].encode() for line in lines)


def attach(engine, container):
    """Attach, and read nothing."""
    return engine.api.hijack(f"/containers/{container}/attach", stream=True, stdout=True).socket


def unframed(stream):
    """Return what a file of frames says up to its end."""
    said = []
    while head := stream.read(8):
        said.append(stream.read(int.from_bytes(head[4:], "big")))
    return b"".join(said)


def until_it_stalls(engine, container):
    """Wait until the log of a container has begun and does not grow any more."""
    sizes = [0]
    while sizes[-1] == 0 or len(set(sizes[-10:])) > 1:
        sizes.append(len(logged(engine, container)))
        time.sleep(POLL_S)


@pytest.fixture
def talker(engine, tmp_path):
    """Make a container that says much in uneven lines, the last without its end; what it says."""
    draw = random.Random(7)
    said, alphabet = bytearray(), bytes(range(32, 127)) * 500
    while len(said) < SAID_BYTES:
        said += alphabet[: draw.choice((0, 1, 80, 1000, 16383, 16384, 40000))] + b"\n"
    said += b"no end"
    (tmp_path / "said").write_bytes(said)
    binds = {"Binds": [f"{tmp_path}/said:/said"]}
    return create(engine, "sh", "-c", "sleep 0.3; cat /said", HostConfig=binds), said


def test_a_stream_that_never_pauses_gives_the_others_their_turn(tmp_path):
    (tmp_path / "fifo").write_bytes(b"x" * (20 * io.CHUNK))
    turns = []

    async def others():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def copy():
        streams = io.Streams(tmp_path, tmp_path, "id", tty=False)
        other = asyncio.create_task(others())
        with (tmp_path / "fifo").open("rb") as fifo:
            await streams.copy("stdout", fifo.fileno())
        other.cancel()
        streams.finish()

    asyncio.run(copy())
    assert len(turns) >= 20


def test_output_is_whole_in_the_log_and_for_who_was_slow(engine, talker):
    container, said = talker
    before = memory(engine)
    with attach(engine, container) as stalled:
        start(engine, container)
        until_it_stalls(engine, container)
        assert engine.ok("run", "--rm", "$IMAGE", "echo", "others go on") == "others go on"
        assert engine.state(container)["Running"]
        assert memory(engine) - before < MEMORY_KIB
        stalled.settimeout(LIMIT_S)
        with stalled.makefile("rb") as stream:
            assert unframed(stream) == said
    assert engine.api.post(f"/containers/{container}/wait").json()["StatusCode"] == 0
    assert logged(engine, container) == said


def test_a_stalled_follower_of_the_log_holds_nobody_up(engine, talker):
    container, said = talker
    before = memory(engine)
    target, wanted = f"/containers/{container}/logs", {"follow": True, "stdout": True}
    start(engine, container)
    with engine.api.stream("GET", target, **wanted) as follower:
        assert engine.api.post(f"/containers/{container}/wait").json()["StatusCode"] == 0
        assert memory(engine) - before < MEMORY_KIB
        assert unframed(BytesIO(b"".join(follower.pieces))) == said
    assert logged(engine, container) == said


def test_a_container_that_ends_does_not_wait_for_a_stalled_reader(engine):
    script = "yes 0123456789abcdef | head -c 4000000; exec sleep 100"
    container = create(engine, "sh", "-c", script)
    with attach(engine, container):
        start(engine, container)
        until_it_stalls(engine, container)

        assert engine.api.post(f"/containers/{container}/kill").status == 204

        assert engine.state(container)["Status"] == "exited"
        said = logged(engine, container)
        assert said == (b"0123456789abcdef\n" * (len(said) // 17 + 1))[: len(said)]
        assert start(engine, container)
        assert engine.api.delete(f"/containers/{container}", force=True).status == 204


def test_a_stalled_reader_of_events_misses_some_and_costs_no_memory():
    async def listen():
        told = events.Events()
        stream = told.subscribe(None, None, {})
        for number in range(3 * events.WAITING):
            told.publish("container", "start", str(number), {})
        waiting = [listener.qsize() for listener in told.listeners]
        return [(await anext(stream))["id"] for _ in range(events.WAITING)], waiting

    seen, waiting = asyncio.run(listen())
    assert seen == [str(number) for number in range(events.WAITING)]
    assert waiting == [events.WAITING]


def test_who_was_attached_and_went_away_leaves_nothing(engine):
    container = start(engine, create(engine, "cat", OpenStdin=True))
    engine.api.get("/_ping")
    before = descriptors(engine)
    for _ in range(10):
        attach(engine, container).close()
        with socket.socket(socket.AF_UNIX) as half:
            half.connect(engine.socket)
            half.sendall(
                b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 99\r\n\r\n{"
            )

    until(lambda: descriptors(engine) <= before)
    assert engine.state(container)["Running"]


def test_a_request_that_comes_byte_by_byte_is_answered_and_others_before_it(engine):
    request = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(LIMIT_S)
        slow.connect(engine.socket)
        for place in range(len(request)):
            slow.sendall(request[place : place + 1])
            assert place % 20 or engine.api.get("/_ping").status == 200
        assert slow.makefile("rb").read().endswith(b"\r\n\r\nOK")


def test_a_thousand_clients_that_say_nothing_cost_a_descriptor_each(make_engine):
    engine = make_engine()
    before = descriptors(engine)
    with contextlib.ExitStack() as stack:
        engine.daemon.send_signal(signal.SIGSTOP)
        try:
            for _ in range(IDLE):  # they wait to be let in, none is turned away
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(engine.socket)
        finally:
            engine.daemon.send_signal(signal.SIGCONT)
        # `before` may count a client of the engine's start that was just going
        until(lambda: descriptors(engine) >= before + IDLE - 3)
        assert descriptors(engine) < before + IDLE + 10
        assert engine.ok("run", "--rm", "$IMAGE", "echo", "there") == "there"

    until(lambda: descriptors(engine) <= before)


def test_an_engine_out_of_descriptors_says_so_and_goes_on_later(make_engine):
    engine = make_engine(around=("prlimit", "--nofile=64"))
    script = "n=0; while test $n -lt 40; do n=$((n + 1)); echo $n; sleep 0.05; done"
    container = start(engine, create(engine, "sh", "-c", script))
    path = log_path(engine, container)
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(engine.socket)
        until(lambda: "Too many open files" in (engine.root / "log").read_text())
        until(lambda: rb'"30\n"' in path.read_bytes())

    assert engine.api.post(f"/containers/{container}/wait").json()["StatusCode"] == 0
    assert logged(engine, container).split() == [b"%d" % n for n in range(1, 41)]
    assert engine.ok("run", "--rm", "$IMAGE", "echo", "there") == "there"


def test_many_containers_run_at_once_and_go_without_a_trace(make_engine):
    engine = make_engine()
    with ThreadPoolExecutor(CLIENTS) as pool:
        made = list(pool.map(lambda _: create(engine, "sleep", "1000"), range(AT_ONCE)))
        list(pool.map(lambda container: start(engine, container), made))
        assert len(engine.api.get("/containers/json").json()) == AT_ONCE
        pids = {engine.state(container)["Pid"] for container in made}
        assert all(os.path.exists(f"/proc/{pid}") for pid in pids)
        assert len(pids) == AT_ONCE
        removed = pool.map(lambda c: engine.api.delete(f"/containers/{c}", force=True), made)
        assert {reply.status for reply in removed} == {204}

    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert engine.cgroups() == []
