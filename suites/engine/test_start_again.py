"""Stopped and started again: what a start writes anew, what it leaves, and who holds which FIFO."""

from __future__ import annotations

import json
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from startkit.observe import fifos, procfs

ANEW = ("hostname", "hosts", "resolv.conf", "resolv.conf.hash")
# what a start may change of config.v2.json
RUN = {"State", "HasBeenStartedBefore", "HasBeenManuallyStopped"}
draw_few = settings(
    max_examples=min(settings().max_examples, 60),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def contents(place):
    """Return name -> mode and bytes of the files of a container's directory."""
    files = [path for path in place.iterdir() if path.is_file()]
    return {path.name: (path.stat().st_mode, path.read_bytes()) for path in files}


def create(engine, **body):
    """Create a container; return its id and directory."""
    host = {"NetworkMode": "none", **body.pop("HostConfig", {})}
    program = ["sh", "-c", "echo started; exec sleep 1000"]
    asked = {"Image": "startkit/base", "Cmd": program, **body, "HostConfig": host}
    made = engine.api.post("/containers/create", asked).json()["Id"]
    return made, engine.root / "data/containers" / made


def start(engine, container):
    """Start; return once the program has spoken and the log has it."""
    assert engine.api.post(f"/containers/{container}/start").status == 204
    with engine.api.stream(
        "GET", f"/containers/{container}/logs", follow=True, stdout=True, tail="1",
        since=engine.state(container)["StartedAt"],
    ) as log:  # fmt: skip
        next(log.pieces)


def stop(engine, container):
    assert engine.api.post(f"/containers/{container}/stop", t=0).status == 204


@draw_few
@given(
    edited=st.sets(st.sampled_from(ANEW)),
    removed=st.sets(st.sampled_from(ANEW)),
    options=st.fixed_dictionaries(
        {},
        optional={
            "Dns": st.just(["192.0.2.1"]),
            "ExtraHosts": st.just(["db:192.0.2.2"]),
            "ShmSize": st.just(1 << 20),
        },
    ),
)
def test_a_start_writes_its_files_anew_and_only_those(engine, edited, removed, options):
    container, place = create(engine, HostConfig=options)
    start(engine, container)
    first = contents(place)
    stop(engine, container)
    for name in edited:
        (place / name).write_text("an edit")
    for name in removed:
        (place / name).unlink()
    (place / "of-a-person").write_text("kept")
    start(engine, container)
    second = contents(place)
    engine.api.delete(f"/containers/{container}", force=True)

    log = f"{container}-json.log"
    assert second.pop("of-a-person")[1] == b"kept"
    assert {name for name in first if first[name] != second[name]} == {log, "config.v2.json"}
    assert second[log][1].startswith(first[log][1])
    assert second[log][1].count(b"\n") == 2
    before, after = (json.loads(seen["config.v2.json"][1]) for seen in (first, second))
    assert {key for key in before if before[key] != after[key]} <= RUN
    assert set(first) == set(second)


@draw_few
@given(tty=st.booleans(), stdin=st.booleans(), once=st.booleans(), again=st.booleans())
def test_fifos_and_their_holders_follow_the_terminal_and_stdin(engine, tty, stdin, once, again):
    container, _ = create(engine, Tty=tty, OpenStdin=stdin, StdinOnce=once)
    start(engine, container)
    if again:
        stop(engine, container)
        start(engine, container)
    bundle = engine.root / "exec/libcontainerd" / container
    shim = procfs.process(engine.state(container)["Pid"]).ppid
    paths = fifos.locate([str(bundle)], container, [])
    seen = settled_ends(
        paths, {engine.daemon.pid: "daemon", shim: "shim"}, mute=not tty and not stdin
    )
    engine.api.delete(f"/containers/{container}", force=True)

    assert set(paths) == {"stdin", "stdout"} | ({"stderr"} if not tty else set())
    assert seen == sorted(table(tty, stdin))
    assert not bundle.exists()


def settled_ends(paths, holders, *, mute):
    """Return (holder, FIFO, access) rows; a stdin that nobody uses is let go of after the start."""
    end = time.monotonic() + 5
    while True:
        seen = sorted((row.holder, row.fifo, row.access) for row in fifos.ends(paths, holders))
        if not mute or time.monotonic() > end or "stdin" not in {row[1] for row in seen}:
            return seen
        time.sleep(0.005)


def table(tty, stdin):
    """Return the rows of the article's lsof; a stdin that is for nobody is held by nobody."""
    used = ["stdout"] + ["stderr"] * (not tty) + ["stdin"] * (tty or stdin)
    shim = ("handle", "write", "handle", "read")
    rows = [("shim", fifo, access) for fifo in used for access in shim]
    ways = [(fifo, "write" if fifo == "stdin" else "read") for fifo in used]
    return rows + [("daemon", fifo, access) for fifo, way in ways for access in ("handle", way)]
