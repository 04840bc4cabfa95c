"""golden/schema/*.json as the types of judge, observe and report make them.

`python suites/harness/schemas.py` writes them anew. A test compares, so that whoever
reads `golden/` in another language can trust them.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from startkit.judge.clause import ClauseFile
from startkit.judge.dialect import Dialect
from startkit.judge.listing import Index
from startkit.matrix.table import Matrix
from startkit.observe.evidence import Seen
from startkit.observe.life import Recipe  # noqa: TC001 - msgspec reads the annotation
from startkit.observe.trials import attempt  # noqa: TC001 - msgspec reads the annotation
from startkit.report.result import Result

PLACE = Path(__file__).parents[2] / "golden" / "schema"
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class Bundles(msgspec.Struct, frozen=True, kw_only=True):
    """golden/bundles.toml."""

    format: int
    bundle: list[attempt.Recipe]


class Scenes(msgspec.Struct, frozen=True, kw_only=True):
    """golden/scenes.toml."""

    format: int
    scene: list[Recipe]


TYPES = {
    "article": Index,
    "clause": ClauseFile,
    "dialect": Dialect,
    "scenes": Scenes,
    "bundles": Bundles,
    "evidence": Seen,
    "result": Result,
    "matrix": Matrix,
}


def text(name):
    """Return one schema as it stands in its file."""
    document = {"$schema": DRAFT, **msgspec.json.schema(TYPES[name])}
    clause = document["$defs"].get("Clause", {"properties": {}})
    clause["properties"].pop("expected", None)  # set when a file is read, never in one
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in TYPES:
        (PLACE / f"{name}.json").write_text(text(name))
