"""The table: runs of the suite in, clauses by targets out.

Rule: nothing is judged here. An outcome is what several targets have in common on one
clause, so that what is alike is kept and shown once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from startkit import __version__
from startkit.judge.clause import load_clauses
from startkit.judge.dialect import load_dialects
from startkit.judge.golden import AREAS
from startkit.judge.text import source_text
from startkit.judge.verdict import JUDGED, Status
from startkit.report import result
from startkit.report.text import silence
from startkit.targets.target import find_target, is_runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from startkit.judge.clause import Clause
    from startkit.judge.dialect import Dialect
    from startkit.judge.verdict import Verdict

FORMAT = 1
OUTPUT = "output.txt"  # what the suite printed, beside its results
RUNTIME = "runtime"  # the area of an OCI runtime alone
BROKEN = 3
Kind = Literal["difference", "defect", "lack"]


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What the dialect says of an outcome; `link` is the engine's own issue."""

    kind: Kind
    reason: str
    since: str = ""
    evidence: str = ""
    link: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What some targets have in common on a clause. The values are plain data with tokens."""

    targets: list[str]
    status: Status
    expected: Any
    observed: Any
    reason: str
    scene: str
    why: Why | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A clause, in words, and its outcomes; a target that did not judge it is in none."""

    clause: str
    level: str
    title: str
    source: str
    look: str
    hint: str
    outcomes: list[Outcome]

    @property
    def area(self) -> str:
        """The first word of the id."""
        return self.clause.partition(".")[0]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A target as it was judged. `failure`: why it was not, one line."""

    target: str  # as it was asked for: "docker@trixie"
    engine: str = ""
    version: str = ""
    kernel: str = ""
    cgroup: str = ""  # v1 hybrid v2
    dialect: str | None = None
    taken: str = ""
    startkit: str = ""
    strict: bool = False
    exit: int = BROKEN
    notes: list[str] = []
    areas: dict[str, dict[str, int]] = {}  # area -> status -> number of verdicts
    failure: str = ""

    @property
    def counts(self) -> Counter[str]:
        """Status -> number of verdicts."""
        return sum(map(Counter, self.areas.values()), Counter())


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """The content of matrix.json."""

    format: int = FORMAT
    startkit: str = __version__
    exit: int
    columns: list[Column]
    rows: list[Row]


class Section(NamedTuple):
    """Rows that follow each other and the columns that are about them."""

    columns: list[Column]
    rows: list[Row]


def build(places: Iterable[Path], golden: Path) -> Matrix:
    """Return the table of runs, a directory each, named as its target. Raises GoldenError."""
    clauses, dialects = load_clauses(golden), load_dialects(golden)
    columns: list[Column] = []
    outcomes: dict[str, list[Outcome]] = {name: [] for name in clauses}
    for place in places:
        column, verdicts = read(place)
        columns.append(column)
        for one in verdicts:
            dialect = dialects.get(column.dialect or "")
            add(outcomes.setdefault(one.clause, []), column.target, one,
                why(one, clauses.get(one.clause), dialect))  # fmt: skip
    rows = [row(name, clauses.get(name), found) for name, found in outcomes.items() if found]
    return Matrix(
        exit=max((one.exit for one in columns), default=BROKEN), columns=columns, rows=rows
    )


def read(place: Path) -> tuple[Column, list[Verdict]]:
    """Return a run's column and its verdicts; none where nothing was judged."""
    said, code = output(place)
    try:
        run = result.read(place)
    except ValueError as error:
        failure = said or str(error)
        return Column(target=place.name, areas=about(place.name), failure=failure), []
    head = run.header
    judged = bool(JUDGED & run.counts.keys())
    areas: dict[str, Counter[str]] = {}
    for one in run.verdicts:
        counts = areas.setdefault(one.clause.partition(".")[0], Counter())
        counts[one.status] += judged
    more = [f"exit {code}: something else failed, see {OUTPUT}"] if code > run.exit else []
    column = Column(
        target=place.name,
        engine=head.engine,
        version=head.version,
        kernel=head.kernel,
        cgroup=head.cgroup,
        dialect=head.dialect,
        taken=head.taken,
        startkit=head.startkit,
        strict=head.strict,
        exit=max(run.exit, code),
        notes=[*run.notes, *more],
        areas={area: dict(+counts) for area, counts in areas.items()} or about(place.name),
        failure="" if judged else silence(run.verdicts, run.notes),
    )
    return column, run.verdicts if judged else []


def is_run(place: Path) -> bool:
    """Say whether a directory is one of a run."""
    return any((place / name).exists() for name in ("results.jsonl", OUTPUT))


def output(place: Path) -> tuple[str, int]:
    """Return the last line that a run of the matrix printed, and its exit status, 0 for others."""
    path = place / OUTPUT
    text = path.read_text(errors="replace") if path.exists() else ""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    code = lines.pop().removeprefix("exit ") if lines else "0"
    said = lines[-1].removeprefix("Exit: ") if lines else ""
    return said, int(code) if code in ("0", "1", "3") else BROKEN


def about(name: str) -> dict[str, dict[str, int]]:
    """Return the areas that a target is about, without any verdict."""
    if is_runtime(name):
        return {RUNTIME: {}}
    both = find_target(name.partition("@")[0]).runtime
    return {area: {} for area in AREAS if area != RUNTIME or both}


def why(verdict: Verdict, clause: Clause | None, dialect: Dialect | None) -> Why | None:
    """Return what the dialect says of a verdict."""
    if clause is None or dialect is None:
        return None
    lack = dialect.lacks(clause)
    if lack and verdict.reason == f"no {lack.what}: {lack.reason}":  # and not for want of a host
        return Why(kind="lack", reason=verdict.reason, since=lack.since, evidence=lack.evidence)
    entry = dialect.entry(clause.id)
    if entry is None or verdict.status not in ("expected-difference", "stale"):
        return None
    return Why(
        kind="defect" if entry in dialect.defect else "difference",
        reason=entry.reason,
        since=entry.since,
        evidence=entry.evidence,
        link=entry.link,
    )


def add(outcomes: list[Outcome], target: str, verdict: Verdict, said: Why | None) -> None:
    """Count a target to the outcome that is its own, which may be a new one."""
    made = Outcome(
        targets=[],
        status=verdict.status,
        expected=verdict.expected,
        observed=verdict.observed,
        reason=verdict.reason,
        scene=verdict.scene,
        why=said,
    )
    key = msgspec.json.encode(made)
    for one in outcomes:
        if msgspec.json.encode(msgspec.structs.replace(one, targets=[])) == key:
            one.targets.append(target)
            return
    made.targets.append(target)
    outcomes.append(made)


def row(name: str, clause: Clause | None, outcomes: list[Outcome]) -> Row:
    """Return a row; a clause that has been withdrawn since has no words."""
    return Row(
        clause=name,
        level=clause.level if clause else "",
        title=clause.title if clause else "withdrawn since",
        source=source_text(clause.source) if clause else "",
        look=clause.look if clause else "",
        hint=clause.hint if clause else "",
        outcomes=outcomes,
    )


def sections(matrix: Matrix) -> list[Section]:
    """Return the table in parts, each with the columns that its areas are judged of."""
    found: list[Section] = []
    for one in matrix.rows:
        columns = [column for column in matrix.columns if one.area in column.areas]
        if not found or found[-1].columns != columns:
            found.append(Section(columns, []))
        found[-1].rows.append(one)
    return found


def areas(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return area -> its rows, in their order."""
    found: dict[str, list[Row]] = {}
    for one in rows:
        found.setdefault(one.area, []).append(one)
    return found
