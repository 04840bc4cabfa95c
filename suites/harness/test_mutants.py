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


def test_every_mutant_is_named_by_a_clause():
    assert MUTANTS.keys() - NAMED.keys() == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_changes_the_engine_and_can_be_read_by_python(name, tmp_path):
    mutants.make(name, MUTANTS[name], tmp_path)

    for change in MUTANTS[name].changes:
        path = tmp_path / "startkit" / change.file
        compile(path.read_text(), path, "exec")
        assert path.read_text() != (offline.ROOT / "startkit" / change.file).read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "judge/judge.py", "old": "judge", "new": ""}, "not of the engine"),
        ({"file": "daemon/files.py", "old": "never there", "new": ""}, "found 0 times"),
        ({"file": "daemon/files.py", "old": "return", "new": ""}, "not once"),
    ],
)
def test_a_mutant_that_cannot_be_made_is_refused(change, said, tmp_path):
    with pytest.raises(mutants.MutantError, match=said):
        mutants.make("x", mutants.Mutant(changes=[mutants.Change(**change)]), tmp_path)


@pytest.mark.parametrize(
    ("red", "status", "sharp"),
    [
        (["a"], "killed", True),
        (["a", "b", "c", "d"], "killed", False),
        (["b"], "another", False),
        ([], "alive", False),
    ],
)
def test_an_outcome_says_who_saw_it(red, status, sharp):
    outcome = mutants.Outcome(name="x", clause="a", red=red)

    assert (outcome.status, outcome.sharp) == (status, sharp)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("busybox"), reason="needs root and busybox-static"
)
@pytest.mark.parametrize("name", FEW)
def test_a_wrong_engine_turns_its_clause_red(name):
    assert mutants.run(name, NAMED[name], MUTANTS[name]).sharp
