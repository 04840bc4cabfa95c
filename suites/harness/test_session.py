"""A whole run of the suite, from the command line to the exit status."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import offline
import pytest

from startkit.observe.collect import host
from startkit.observe.evidence import FORMAT, Scene, Seen
from startkit.report import result

ROOT = Path(__file__).parents[2]


def suite(tmp_path, *words):
    """Run the conformance suite in a process of its own."""
    argv = [sys.executable, "-m", "pytest", "suites/conformance", "-p", "no:cacheprovider", "-q"]
    where = [f"--results={tmp_path / 'results'}", f"--basetemp={tmp_path / 'base'}"]
    return subprocess.run(
        [*argv, *where, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )


def begin(tmp_path, *words):
    """Start the suite as the leader of a session of its own; it is still to be waited for."""
    argv = [sys.executable, "-m", "pytest", "suites/conformance", "-p", "no:cacheprovider", "-q"]
    return subprocess.Popen(
        [*argv, f"--results={tmp_path / 'results'}", *words],
        cwd=ROOT,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def on_a_terminal(tmp_path, *words):
    """Run the suite with a terminal as its output; return what it wrote there."""
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", "pytest", "suites/conformance", "-p", "no:cacheprovider"]
    where = f"--results={tmp_path / 'results'}"
    child = subprocess.Popen(
        [*argv, where, *words], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while piece := os.read(ours, 65536):
            said += piece
    os.close(ours)
    child.wait()
    return said.decode()


def evidence(tmp_path, **scenes):
    """Write evidence in which next to nothing was seen."""
    seen = Seen(
        format=FORMAT,
        target="t-1",
        engine="t",
        version="1",
        info={},
        host=host(),
        scenes={name: Scene(name=name, recipe={}, broken=why) for name, why in scenes.items()},
    )
    result.write(tmp_path / "evidence.json", seen)
    return f"--evidence={tmp_path}"


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize(
    ("word", "line"),
    [
        (
            "--target=nobody",
            "Exit: no target 'nobody': unix:///PATH, or one of docker, podman, startkit",
        ),
        ("--evidence=/nowhere", "No such file or directory"),
    ],
    ids=["target", "evidence"],
)
def test_bad_usage_is_one_line_and_exit_2(tmp_path, workers, word, line):
    ran = suite(tmp_path, word, workers)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert line in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_evidence_of_nothing_is_exit_3_and_no_red_clause(tmp_path, workers):
    ran = suite(tmp_path, evidence(tmp_path, plain="the engine hung"), workers)

    assert ran.returncode == 3
    assert "exit 3: nothing was judged" in ran.stdout
    assert "FAILED" not in ran.stdout


def test_a_socket_that_is_not_there_is_named_once_and_exit_3(tmp_path):
    ran = suite(tmp_path, f"--target=unix://{tmp_path}/api.sock")

    assert ran.returncode == 3
    assert f"exit 3: nothing was judged: socket: not here: {tmp_path}/api.sock" in ran.stdout


def test_a_runtime_that_is_not_there_is_named_once_and_exit_3(tmp_path):
    ran = suite(tmp_path, "--runtime=no-such-runtime")

    assert ran.returncode == 3
    assert "exit 3: nothing was judged: no-such-runtime: not here" in ran.stdout
    assert "Traceback" not in ran.stdout
    assert "ERROR" not in ran.stdout


def test_a_person_sees_a_bar_and_no_dots(tmp_path):
    said = on_a_terminal(tmp_path, evidence(tmp_path, plain="the engine hung"))
    total = len(result.read(tmp_path / "results").verdicts)
    first, *others = said.split("\x1b[K")[:-1]

    assert first.split()[-2] == f"1/{total}"
    for number, piece in enumerate(others, 2):  # one over the other, and nothing between
        assert re.fullmatch(rf"\r[^\r\n]* {number}/{total} \w+", piece)


def test_a_run_writes_evidence_verdicts_and_reports(tmp_path):
    ran = suite(tmp_path, evidence(tmp_path, plain="the engine hung"), "-n2")
    assert "\x1b[K" not in ran.stdout  # a bar is for people

    written = result.read(tmp_path / "results")

    statuses = {one.status for one in written.verdicts}

    assert {"no-evidence"} == statuses - {"not-applicable"}  # where the host has no cgroup v1
    assert "the engine hung" in {one.reason for one in written.verdicts}
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "ctrf.json",
        "evidence.json",
        "junit.xml",
        "report.html",
        "results.jsonl",
        "verdicts.json",
    ]
    told = json.loads((tmp_path / "results" / "ctrf.json").read_text())["results"]
    assert told["summary"]["tests"] == len(written.verdicts) == len(told["tests"])


KILLER = """
import os
from pathlib import Path

def pytest_runtest_call(item):
    place = Path(__file__).with_name(item.originalname)
    if place.exists() and (left := place.read_text()):
        place.write_text(left[1:])
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("workers", "times", "code"), [("-n2", 1, 0), ("-n1", 3, 3)])
def test_what_a_lost_worker_was_at_runs_once_more(tmp_path, monkeypatch, workers, times, code):
    (tmp_path / "killer.py").write_text(KILLER)
    kills = tmp_path / "test_the_host_name_has_the_domain"
    kills.write_text("x" * times)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    few = ["-k", "host_name or hostname or only_root or read_only or user", "-p", "killer"]

    ran = suite(tmp_path, f"--evidence={offline.REFERENCE}", workers, *few)

    verdicts = {one.clause: one for one in result.read(tmp_path / "results").verdicts}
    lost = verdicts.pop("bundle.hostname.domain")
    assert {one.status for one in verdicts.values()} == {"conforms"}
    assert (ran.returncode, lost.status) == (code, "broken" if code else "conforms")
    place = "suites/conformance/test_bundle.py::test_the_host_name_has_the_domain[hostname]"
    assert f"a worker was lost in {place} and replaced\n" in ran.stdout
    assert ("crashed while running" in lost.reason) == bool(code)
    assert len(kills.read_text()) == max(times - 2, 0)


def test_of_two_runs_at_once_into_one_directory_one_is_refused(tmp_path):
    few = [f"--evidence={offline.REFERENCE}", "-n2", "-k", "hostname"]
    one = begin(tmp_path, *few)
    try:
        line = one.stdout.readline()  # it has begun
        one.send_signal(signal.SIGSTOP)
        other = suite(tmp_path, *few)
    finally:
        one.send_signal(signal.SIGCONT)
        said, _ = one.communicate(timeout=100)

    assert other.returncode == 2
    assert f"{tmp_path}/results: another run writes its results there" in other.stderr
    assert len(other.stderr.splitlines()) == 1
    assert one.returncode == 0, line + said
    assert result.read(tmp_path / "results").exit == 0
