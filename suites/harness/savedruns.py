"""Runs of the suite as they lie in a directory, made up for the tests of the matrix."""

from __future__ import annotations

import offline

from startkit.judge.dialect import load_dialects
from startkit.judge.verdict import Verdict
from startkit.matrix.table import OUTPUT
from startkit.report import result

PODMAN = load_dialects(offline.GOLDEN)["podman-4.3"]
LACKING = next(f"no {one.what}: {one.reason}" for one in PODMAN.lack if one.what == "containerd")
CONFORMING = offline.verdicts(offline.reference())
FEW = list(offline.CLAUSES)[::9]  # of each area some


def write(place, *, red=(), of=CONFORMING, notes=(), code=0, **header):
    """Write a run in which all conforms but `red`: (clause, status, observed, reason) each.

    `of`: the clauses, as long as they are of what is judged: of a runtime, whose name has `run`.
    """
    verdicts = {
        name: CONFORMING[name]
        for name in of
        if name.startswith("runtime.") == ("run" in place.name)
    }
    for clause, status, observed, reason in red:
        verdicts[clause] = Verdict(
            clause=clause, status=status, expected="x", observed=observed, reason=reason, scene="s"
        )
    told = {"engine": "e", "version": "1", "dialect": None, "kernel": "6.1", "cgroup": "v1"}
    found = list(verdicts.values())
    document = result.Result(
        header=result.Header(
            target=place.name, strict=False, taken="2026-11-24T00:00:00Z", startkit="0",
            **told | header,
        ),
        verdicts=found,
        notes=list(notes),
        exit=code,
        counts=result.count(found),
    )  # fmt: skip
    result.write_whole(place / "results.jsonl", result.lines(document))
    return place


def nothing(place, said):
    """Write what a run of the matrix leaves that could not judge anything."""
    result.write_whole(place / OUTPUT, f"{said}\n\nexit 2\n".encode())
    return place
