"""One clause, one test; one area, one word, four places."""

from __future__ import annotations

import ast
import inspect

import offline
import pytest

from startkit.judge.golden import AREAS

MARKS = offline.MARKS
# an area's room in startkit/: the part of the engine that a student takes apart for it
ROOMS = {
    "lifecycle": "daemon/engine.py",
    "rootfs": "daemon/rootfs.py",
    "files": "daemon/files.py",
    "bundle": "daemon/bundle.py",
    "cgroup": "daemon/cgroup.py",
    "io": "daemon/io.py",
    "containerd": "containerd/__init__.py",
    "process": "shim/__init__.py",
    "runtime": "runtime/create.py",
}


def test_every_clause_has_one_test_and_every_test_one_clause():
    assert sorted(str(clause) for clause, _, _ in MARKS) == sorted(offline.CLAUSES)


def test_a_clause_is_tested_in_the_file_of_its_area():
    strays = [(clause, area) for clause, area, _ in MARKS if clause.partition(".")[0] != area]

    assert strays == []


def test_the_areas_are_the_same_in_four_places():
    clauses = {path.stem for path in (offline.GOLDEN / "clauses").iterdir()}
    files = offline.SUITE.glob("test_*.py")
    suite = {path.stem.removeprefix("test_").partition("_")[0] for path in files}
    ids = {clause.area for clause in offline.CLAUSES.values()}

    assert set(AREAS) == clauses == suite == ids == set(ROOMS)


@pytest.mark.parametrize("area", AREAS)
def test_an_area_has_a_room_in_the_engine(area):
    assert (offline.ROOT / "startkit" / ROOMS[area]).is_file()


def test_clauses_come_in_the_articles_order():
    areas = [clause.area for clause in offline.CLAUSES.values()]

    assert areas == sorted(areas, key=AREAS.index)


@pytest.mark.parametrize("function", [test for _, _, test in MARKS], ids=lambda f: f.__name__)
def test_a_test_judges_once_and_last(function):
    tree = ast.parse(inspect.getsource(function))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    judging = [call for call in calls if getattr(call.func, "id", "") == "expect"]

    assert list(inspect.signature(function).parameters) == ["seen", "expect"]
    assert len(judging) == 1
    assert judging[0] is tree.body[0].body[-1].value


@pytest.mark.parametrize("clause", offline.CLAUSES.values(), ids=lambda clause: clause.id)
def test_a_test_computes_what_its_clause_says_is_computed(clause):
    source = inspect.getsource(offline.TESTS[clause.id])

    assert ("want=" in source) == (clause.computed is not None)
