"""How a verdict reads. Rule: every word that a failing run says about a clause is made here.

The first line is what CI shows. All differences at once: a list or a document that
does not fit a line becomes a small diff.
"""

from __future__ import annotations

import difflib
import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from startkit.judge.clause import Clause, Source
    from startkit.judge.dialect import Dialect
    from startkit.judge.verdict import Verdict

MARGIN = 12  # width of the column with `expected`, `observed` ...
WIDTH = 88  # a value that is longer is shown as a diff


def failure_text(
    verdict: Verdict, clause: Clause, dialect: Dialect | None, evidence_path: str
) -> str:
    """Return the text of a verdict that does not conform, without a newline at its end."""
    rows = [("source", source_text(clause.source)), *value_rows(verdict)]
    rows.append(("verdict", verdict_text(verdict)))
    entry = dialect.entry(clause.id) if dialect else None
    if dialect and entry:
        rows.append(("dialect", f"{dialect.name}: {entry.reason}"))
        if entry.link:
            rows.append(("issue", entry.link))
    rows += [("look", clause.look), ("hint", clause.hint), ("evidence", evidence_path)]
    head = f"{clause.id} [{clause.level}] {clause.title}"
    return "\n".join([head, *(line for name, value in rows for line in row(name, value))])


def row(name: str, value: str) -> list[str]:
    """Return a named value; its further lines stand under the first."""
    lines = value.split("\n")
    return [f"  {name:<{MARGIN - 2}}{lines[0]}", *(f"{'':<{MARGIN}}{line}" for line in lines[1:])]


def source_text(source: Source) -> str:
    """Return where it is said: heading, listing, place."""
    place = [source.at]
    if source.line is not None:
        place.append(f"line {source.line}")
    if source.lines is not None:
        place.append(f"lines {source.lines[0]}-{source.lines[1]}")
    if source.where is not None:
        place.append("rows with " + ", ".join(source.where.values()))
    if source.column is not None:
        place.append(f"column {source.column}")
    parts = [
        f"heading {source.heading}" if source.heading else None,
        f"paragraph {source.paragraph}" if source.paragraph else None,
        " ".join(["listing", source.listing, *filter(None, place)]) if source.listing else None,
        f"era {source.era}" if source.era else None,
        f"runtime-spec, {source.spec}" if source.spec else None,
    ]
    return ", ".join(filter(None, parts))


def verdict_text(verdict: Verdict) -> str:
    """Return status, reason and scene; the reason of an expected difference is the dialect's."""
    told = verdict.reason and verdict.status != "expected-difference"
    reason = f": {shown(verdict.reason)}" if told else ""
    return f"{verdict.status}{reason} (scene {verdict.scene})"


def value_rows(verdict: Verdict) -> Iterable[tuple[str, str]]:
    """Yield expected and observed side by side, or their difference; nothing where nothing is."""
    if verdict.status in {"no-evidence", "not-applicable", "broken"}:
        return
    expected, observed = value_text(verdict.expected), value_text(verdict.observed)
    if isinstance(verdict.observed, str) and verdict.observed.startswith("refused: "):
        if verdict.expected is not None:  # else it would have come from what was not made
            yield "expected", expected
        yield "observed", shown(verdict.observed)
        return
    if expected == observed:  # 1 and "1", "a" and ["a"]
        expected, observed = as_json(verdict.expected), as_json(verdict.observed)
    if max(len(expected), len(observed)) <= WIDTH and "\n" not in expected + observed:
        yield "expected", expected
        yield "observed", observed
        return
    yield "diff", difference(verdict.expected, verdict.observed)


def value_text(value: Any) -> str:
    """Return a value on one line: words as words, everything else as JSON."""
    if isinstance(value, str) and value and value.isprintable() and value == value.strip():
        return value
    if isinstance(value, list) and value and all(is_word(item) for item in value):
        return " ".join(value)
    return as_json(value)


def as_json(value: Any) -> str:
    """Return a value as one line of JSON that can be printed as it is."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def shown(text: str) -> str:
    """Return a text from elsewhere on one line, control characters as escapes."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in " ".join(text.split()))


def is_word(value: Any) -> bool:
    """Say whether a text needs no quotes in a list."""
    return isinstance(value, str) and value.isprintable() and len(value.split()) == 1


def difference(expected: Any, observed: Any) -> str:
    """Return a unified diff, `-` expected and `+` observed, two lines around each change."""
    before, after = lines_of(expected), lines_of(observed)
    found = list(difflib.unified_diff(before, after, "expected", "observed", n=2, lineterm=""))
    return "\n".join([line for line in found if not line.startswith("@@")])


def lines_of(value: Any) -> list[str]:
    """Return a value over several lines; control characters are shown, not sent."""
    if isinstance(value, str):
        return [line.encode("unicode_escape").decode() for line in value.splitlines(keepends=True)]
    text = json.dumps(value, indent=1)
    return [cut for line in text.splitlines() for cut in textwrap.wrap(line, 160) or [""]]
