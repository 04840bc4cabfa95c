"""pause and unpause: a container stands still, and whatever is to end it still does."""

from __future__ import annotations

from pathlib import Path

import pytest

from startkit.observe import procfs
from startkit.targets import process

FREEZER = Path("/sys/fs/cgroup/freezer")
v1 = pytest.mark.skipif(not FREEZER.is_dir(), reason="this host has no v1 freezer")


def run(engine, *flags):
    """Start a container that ends with 5 when it is asked to; return its id."""
    program = "trap 'exit 5' TERM; echo up; while :; do sleep 1000 & wait $!; done"
    made = engine.ok("run", "-d", *flags, "$IMAGE", "sh", "-c", program)
    with engine.popen("logs", "-f", made) as logs:
        assert logs.stdout.readline() == b"up\n"
        logs.kill()
        logs.communicate()
    return made


@v1
def test_a_paused_container_stands_still_until_it_is_let_go_on(engine):
    made = run(engine)
    state = FREEZER / engine.parent.strip("/") / made / "freezer.state"

    engine.ok("pause", made)
    paused = state.read_text(), engine.ok("ps", "--format", "{{.Status}}")
    engine.ok("unpause", made)

    assert paused[0] == "FROZEN\n"
    assert paused[1].endswith("(Paused)")
    assert state.read_text() == "THAWED\n"
    assert not engine.ok("ps", "--format", "{{.Status}}").endswith("(Paused)")


@pytest.mark.parametrize(
    ("words", "code"), [(["stop", "-t", "5"], 5), (["kill"], 137), (["kill", "-s", "TERM"], 5)]
)
def test_what_is_to_end_a_paused_container_ends_it(engine, words, code):
    made = run(engine)
    engine.ok("pause", made)

    engine.ok(*words, made)

    assert engine.ok("wait", made) == str(code)
    assert engine.state(made)["Status"] == "exited"


def test_another_signal_waits_where_a_stop_signal_was_chosen(engine):
    made = run(engine, "--stop-signal", "TERM")
    engine.ok("pause", made)

    engine.ok("kill", "-s", "USR1", made)

    assert engine.state(made)["Status"] == "paused"


def test_a_killed_shim_ends_a_paused_container(engine):
    made = run(engine)
    engine.ok("pause", made)

    process.kill(procfs.process(engine.state(made)["Pid"]).ppid)

    assert engine.ok("wait", made) in {"137", "255"}
    assert engine.cgroups() == []


def test_a_daemon_that_comes_back_still_knows_who_is_paused(make_engine):
    engine = make_engine()
    made = run(engine)
    engine.ok("pause", made)
    engine.crash()
    engine.up()

    assert engine.state(made)["Paused"] is True
    engine.ok("unpause", made)
    engine.clear()


@pytest.mark.parametrize("words", [["start"], ["pause"], ["rm"], ["attach"]])
def test_what_a_paused_container_cannot_do_is_refused(engine, words):
    made = run(engine)
    engine.ok("pause", made)

    done = engine.docker(*words, made)

    assert done.returncode == 1
    assert "paused" in done.stderr


@pytest.mark.parametrize("words", [["pause"], ["unpause"]])
def test_a_stopped_container_is_neither_paused_nor_let_go_on(engine, words):
    made = engine.ok("create", "$IMAGE", "true")

    assert "is not running" in engine.docker(*words, made).stderr
