"""The files of golden/ and of a run obey their schemas, and the schemas their types."""

from __future__ import annotations

import json
import tomllib

import jsonschema_rs
import msgspec
import offline
import pytest
import schemas

from startkit.judge.golden import FORMAT
from startkit.report.result import Header, Result, count

GOLDEN = offline.GOLDEN
FILES = {
    "article": [GOLDEN / "article" / "index.toml"],
    "clause": sorted((GOLDEN / "clauses").glob("*.toml")),
    "dialect": sorted((GOLDEN / "dialects").glob("*.toml")),
    "scenes": [GOLDEN / "scenes.toml"],
    "bundles": [GOLDEN / "bundles.toml"],
    "evidence": [offline.REFERENCE],
}
PAIRS = [(name, path) for name, paths in FILES.items() for path in paths]
# a document of each kind with one thing wrong
WRONG = {
    "article": {"format": FORMAT, "listing": []},
    "clause": {"format": FORMAT, "area": "io", "clause": [{"id": "io.x", "level": "MAY"}]},
    "dialect": {"format": FORMAT, "name": "x", "engine": "x", "version": "1", "defects": []},
    "scenes": {"format": FORMAT, "scene": [{"name": "x", "creates": {}}]},
    "bundles": {"format": FORMAT, "bundle": [{"name": "x"}]},
    "evidence": {"format": 1, "target": "x"},
    "result": {"header": {}, "verdicts": [], "notes": [], "exit": "0", "counts": {}},
    "matrix": {"startkit": "0", "exit": 0, "columns": [], "rows": [{"clause": "io.x"}]},
}


def validator(name):
    document = json.loads((schemas.PLACE / f"{name}.json").read_text())
    return jsonschema_rs.validator_for(document)


def read(path):
    text = path.read_text()
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)


@pytest.mark.parametrize("name", schemas.TYPES)
def test_a_schema_is_the_one_of_its_type(name):
    assert (schemas.PLACE / f"{name}.json").read_text() == schemas.text(name)


def test_no_other_schema_lies_there():
    assert {path.stem for path in schemas.PLACE.iterdir()} == set(schemas.TYPES)


@pytest.mark.parametrize("name", schemas.TYPES)
def test_a_schema_is_sound_and_refuses_what_is_wrong(name):
    jsonschema_rs.meta.validate(json.loads(schemas.text(name)))

    assert not validator(name).is_valid(WRONG[name])


@pytest.mark.parametrize(("name", "path"), PAIRS, ids=[path.name for _, path in PAIRS])
def test_a_file_obeys_its_schema(name, path):
    assert [error.message for error in validator(name).iter_errors(read(path))] == []


def test_a_runs_verdicts_obey_their_schema():
    verdicts = list(offline.verdicts(offline.reference()).values())
    header = Header(
        target="t-1",
        engine="t",
        version="1",
        dialect=None,
        kernel="6",
        strict=False,
        taken="2026-11-24T00:00:00Z",
        startkit="0",
    )
    result = Result(header=header, verdicts=verdicts, notes=[], exit=0, counts=count(verdicts))
    document = json.loads(msgspec.json.encode(result))

    assert [error.message for error in validator("result").iter_errors(document)] == []


@pytest.mark.parametrize("path", [path for _, path in PAIRS], ids=lambda path: path.name)
def test_every_file_carries_the_format(path):
    assert read(path)["format"] == FORMAT
