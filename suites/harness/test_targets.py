"""Targets: found by a word, started by a recipe, ended without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from startkit import kernel
from startkit.observe import procfs
from startkit.targets import process
from startkit.targets.target import Engine, Socket, TargetError, find_target
from startkit.targets.watch import Live

PYTHON = [sys.executable, "-c"]


def waiting(argument):
    """Start a process that waits for the end of its stdin; it is there when this returns."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([*PYTHON, code, argument], **pipes)
    child.stdout.readline()
    child.stdout.close()
    return child


def engine(code, **more):
    return Engine(name="e", start=[*PYTHON, code], ready="{root}/api.sock", **more)


def test_a_path_is_a_socket_and_a_word_is_a_recipe():
    assert isinstance(find_target("unix:///run/x.sock"), Socket)
    assert find_target("docker").name == "docker"


def test_an_unknown_word_is_answered_with_the_known_ones():
    with pytest.raises(TargetError, match="docker, startkit"):
        find_target("nobody")


def test_a_recipe_with_an_unknown_key_is_refused(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "m"\nstart = []\nready = ""\nneed = []\n')

    with pytest.raises(TargetError, match="need"):
        find_target(str(recipe))


def test_what_is_not_installed_is_named():
    assert engine("", needs=["no-such-program", "sh"]).missing() == ["no-such-program"]


def test_an_engine_that_ends_at_once_is_quoted(tmp_path):
    started = engine("raise SystemExit('disk on fire')")

    with pytest.raises(TargetError, match=r"^e did not come up: disk on fire$"):
        started.running(tmp_path).__enter__()


def test_a_target_that_cannot_run_leaves_no_evidence_and_one_reason():
    live = Live(engine("", needs=["no-such-program"]), {}, "main")

    with live.watching() as source:
        scene = source.scene("plain")

    assert scene.scene.broken == "e: not here: no-such-program"
    assert live.failure == scene.scene.broken


def test_a_process_below_the_root_is_ended_by_the_sweep(tmp_path):
    other, stray = waiting("elsewhere"), waiting(f"{tmp_path}/x")

    process.sweep(str(tmp_path))

    for child in (other, stray):
        child.stdin.close()
    assert (other.wait(), stray.wait()) == (0, -signal.SIGKILL)


def test_a_mount_below_the_root_is_undone_by_the_sweep(tmp_path):
    inside = tmp_path / "shm"
    inside.mkdir()
    kernel.mount("shm", inside, "tmpfs")

    process.sweep(str(tmp_path))

    assert not [one for one in procfs.mounts() if one.target == str(inside)]
    assert not os.path.exists(tmp_path)
