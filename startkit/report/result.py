"""verdicts.json and evidence.json: what a run leaves for programs and for later.

Rule: `counts` stands last in verdicts.json. A file that was cut off has none, and a
reader refuses it.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from startkit.judge.verdict import Verdict  # noqa: TC001 - msgspec reads the type

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from startkit.observe.evidence import Seen

FORMAT = 1


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Who was judged, by what, where."""

    format: int = FORMAT
    target: str
    engine: str
    version: str
    dialect: str | None
    kernel: str
    strict: bool
    taken: str
    startkit: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The content of verdicts.json."""

    header: Header
    verdicts: list[Verdict]
    notes: list[str]
    exit: int
    counts: dict[str, int]  # status -> number of verdicts


def count(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Return status -> number."""
    return {
        str(status): number
        for status, number in sorted(Counter(one.status for one in verdicts).items())
    }


def write(path: Path, document: msgspec.Struct) -> None:
    """Write a document as indented JSON: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    partial.replace(path)


def read(path: Path) -> Result:
    """Return a verdicts.json. Raises ValueError when it is cut off or counted wrong."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if result.counts != count(result.verdicts):
        raise ValueError(f"{path}: its counts are not those of its verdicts")
    return result


def merge(parts: Sequence[Seen]) -> Seen | None:
    """Return the evidence of all workers as one; who the target is, the first one says."""
    told = [part for part in parts if part.version] or list(parts)
    if not told:
        return None
    scenes = {name: scene for part in parts for name, scene in part.scenes.items()}
    trials = {name: trial for part in parts for name, trial in part.trials.items()}
    return msgspec.structs.replace(
        told[0], scenes=dict(sorted(scenes.items())), trials=dict(sorted(trials.items()))
    )
