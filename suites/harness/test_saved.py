"""`startkit judge`: evidence of last week, judged without an engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import msgspec
import offline
import pytest

from startkit import cli
from startkit.judge.dialect import Dialect, Lack
from startkit.report import result
from startkit.report.offline import judged

DEFECT = "runtime.delete.created"


def evidence(tmp_path, **changes):
    """Write the reference with something changed; return its path as a word."""
    seen = msgspec.structs.replace(offline.reference(), **changes)
    result.write(tmp_path / "evidence.json", seen)
    return str(tmp_path / "evidence.json")


def without(names, dropped):
    return {name: one for name, one in names.items() if name not in dropped}


def built_without(what):
    lack = Lack(what=what, reason="it is built otherwise", evidence="ps")
    return Dialect(format=1, name="e-1", engine="e", version="1", lack=[lack])


def test_a_stranger_that_conforms_is_exit_0(tmp_path, capsys):
    assert cli.main(["judge", evidence(tmp_path, engine="stranger")]) == 0

    said = capsys.readouterr().out
    assert f"judged by {len(offline.CLAUSES)} clauses, no dialect" in said
    assert said.endswith("exit 0: as expected\n")


def test_what_is_not_as_expected_is_told_with_its_evidence(tmp_path, capsys):
    # the dialect of our engine has an entry that the reference does not bear out
    path = evidence(tmp_path)

    assert cli.main(["judge", path]) == 1

    said = capsys.readouterr().out
    assert said.startswith(f"{DEFECT} [MUST]")
    assert f"  evidence  {path}\n" in said


def test_a_lesser_level_counts_when_strict(tmp_path):
    scene = offline.reference().scenes["plain"]
    moved = msgspec.structs.replace(
        scene, containerd=msgspec.structs.replace(scene.containerd, argv=["other"])
    )
    scenes = offline.reference().scenes | {"plain": moved}
    path = evidence(tmp_path, engine="stranger", scenes=scenes)

    assert [cli.main(["judge", path]), cli.main(["judge", path, "--strict"])] == [0, 1]


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    path = evidence(tmp_path, engine="stranger")
    words = [sys.executable, "-m", "startkit.cli", "judge", path]
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "wb") as output:
        own = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        ran = subprocess.run(words, env=own, stdout=output, stderr=subprocess.PIPE, check=False)

    assert (ran.returncode, ran.stderr) == (141, b"")


def test_results_are_written_where_they_are_wanted(tmp_path):
    path = evidence(tmp_path, engine="stranger")
    cli.main(["judge", path, "--results", str(tmp_path / "again")])

    written = result.read(tmp_path / "again")

    assert [one.clause for one in written.verdicts] == list(offline.CLAUSES)
    assert (tmp_path / "again" / "evidence.json").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"format": 99, "scenes": 3}', "format 99, this reads format 1"),
        ('{"target": "x"}', "missing required field `format`"),
        ('{"format": 1, "target": "x"}', "missing required field"),
        ('{"format": 1, "tar', "truncated"),
        ("", "truncated"),
        (None, "No such file"),
    ],
    ids=["version", "no-version", "other", "cut", "empty", "absent"],
)
def test_what_is_no_evidence_is_one_line_and_exit_2(tmp_path, capsys, text, says):
    path = tmp_path / "evidence.json"
    if text is not None:
        path.write_text(text)

    assert cli.main(["judge", str(path)]) == 2

    line = capsys.readouterr().err
    assert (says in line, str(path) in line, line.count("\n")) == (True, True, 1)


def test_of_an_engine_without_trials_no_runtime_is_judged():
    seen = msgspec.structs.replace(offline.reference(), trials={})

    assert {one.area for one in judged(offline.CLAUSES, seen).values()} == {
        clause.area for clause in offline.CLAUSES.values()
    } - {"runtime"}


def test_what_a_lost_worker_took_along_is_no_evidence_and_not_broken():
    seen = offline.reference()
    lost = msgspec.structs.replace(
        seen, scenes=without(seen.scenes, ["tty"]), trials=without(seen.trials, ["hooks"])
    )
    found = offline.verdicts(lost).values()
    silent = {one.scene for one in found if one.status == "no-evidence"}

    assert silent == {"tty", "hooks"}
    assert {one.status for one in found} == {"conforms", "no-evidence"}


def test_what_is_refused_is_seen_and_differs():
    seen = offline.reference()
    told = seen.scenes["readonly"]
    start = msgspec.structs.replace(told.answers["start"], status=500, body={"message": "no"})
    scene = msgspec.structs.replace(told, answers={**told.answers, "start": start}, moments={})
    trial = seen.trials["propagation"]
    create = msgspec.structs.replace(trial.calls["create"], status=1, said="no")
    trial = msgspec.structs.replace(trial, calls={"create": create}, glimpses={}, output="")
    refused = msgspec.structs.replace(
        seen,
        scenes={**seen.scenes, "readonly": scene},
        trials={**seen.trials, "propagation": trial},
    )
    found = {one.clause: one for one in offline.verdicts(refused).values()}

    differing = {one.scene for one in found.values() if one.status == "differs"}
    assert differing == {"readonly", "propagation"}
    assert {one.status for one in found.values()} == {"conforms", "differs"}
    assert found["runtime.devices.fifo"].observed == "refused: create: no"
    assert found["rootfs.read-only"].observed.startswith(
        "refused: POST /containers/{id}/start: 500"
    )


def test_a_mount_that_is_not_there_is_seen_and_differs():
    seen = offline.reference()
    trial = seen.trials["inherited"]
    trial = msgspec.structs.replace(trial, output="== mounts\ncat: no such file\n== ready\n")
    mountless = msgspec.structs.replace(seen, trials={**seen.trials, "inherited": trial})

    assert offline.verdict(offline.CLAUSES["runtime.mounts.proc"], mountless).observed == "absent"


def test_a_hook_that_was_told_nothing_is_seen_and_differs():
    seen = offline.reference()
    trial = seen.trials["hooks"]
    trial = msgspec.structs.replace(trial, files={**trial.files, "poststart.state": ""})
    silent = msgspec.structs.replace(seen, trials={**seen.trials, "hooks": trial})

    assert offline.verdict(offline.CLAUSES["runtime.hooks.state"], silent).status == "differs"


def test_the_trials_of_workers_become_one():
    seen = offline.reference()
    names = sorted(seen.trials)
    parts = [
        msgspec.structs.replace(seen, trials=without(seen.trials, dropped))
        for dropped in (names[:9], names[9:])
    ]

    assert list(result.merge(parts).trials) == names


def test_more_than_2000_verdicts_come_in_a_second():
    seen = offline.reference()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = offline.verdicts(seen)
        times.append(time.perf_counter() - start)

    assert len(found) / min(times) > 2000


def test_a_clause_about_what_an_engine_is_built_without_does_not_apply():
    clause = msgspec.structs.replace(offline.CLAUSES["containerd.name"], needs=["containerd"])
    seen = offline.reference()
    scene = msgspec.structs.replace(seen.scenes[clause.scene], containerd=None)
    bare = msgspec.structs.replace(seen, scenes={clause.scene: scene})
    said = built_without("containerd")

    verdict = offline.verdict(clause, bare, said)

    assert (verdict.status, verdict.reason) == (
        "not-applicable",
        "no containerd: it is built otherwise",
    )
    assert offline.verdict(clause, bare).status == "no-evidence"
    assert offline.verdict(clause, seen, said).status == "stale"
    assert offline.verdict(clause, seen, built_without("fifos")).status == "conforms"
