"""Targets: found by a word, started by a recipe, ended without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from startkit import kernel
from startkit.observe import cgroups, collect, procfs
from startkit.targets import guest, process
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
    assert [find_target(name).name for name in ("docker", "podman")] == ["docker", "podman"]


def test_an_unknown_word_is_answered_with_the_known_ones():
    with pytest.raises(TargetError, match="docker, podman, startkit"):
        find_target("nobody")


def test_a_recipe_with_an_unknown_key_is_refused(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "m"\nstart = []\nready = ""\nneed = []\n')

    with pytest.raises(TargetError, match="need"):
        find_target(str(recipe))


def test_what_is_not_installed_is_named():
    assert engine("", needs=["no-such-program", "sh"]).missing() == ["no-such-program"]


def test_a_recipes_files_are_there_before_its_program(tmp_path):
    code = "raise SystemExit(open('etc/e.conf').read())"
    started = Engine(
        name="e",
        start=["env", "-C", "{root}", sys.executable, "-c", code],
        ready="{root}/api.sock",
        files={"etc/e.conf": "{root} stays"},
    )

    with pytest.raises(TargetError, match=r"{root} stays$"):
        started.running(tmp_path).__enter__()


def test_an_engine_that_ends_at_once_is_quoted(tmp_path):
    started = engine("raise SystemExit('disk on fire')")

    with pytest.raises(TargetError, match=r"^e did not come up: ended with 1: disk on fire$"):
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


@pytest.fixture
def hierarchy():
    """Give a place where a v1 hierarchy would be mounted that this host has not."""
    if guest.TOP in cgroups.hierarchies().values():
        pytest.skip("not-applicable: the host has cgroup v2 alone")
    place = os.path.join(guest.TOP, f"test-{os.getpid()}")
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_a_guest_takes_away_what_podman_leaves_where_no_hierarchy_is(hierarchy):
    one = guest.Guest(None)
    os.makedirs(f"{hierarchy}/libpod_parent/conmon")

    one.leave()

    assert not os.path.exists(hierarchy)


@pytest.mark.parametrize("alive", [True, False])
def test_a_guest_leaves_what_another_run_s_processes_are_in(hierarchy, alive):
    one = guest.Guest(None)
    os.makedirs(f"{hierarchy}/libpod_parent/conmon")
    child = subprocess.Popen(["sleep", "100"])
    with open(f"{hierarchy}/libpod_parent/conmon/cgroup.procs", "w") as book:
        book.write(str(child.pid))
    if not alive:
        child.kill()
        child.wait()

    try:
        one.leave()
    finally:
        child.kill()
        child.wait()

    assert os.path.exists(hierarchy) is alive


def test_an_engine_s_start_and_its_image_fit_into_a_test_s_time(pytestconfig):
    limit_s = float(pytestconfig.getini("timeout"))

    assert limit_s - 10 > process.READY_S + collect.LOAD_S


@pytest.mark.parametrize("there", ["libpod_parent", "other"])
def test_a_guest_leaves_what_was_there_or_is_nobodys(hierarchy, there):
    before = guest.Guest(None) if there == "other" else None
    os.makedirs(f"{hierarchy}/{there}")

    (before or guest.Guest(None)).leave()

    assert os.path.exists(hierarchy)


def test_a_guest_removes_traces_that_were_not_there(tmp_path, monkeypatch):
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    monkeypatch.setattr(guest, "TRACES", (str(new / "cache"), str(new), str(old)))
    one = guest.Guest(None)
    new.mkdir()
    (new / "cache").touch()

    one.leave()

    assert [path.name for path in tmp_path.iterdir()] == ["old"]
