"""A dialect: what a known engine does otherwise, entry by entry, with the reason.

Rule: a MUST is excused by nothing but a `[[defect]]` that links to the engine's own
issue; ARTICLE and SHOULD by a `[[difference]]` that says what is seen instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from startkit.judge import golden
from startkit.judge.golden import GoldenError
from startkit.judge.needs import CAPABILITIES, NEEDS, unmet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from startkit.judge.clause import Clause
    from startkit.observe.evidence import Seen


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """What is seen instead of a clause's value, with tokens."""

    clause: str
    seen: Any = None  # TOML has no null: it is left out
    any_order: bool = False  # a list whose order changes from one start to the next
    sometimes: bool = False  # seen now and then: a race that the engine may lose
    reason: str
    since: str = ""  # the version that brought it, `<= V` where V alone was looked at
    evidence: str = ""  # where that can be read or looked at
    link: str = ""  # the engine's own issue; a defect's duty
    needs: list[str] = []  # of NEEDS: on another host the clause is kept


class Mended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A clause that the engine keeps again, of which the dialect it comes after has an entry."""

    clause: str
    reason: str
    since: str


class Lack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that the engine is built without: clauses that need it do not apply."""

    what: str  # of CAPABILITIES
    reason: str
    since: str = ""
    evidence: str


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why two engines' portraits of one container differ; `name` is the function that knows how."""

    name: str
    reason: str
    since: str
    evidence: str


class Dialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """golden/dialects/NAME.toml."""

    format: int
    name: str
    engine: str  # what the target calls itself: dockerd podman startkit
    version: str  # the first version that it speaks for
    after: str = ""  # the dialect whose entries hold as well, but for the clauses named here
    difference: list[Entry] = []
    defect: list[Entry] = []
    mended: list[Mended] = []
    lack: list[Lack] = []
    change: list[Change] = []

    def entry(self, clause: str) -> Entry | None:
        """Return the entry of a clause."""
        found = [one for one in (*self.difference, *self.defect) if one.clause == clause]
        return found[0] if found else None

    def on(self, seen: Seen) -> Dialect:
        """Return what of it holds on the host of the evidence."""
        return msgspec.structs.replace(
            self,
            difference=[one for one in self.difference if not unmet(one.needs, seen)],
            defect=[one for one in self.defect if not unmet(one.needs, seen)],
        )

    def lacks(self, clause: Clause) -> Lack | None:
        """Return what a clause needs and the engine does not have."""
        return next((one for one in self.lack if one.what in clause.needs), None)


def load_dialect(path: Path) -> Dialect:
    """Return one dialect. Raises GoldenError."""
    dialect = golden.read(path, Dialect)
    if dialect.name != path.stem:
        raise GoldenError(path, "name", f"{dialect.name} is not the file's", "name both alike")
    seen: set[str] = set()
    for one in (*dialect.difference, *dialect.defect):
        if one.clause in seen:
            raise GoldenError(path, one.clause, "two entries", "keep one")
        seen.add(one.clause)
        if not one.reason.strip():
            raise GoldenError(path, one.clause, "no reason", "say why the engine does so")
    return dialect


def load_dialects(directory: Path) -> dict[str, Dialect]:
    """Return the dialects of golden/ by name. Raises GoldenError."""
    paths = sorted((directory / "dialects").glob("*.toml"))
    found = {path.stem: load_dialect(path) for path in paths}
    for path in paths:
        if found[path.stem].after not in {"", *found.keys() - {path.stem}}:
            named = found[path.stem].after
            raise GoldenError(path, "after", f"no dialect {named}", "name one of this directory")
    made = {name: whole(dialect, found) for name, dialect in found.items()}
    for path in paths:
        own = found[path.stem]
        for gone in own.mended:
            if not own.after or made[own.after].entry(gone.clause) is None:
                raise GoldenError(path, gone.clause, "mended, and never differed", "drop it")
    return made


def whole(dialect: Dialect, known: Mapping[str, Dialect]) -> Dialect:
    """Return a dialect with what it takes from the one that it comes after."""
    if not dialect.after:
        return dialect
    older = whole(known[dialect.after], known)
    own = {one.clause for one in (*dialect.difference, *dialect.defect)}
    own |= {one.clause for one in dialect.mended}
    return msgspec.structs.replace(
        dialect,
        difference=[one for one in older.difference if one.clause not in own] + dialect.difference,
        defect=[one for one in older.defect if one.clause not in own] + dialect.defect,
        lack=older.lack + dialect.lack,
        change=older.change + dialect.change,
    )


def choose(directory: Path, engine: str, version: str) -> Dialect | None:
    """Return the engine's youngest dialect that is not younger than the version, or None."""
    own = [one for one in load_dialects(directory).values() if one.engine == engine]
    fitting = [one for one in own if numbers(one.version) <= numbers(version)]
    return max(fitting, key=lambda one: numbers(one.version), default=None)


def numbers(version: str) -> list[int]:
    """Return `20.10.24+dfsg1` as [20, 10, 24]."""
    words = version.partition("+")[0].partition("-")[0].split(".")
    return [int(word) for word in words if word.isdigit()]


def check(dialect: Dialect, clauses: Mapping[str, Clause], path: Path) -> None:
    """Make sure that entries fit the clauses they name. Raises GoldenError."""
    for lack in dialect.lack:
        if lack.what not in CAPABILITIES:
            todo = f"one of {' '.join(CAPABILITIES)}"
            raise GoldenError(path, lack.what, "nothing that an engine may lack", todo)
    for one in (*dialect.difference, *dialect.defect):
        clause = clauses.get(one.clause)
        if clause is None:
            raise GoldenError(path, one.clause, "no such clause", "mend the id or drop the entry")
        if clause.level == "MUST" and one in dialect.difference:
            todo = "make it a [[defect]] with a link"
            raise GoldenError(path, one.clause, "no dialect excuses a MUST", todo)
        if clause.level != "MUST" and one in dialect.defect:
            raise GoldenError(path, one.clause, "not a MUST", "make it a [[difference]]")
        if strange := set(one.needs) - NEEDS.keys():
            todo = f"any of {' '.join(NEEDS)}"
            raise GoldenError(path, one.clause, f"needs {' '.join(sorted(strange))}", todo)
        if one in dialect.defect and not one.link.startswith("https://"):
            raise GoldenError(path, one.clause, "a defect without a link", "link the issue")
