"""The wrong engines as data; `startkit mutants` runs all of them, here it is three."""

from __future__ import annotations

import os
import shutil

import offline
import pytest

from startkit.learn import mutants

MUTANTS = mutants.load()
NAMED = mutants.wanted(offline.CLAUSES)
FEW = ("hash-with-newline", "hostname-without-newline", "add-host-swapped")


def test_every_clause_names_a_mutant_and_every_mutant_is_named_once():
    named = [clause.killed_by for clause in offline.CLAUSES.values()]

    assert sorted(named) == sorted(MUTANTS)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_changes_the_engine_in_places_that_are_there_once(name):
    for file, text in mutants.exchanged(name, MUTANTS[name]).items():
        compile(text, file, "exec")
        assert text != (offline.ROOT / "startkit" / file).read_text()


def test_a_mutant_is_made_in_a_copy(tmp_path):
    name = FEW[0]
    mutants.make(name, MUTANTS[name], tmp_path)

    for file, text in mutants.exchanged(name, MUTANTS[name]).items():
        assert (tmp_path / "startkit" / file).read_text() == text
    assert (tmp_path / "golden" / "scenes.toml").exists()


@pytest.mark.parametrize(
    ("file", "judged"), [("runtime/init.py", True), ("daemon/files.py", False)]
)
def test_a_runtime_that_is_not_changed_is_not_judged_alone(file, judged):
    change = mutants.Change(file=file, old="x", new="y")
    paths = mutants.tests(mutants.Mutant(changes=[change]))

    assert ("suites/conformance" in paths or any("runtime" in path for path in paths)) == judged


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "judge/judge.py", "old": "judge", "new": ""}, "not of the engine"),
        ({"file": "daemon/files.py", "old": "never there", "new": ""}, "found 0 times"),
        ({"file": "daemon/files.py", "old": "return", "new": ""}, "not once"),
    ],
)
def test_a_mutant_that_cannot_be_made_is_refused(change, said):
    with pytest.raises(mutants.MutantError, match=said):
        mutants.exchanged("x", mutants.Mutant(changes=[mutants.Change(**change)]))


@pytest.mark.parametrize(
    ("red", "status", "sharp"),
    [
        ({"a": "differs"}, "killed", True),
        ({"a": "stale"}, "killed", True),
        (dict.fromkeys("abcd", "differs"), "killed", False),
        ({"b": "differs"}, "another", False),
        ({"a": "no-evidence", "b": "differs"}, "another", False),
        ({"a": "no-evidence"}, "alive", False),
        ({}, "alive", False),
    ],
)
def test_an_outcome_says_who_saw_it(red, status, sharp):
    outcome = mutants.Outcome(name="x", clause="a", red=red)

    assert (outcome.status, outcome.sharp) == (status, sharp)


def test_the_sums_tell_each_area_what_killed_its_mutants():
    red = ({"a.x": "differs"}, {"a.y": "differs"}, {})
    outcomes = [mutants.Outcome(name="x", clause="a.x", red=one) for one in red]
    outcomes.append(mutants.Outcome(name="y", clause="b.x", red={"b.x": "stale"}))
    rows = [row.split() for row in mutants.sums(outcomes).splitlines()[1:]]

    assert rows == [
        ["a", "3", "1", "1", "1", "1"],
        ["b", "1", "1", "1", "0", "0"],
        ["all", "4", "2", "2", "1", "1"],
    ]


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("busybox"), reason="needs root and busybox-static"
)
@pytest.mark.parametrize("name", FEW)
def test_a_wrong_engine_turns_its_clause_red(name):
    assert mutants.run(name, NAMED[name], MUTANTS[name]).sharp
