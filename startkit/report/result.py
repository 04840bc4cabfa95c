"""What a run leaves for programs and for later: evidence.json, results.jsonl, verdicts.json.

Rule: `counts` stands last, in results.jsonl as a footer. A file that was cut off has none,
and a reader refuses it. verdicts.json is the same as one document.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from startkit.judge.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from startkit.observe.evidence import Seen

FORMAT = 1
decode = msgspec.json.decode


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Who was judged, by what, where."""

    format: int = FORMAT
    target: str
    engine: str
    version: str
    dialect: str | None
    kernel: str
    cgroup: str = ""  # v1 hybrid v2; runs of before do not say
    strict: bool
    taken: str
    startkit: str


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """What it came to: the last line of results.jsonl."""

    notes: list[str]
    exit: int
    counts: dict[str, int]  # status -> number of verdicts


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
    """Write a document as indented JSON."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def lines(result: Result) -> bytes:
    """Return results.jsonl: header, a verdict a line, footer."""
    footer = Footer(notes=result.notes, exit=result.exit, counts=result.counts)
    return msgspec.json.Encoder().encode_lines([result.header, *result.verdicts, footer])


def read(path: Path) -> Result:
    """Return the results in a file, or in results.jsonl of a directory.

    Raises ValueError when it is cut off, counted wrong, or of another format.
    """
    file = path / "results.jsonl" if path.is_dir() else path
    try:
        data = file.read_bytes()
        result = read_lines(data) if file.suffix == ".jsonl" else decode(data, type=Result)
        if result.header.format != FORMAT:
            raise ValueError(f"format {result.header.format}, this reads format {FORMAT}")
        if result.counts != count(result.verdicts):
            raise ValueError("its counts are not those of its verdicts")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None
    return result


def read_lines(data: bytes) -> Result:
    """Return what `lines` made. Raises ValueError."""
    rows = data.splitlines() or [b""]
    try:
        footer = decode(rows[-1], type=Footer)
    except ValueError:
        raise ValueError("no footer: the run did not come to its end") from None
    return Result(
        header=decode(rows[0], type=Header),
        verdicts=[decode(row, type=Verdict) for row in rows[1:-1]],
        notes=footer.notes,
        exit=footer.exit,
        counts=footer.counts,
    )


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
