"""The suite's tests on saved evidence, for the tests here: no pytest run, no engine."""

from __future__ import annotations

from pathlib import Path

from startkit.judge.clause import load_clauses
from startkit.report import offline
from startkit.targets.watch import load_evidence, view

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden"
SUITE = ROOT / "suites" / "conformance"
REFERENCE = Path(__file__).parent / "reference.json"
CLAUSES = load_clauses(GOLDEN)
MARKS = list(offline.marks(SUITE))
TESTS = {clause: function for clause, _, function in MARKS}


def reference():
    """Return the evidence of a run in which every clause conformed."""
    return load_evidence(REFERENCE)


def verdicts(seen, dialect=None):
    """Return clause id -> verdict."""
    return {one.clause: one for one in offline.verdicts(CLAUSES, TESTS, seen, dialect)}


def verdict(clause, seen, dialect=None):
    """Return one clause's verdict."""
    return offline.verdict(clause, TESTS[clause.id], view(seen, clause.scene), dialect)
