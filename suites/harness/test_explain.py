"""`startkit explain`: every step is told, every clause belongs to one."""

from __future__ import annotations

import offline
import pytest

from startkit import cli, story
from startkit.report import explain

STEPS = list(story.steps())
KEYS = [f"{who} {name}" for who, name, _ in STEPS]
RUNNING = offline.reference().scenes["plain"].moments["running"]


def test_the_story_goes_down_to_init_and_back_up():
    order = list(dict.fromkeys(who for who, _, _ in STEPS))

    assert order == ["dockerd", "containerd", "shim", "runtime", "init"]
    assert KEYS[0] == "dockerd mount-rootfs"
    assert KEYS[-1] == "dockerd record-running"
    assert KEYS.index("init enter-root") < KEYS.index("shim start")


def test_what_is_explained_is_a_step_of_the_engine():
    assert {key.removesuffix(" ends") for key in explain.STEPS} <= set(KEYS)


@pytest.mark.parametrize("clause", offline.CLAUSES)
def test_a_clause_belongs_to_a_step(clause):
    assert explain.owner(clause)[0] in KEYS


def test_each_step_of_a_real_start_is_told_with_what_it_left():
    said = explain.explain(RUNNING, STEPS, offline.CLAUSES).splitlines()

    told = [tuple(line.split()[:2]) for line in said if not line.startswith(" ")]
    assert told == [(who, name) for who, name, _ in STEPS]
    for key, part in explain.STEPS.items():
        assert part.left(RUNNING), key
    assert f"{explain.INDENT}clauses: files.hosts (2), files.restart.hosts (1)" in said


def test_ids_are_told_by_twelve_digits():
    said = explain.explain(RUNNING, STEPS, [])

    assert not explain.LONG_ID.search(said)
    assert offline.reference().scenes["plain"].id[:12] + "..." in said


@pytest.mark.parametrize(
    ("host", "code", "said"),
    [("tcp://x:1", 2, "want unix:///PATH"), ("unix:///nowhere.sock", 1, "/nowhere.sock")],
)
def test_an_engine_that_cannot_be_asked_is_told_in_one_line(host, code, said, capsys):
    assert cli.main(["explain", "-H", host, "web"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
