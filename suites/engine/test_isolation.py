"""Daemons beside each other, who may look into their places, and people without root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from startkit.daemon import cgroup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BODY = {"Image": "startkit/base", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
PROGRAMS = Path(sys.executable).parent
CLONE = Path(__file__).parents[2]
OTHER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NOBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


def started(engine, name):
    """Create and start a container; return its id."""
    made = engine.api.post("/containers/create", BODY, name=name)
    assert made.status == 201, made.message
    assert engine.api.post(f"/containers/{made.json()['Id']}/start").status == 204
    return made.json()["Id"]


def listed(engine):
    return [row["Id"] for row in engine.api.get("/containers/json", all=True).json()]


def actions(engine, since):
    """Return the ids in the engine's events."""
    told = engine.api.get("/events", since=f"{since:.9f}", until=f"{time.time():.9f}").body
    return set(re.findall(r"[0-9a-f]{64}", told.decode()))


def test_two_daemons_do_not_see_each_other(make_engine):
    since = time.time()
    one, other = make_engine(), make_engine()
    ids = [started(engine, "same-name") for engine in (one, other)]

    assert [listed(one), listed(other)] == [ids[:1], ids[1:]]
    assert [actions(one, since) & {*ids}, actions(other, since) & {*ids}] == [{ids[0]}, {ids[1]}]
    assert other.api.get(f"/containers/{ids[0]}/json").status == 404
    assert {Path(path).name for path in one.cgroups()} == {ids[0]}

    assert one.down() == 0

    assert other.state(ids[1])["Running"]
    assert {Path(path).name for path in other.cgroups()} == {ids[1]}


@pytest.fixture
def parent():
    """Give the name of a cgroup, which is not there afterwards."""
    name = f"startkit-tests-{os.getpid()}-shared"
    yield name
    for point in cgroup.hierarchies():
        if (point / name).exists():
            (point / name).rmdir()


def test_a_daemon_removes_the_parents_that_it_made_and_no_others(make_engine, parent):
    point = cgroup.hierarchies()[0]
    (point / parent).mkdir()
    engine = make_engine("--cgroup-parent", f"/{parent}")
    started(engine, "one")
    made = [place for place in cgroup.hierarchies() if (place / parent).exists()]

    engine.down()

    assert point in made
    assert [place for place in made if (place / parent).exists()] == [point]


def modes(root):
    """Return name -> mode of what stands directly in a directory, and of itself."""
    paths = [root, *root.iterdir()]
    return {path.name: f"{path.stat().st_mode & 0o7777:04o}" for path in paths if path.is_dir()}


def test_nobody_else_can_look_into_a_daemon_s_directories(make_engine):
    engine = make_engine()

    assert modes(engine.root / "data") == {
        "data": "0711", "containers": "0700", "image": "0700", "overlay2": "0700", "tmp": "0700",
    }  # fmt: skip
    assert set(modes(engine.root / "exec").values()) == {"0700"}
    sockets = [Path(engine.socket), *(engine.root / "exec").rglob("*.sock")]
    assert {path.stat().st_mode & 0o7777 for path in sockets} == {0o660}


def as_nobody(*argv, **more):
    """Run a program as a user without any privilege."""
    return subprocess.run(
        [*NOBODY, *argv], capture_output=True, text=True, check=False, timeout=60, **more
    )


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["startkit-dockerd", "--data-root", "d"], 1, "needs to be run as root"),
        (
            ["startkit-containerd", "-l", "unix:///proc/x/s", "--state-dir", "s"],
            1,
            "be run as root",
        ),
        (["startkit-containerd-shim"], 2, "want ID BUNDLE RUNTIME; containerd calls it"),
        (["startkit-runc", "create", "x"], 1, "config.json not found"),
        (["startkit-runc", "--root", "/sys/x", "state", "x"], 1, "does not exist"),
        (
            ["startkit", "explain", "-H", "unix:///proc/x/s", "x"],
            1,
            "watching an engine needs root",
        ),
        (["startkit", "bench", "start", "--runs", "1"], 1, "needs to be run as root"),
    ],
    ids=lambda word: "-".join(word[:2]).replace("/", "") if isinstance(word, list) else None,
)
def test_who_is_not_root_gets_one_line(tmp_path, words, status, line):
    program = shutil.which(words[0], path=PROGRAMS) or words[0]

    done = as_nobody(program, *words[1:], cwd=tmp_path)

    said = done.stdout + done.stderr
    assert (done.returncode, said.count("\n")) == (status, 1), said
    assert line in said
    assert list(tmp_path.iterdir()) == []


def test_who_is_not_root_cannot_connect(make_engine):
    path = make_engine().socket
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"

    done = subprocess.run(
        [*OTHER, "/usr/bin/python3", "-I", "-c", code], capture_output=True, text=True, check=False
    )

    assert done.stderr.splitlines()[-1] == "PermissionError: [Errno 13] Permission denied"


def judging(target, tmp_path, name, clone=CLONE):
    """Begin to judge a target with the clauses of one scene, from the suites of a clone."""
    command = [sys.executable, "-m", "pytest", "suites/conformance/test_lifecycle.py", "-q"]
    command += ["-p", "no:cacheprovider", "-k", "plain", "--vm=never"]
    command += [f"--target={target}", f"--results={tmp_path / name}"]
    said = (tmp_path / f"{name}.said").open("w")
    with said:
        return subprocess.Popen(
            [*command, f"--basetemp={tmp_path / name}-base"], cwd=clone, stdout=said, stderr=said,
            env={**os.environ, "PYTHONPATH": str(clone)},
        )  # fmt: skip


def test_two_runs_on_one_engine_do_not_meet(make_engine, tmp_path):
    engine = make_engine()
    engine.api.delete("/images/startkit/base:latest", force=True)

    runs = [judging(f"unix://{engine.socket}", tmp_path, name) for name in ("one", "other")]

    assert [run.wait(100) for run in runs] == [0, 0], (tmp_path / "other.said").read_text()
    assert (listed(engine), engine.api.get("/images/json").json()) == ([], [])


def test_two_clones_judge_an_engine_each_at_once(tmp_path):
    clones = [tmp_path / "clone-one", tmp_path / "clone-other"]
    for clone in clones:
        for part in ("startkit", "suites", "golden"):
            shutil.copytree(CLONE / part, clone / part)
        for name in ("pyproject.toml", "conftest.py"):
            shutil.copy(CLONE / name, clone)

    runs = [judging("startkit", tmp_path, clone.name, clone) for clone in clones]

    assert [run.wait(100) for run in runs] == [0, 0], (tmp_path / "clone-one.said").read_text()
    for clone in clones:
        assert (tmp_path / clone.name / "verdicts.json").exists()
