"""The suite's tests as plain functions: evidence in, verdicts out, no pytest, no engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from startkit.judge.clause import load_clauses
from startkit.judge.judge import UNSET, judge
from startkit.judge.needs import unmet
from startkit.judge.verdict import Verdict
from startkit.observe.view import NoEvidence
from startkit.targets.watch import load_evidence, view

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "golden"
SUITE = ROOT / "suites" / "conformance"
REFERENCE = Path(__file__).parent / "reference.json"


def modules():
    """Yield every test module of the suite, imported by path."""
    for path in sorted(SUITE.glob("test_*.py")):
        name = f"offline_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def marks():
    """Yield (clause id, area of the file, test function); a test without a clause has None."""
    for module in modules():
        area = module.__name__.removeprefix("offline_test_").partition("_")[0]
        for name, function in vars(module).items():
            if name.startswith("test_"):
                found = [one for one in getattr(function, "pytestmark", []) if one.name == "clause"]
                for mark in found or [None]:
                    yield (mark.args[0] if mark else None), area, function


CLAUSES = load_clauses(GOLDEN)
TESTS = {clause: function for clause, _, function in marks()}


def reference():
    """Return the evidence of a run in which every clause conformed."""
    return load_evidence(REFERENCE)


def verdicts(seen, dialect=None):
    """Return clause id -> verdict."""
    return {name: verdict(clause, seen, dialect) for name, clause in CLAUSES.items()}


def verdict(clause, seen, dialect=None):
    """Return one clause's verdict by calling its test."""
    if why := unmet(clause, seen):
        return nothing(clause, "not-applicable", why)
    seen_there = view(seen, clause.scene)
    made = []

    def expect(observed, *, want=UNSET):
        made.append(judge(clause, observed, dialect, want=want, names=seen_there.names()))

    try:
        TESTS[clause.id](seen_there, expect)
    except NoEvidence as error:
        return nothing(clause, "no-evidence", str(error))
    (only,) = made
    return only


def nothing(clause, status, reason):
    """Return a verdict that nobody judged."""
    return Verdict(
        clause=clause.id,
        status=status,
        expected=None,
        observed=None,
        reason=reason,
        scene=clause.scene,
    )
