"""`startkit matrix`: runs of the suite gathered into one table, and told in three ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import jsonschema_rs
import offline
import pytest
import savedruns
import schemas

from startkit import cli
from startkit.matrix import run, table, text
from startkit.vm import CGROUPS
from startkit.vm.image import RELEASES

DEFECT = "lifecycle.missing.exit-code"
LACK = "containerd.parent"
DIFFERENCE = "bundle.place"
PODMAN = [
    (DEFECT, "expected-difference", 0, "r"),
    (LACK, "not-applicable", None, savedruns.LACKING),
    (DIFFERENCE, "expected-difference", "elsewhere", "r"),
]


@pytest.fixture
def runs(tmp_path):
    """Write three runs, two of which saw the same."""
    for name in ("podman", "podman@sid"):
        savedruns.write(tmp_path / name, red=PODMAN, dialect="podman-4.3", engine="podman")
    savedruns.write(tmp_path / "runc", engine="runc")
    savedruns.write(tmp_path / "docker", red=[(DIFFERENCE, "differs", "<b>|*", "")], code=1)
    return tmp_path


def build(*places):
    return table.build(places, offline.GOLDEN)


def command(*words):
    return cli.main(["matrix", *map(str, words)])


def outcomes(matrix, clause):
    return next(one.outcomes for one in matrix.rows if one.clause == clause)


def test_an_outcome_that_targets_share_stands_once(runs):
    made = build(runs / "docker", runs / "podman", runs / "podman@sid")

    assert [one.targets for one in outcomes(made, DIFFERENCE)] == [
        ["docker"], ["podman", "podman@sid"],
    ]  # fmt: skip
    assert [one.targets for one in outcomes(made, "bundle.mode")] == [
        ["docker", "podman", "podman@sid"]
    ]


@pytest.mark.parametrize(
    ("clause", "kind", "linked"),
    [(DEFECT, "defect", True), (DIFFERENCE, "difference", False), (LACK, "lack", False)],
)
def test_what_differs_has_the_dialects_reason(runs, clause, kind, linked):
    (_, one) = outcomes(build(runs / "docker", runs / "podman"), clause)

    assert (one.why.kind, bool(one.why.reason)) == (kind, True)
    assert one.why.link.startswith("https://") == linked


def test_a_clause_that_the_host_leaves_out_is_no_lack_of_the_engine(tmp_path):
    red = [(LACK, "not-applicable", None, "the host has no cgroup v1")]

    made = build(savedruns.write(tmp_path / "podman", red=red, dialect="podman-4.3"))

    assert outcomes(made, LACK)[0].why is None


def test_engines_and_runtimes_stand_apart(runs):
    made = build(runs / "docker", runs / "runc", runs / "podman")
    found = [([one.target for one in columns], len(rows)) for columns, rows in table.sections(made)]
    runtime = sum(one.area == "runtime" for one in offline.CLAUSES.values())

    assert found == [
        (["docker", "podman"], len(offline.CLAUSES) - runtime), (["runc"], runtime),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("codes", "status"), [((0, 0), 0), ((0, 1), 1), ((1, 3), 3)], ids=["good", "differs", "broken"]
)
def test_the_exit_status_is_the_worst_of_the_suites(tmp_path, codes, status):
    places = [
        savedruns.write(tmp_path / name, code=code) for name, code in zip("ab", codes, strict=True)
    ]

    assert build(*places).exit == status


def test_a_run_that_failed_beside_its_verdicts_is_told(tmp_path):
    place = savedruns.write(tmp_path / "docker")
    (place / table.OUTPUT).write_text("ERROR at teardown\n\nexit 1\n")

    made = build(place)

    said = "exit 1: something else failed, see output.txt"
    assert (made.exit, made.columns[0].notes) == (1, [said])
    assert said in text.last_line(made)


def test_what_was_not_seen_is_told(tmp_path):
    red = [(DIFFERENCE, "no-evidence", None, "no answer in time")]

    made = build(savedruns.write(tmp_path / "docker", red=red, code=3))

    assert text.last_line(made) == "exit 3: docker: 1 without evidence"


def absent(place):
    """Return a run each that judged nothing, by the way in which it did not, and what it says."""
    yield (
        savedruns.nothing(place / "docker@sid", "Exit: no root: run startkit vm image sid"),
        ("no root: run startkit vm image sid"),
    )
    red = [(name, "no-evidence", None, "crun: not here") for name in savedruns.CONFORMING]
    yield (
        savedruns.write(place / "crun", of=[], red=red, notes=["in machines"], code=3),
        ("crun: not here"),
    )
    cut = savedruns.write(place / "runc")
    whole = (cut / "results.jsonl").read_bytes()
    (cut / "results.jsonl").write_bytes(whole[: len(whole) // 2])
    yield cut, "no footer: the run did not come to its end"


@pytest.mark.parametrize("number", [0, 1, 2], ids=["usage", "no-evidence", "cut-off"])
def test_a_target_that_was_not_judged_is_a_column_that_says_why(tmp_path, capsys, number):
    place, said = list(absent(tmp_path / "runs"))[number]
    savedruns.write(tmp_path / "docker")

    status = command("--from", place, tmp_path / "docker", "--results", tmp_path / "out")

    assert status == 3
    told = [capsys.readouterr().out, *(
        (tmp_path / "out" / f"matrix.{kind}").read_text() for kind in ("md", "html", "json")
    )]  # fmt: skip
    assert all(said in one and place.name in one for one in told)
    assert build(place).rows == []


def test_the_three_files_tell_the_same_and_obey_their_schema(runs, capsys):
    assert command("--from", runs, "--results", runs / "out") == 1

    document = json.loads((runs / "out" / "matrix.json").read_text())
    schema = json.loads((schemas.PLACE / "matrix.json").read_text())
    jsonschema_rs.validator_for(schema).validate(document)
    assert [one["target"] for one in document["columns"]] == [
        "docker", "podman", "runc", "podman@sid",
    ]  # fmt: skip
    markdown = (runs / "out" / "matrix.md").read_text()
    row = next(one for one in markdown.splitlines() if f"| {DIFFERENCE} |" in one)
    assert row.split(" | ")[-4:] == ["✗", "≠", "≠", "heading bundle |"]
    assert r"docker: \<b\>\|\*, differs" in markdown
    said = capsys.readouterr().out
    assert f"{DIFFERENCE} ✗ ≠ ≠" in " ".join(said.split())
    assert "exit 1: docker: 1 differs" in said


def test_each_target_of_the_default_list_can_be_named():
    for name, place in run.known().items():
        word, _, release = name.partition("@")

        assert release in ("", *RELEASES)
        assert place.cgroup in ("", *CGROUPS)
        assert bool(place.cgroup and place.why) == bool(release)
        assert table.is_runtime(name) == (word in ("runc", "crun"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "/nowhere"], "/nowhere: no run of the suite"),
        (["docker", "--from", "/nowhere"], "name no targets"),
        (["/usr/sbin/runc", "runc"], "two targets of one name: runc"),
        (["docker", "--jobs", "0"], "--jobs 0: want 1 or more"),
    ],
)
def test_bad_words_are_one_line_and_exit_2_before_anything_is_made(tmp_path, capsys, words, said):
    assert command(*words, "--results", tmp_path / "out") == 2

    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_are_started_as_the_suite_is_and_say_why_they_cannot(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = savedruns.write(tmp_path / "out" / "docker@sid")

    assert command("docker@sid", "no-such-runtime", "-j", 2, "--results", tmp_path / "out") == 3

    said = capsys.readouterr().out
    assert "docker@sid: not judged: --vm always: no kernel" in said
    assert "no-such-runtime: not judged: no-such-runtime: not here" in said
    assert not (old / "results.jsonl").exists()


def test_whoever_ends_a_matrix_ends_its_runs(tmp_path):
    argv = [sys.executable, "-m", "startkit.cli", "matrix", "startkit", "--results", str(tmp_path)]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    while not named(tmp_path) - {child.pid}:
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)

    assert child.wait(60) == 128 + signal.SIGTERM
    assert named(tmp_path) == set()


def named(place):
    """Return the processes whose command line names a directory."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if str(place).encode() in file.read():
                    found.add(int(pid))
        except OSError:
            continue
    return found


def test_every_kind_of_outcome_has_a_mark_of_its_own():
    assert len(set(text.MARKS.values())) == len(text.MARKS) == len(text.MEANINGS)
