"""A clause: one checkable statement, its level, its place in the article, its value.

Rule: a value that a listing holds is read from there, never typed again. `value` is
for what prose says, `computed` for what follows from the evidence itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from startkit.judge import golden
from startkit.judge.golden import AREAS, GoldenError
from startkit.judge.listing import READINGS, Article, Selector, load_article

if TYPE_CHECKING:
    from pathlib import Path

Level = Literal["MUST", "ARTICLE", "SHOULD"]
Id = Annotated[str, msgspec.Meta(pattern=r"^[a-z]+(\.[a-z0-9]+(-[a-z0-9]+)*)+$")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=70)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Mutant = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Source(Selector, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where it is said: a listing and a place in it, a heading, a section of era."""

    listing: str | None = None
    heading: str | None = None
    paragraph: int | None = None  # from 1, under the heading; listings do not count
    era: str | None = None
    spec: str | None = None  # a section of the OCI runtime-spec: "runtime.md, State"


class Clause(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """One statement. `expected` is set when it is loaded; UNSET where the test computes it."""

    id: Id
    title: Title
    level: Level
    source: Source
    scene: str
    needs: list[str] = []
    value: Any = msgspec.UNSET
    computed: str | None = None  # in words: what the test compares with
    observed: str | None = None  # in words: the shape of what is compared
    look: Text
    hint: Text
    killed_by: Mutant  # the breakage of an engine that it was seen to catch
    withdrawn: str | None = None
    expected: Any = msgspec.UNSET

    @property
    def area(self) -> str:
        """The first word of the id."""
        return self.id.partition(".")[0]


class ClauseFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """golden/clauses/AREA.toml."""

    format: int
    area: str
    clause: list[Clause]


def load_clauses(directory: Path) -> dict[str, Clause]:
    """Return the clauses of golden/ by id, areas in the article's order. Raises GoldenError."""
    article = load_article(directory)
    found: dict[str, Clause] = {}
    for area in AREAS:
        path = directory / "clauses" / f"{area}.toml"
        for number, clause in enumerate(golden.read(path, ClauseFile).clause):
            key = clause.id or f"clause[{number}]"
            if clause.area != area or clause.id in found:
                what = "used twice" if clause.id in found else f"not of the area {area}"
                raise GoldenError(path, key, what, "give it an id of its own")
            if clause.withdrawn is None:
                found[clause.id] = resolve(clause, article, path)
    strangers = {one.stem for one in (directory / "clauses").glob("*.toml")} - set(AREAS)
    if strangers:
        path = directory / "clauses" / f"{min(strangers)}.toml"
        raise GoldenError(path, "file", "no area of this name", f"one of {' '.join(AREAS)}")
    return found


def resolve(clause: Clause, article: Article, path: Path) -> Clause:
    """Return the clause with what it expects. Raises GoldenError."""
    check_source(clause, article, path)
    if clause.value is not msgspec.UNSET:
        return msgspec.structs.replace(clause, expected=clause.value)
    if clause.computed is not None:
        return clause
    listing = clause.source.listing
    if listing is None or not clause.source.selects():
        todo = "point at a place of a listing, or give `value` or `computed`"
        raise GoldenError(path, clause.id, "nothing says what is expected", todo)
    try:
        return msgspec.structs.replace(clause, expected=article.value(listing, clause.source))
    except (LookupError, ValueError, TypeError) as error:
        what = f"{listing} has no such place ({golden.one_line(error)})"
        raise GoldenError(path, clause.id, what, "mend `source`") from None


def check_source(clause: Clause, article: Article, path: Path) -> None:
    """Make sure that every place that a clause names is there. Raises GoldenError."""
    source, index = clause.source, article.index
    heading = index.heading.get(source.heading or "")
    problems = {
        "source names no place": not any((source.listing, source.heading, source.era, source.spec)),
        f"spec {source.spec}: want `NAME.md, SECTION`": source.spec is not None
        and not re.fullmatch(r"[a-z-]+\.md, [A-Z].*", source.spec),
        f"no listing {source.listing}": bool(source.listing)
        and source.listing not in article.texts,
        f"no heading {source.heading}": bool(source.heading) and heading is None,
        f"no paragraph {source.paragraph}": source.paragraph is not None
        and not (heading and 1 <= source.paragraph <= heading.paragraphs),
        f"no section {source.era} of era": bool(source.era) and source.era not in index.era,
        f"no reading `{source.read_as}`": bool(source.read_as) and source.read_as not in READINGS,
        "`value` and `computed` at once": clause.value is not msgspec.UNSET
        and clause.computed is not None,
        "`expected` is not for files": clause.expected is not msgspec.UNSET,
    }
    for what, wrong in problems.items():
        if wrong:
            raise GoldenError(path, clause.id, what, "see article/index.toml and README.md")
