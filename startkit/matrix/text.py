"""The table for a terminal, and as matrix.md.

Rule: a mark and its word stand for each other everywhere; MARKS is where they are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from startkit.judge.text import value_text
from startkit.matrix.table import areas, sections
from startkit.report.text import STATUSES, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

    from startkit.matrix.table import Column, Matrix, Outcome, Row, Section

# kind of an outcome -> its mark: the status of its verdict, but that a known defect stands apart
MARKS = {
    "conforms": "✓",
    "expected-difference": "≠",
    "known-defect": "▲",
    "not-applicable": "-",
    "no-evidence": "?",
    "differs": "✗",
    "stale": "!",
    "broken": "†",
}
UNJUDGED = "·"
COLORS = {**STATUSES, "known-defect": "yellow"}
MEANINGS = {
    "conforms": "as the clause says",
    "expected-difference": "known difference, with its reason",
    "known-defect": "a MUST that it breaks, known to its makers",
    "not-applicable": "about something that engine or host lacks",
    "no-evidence": "nothing could be seen",
    "differs": "unexplained difference",
    "stale": "the dialect is out of date",
    "broken": "our own harness failed",
}


def kind(one: Outcome) -> str:
    """Return the key of MARKS for an outcome."""
    defect = one.why and one.why.kind == "defect" and one.status == "expected-difference"
    return "known-defect" if defect else one.status


def cells(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    """Return target -> outcome."""
    return {target: one for one in outcomes for target in one.targets}


def machine(one: Column) -> str:
    """Return where a target was judged: kernel and cgroup layout."""
    return f"{one.kernel}, cgroup {one.cgroup}" if one.cgroup else one.kernel


def verdict(one: Column) -> str:
    """Return what a column comes to, in a few words."""
    if one.failure:
        return f"not judged: {one.failure}"
    parts = [sentence(one.counts, one.exit).partition(": ")[2]]
    parts += [note for note in one.notes if note.startswith("exit ")]
    if unseen := one.counts["no-evidence"]:
        parts.append(f"{unseen} without evidence")
    return ", ".join(filter(None, parts))


def score(one: Column, area: str) -> str:
    """Return how many clauses of an area a target conforms to, of how many."""
    counts = one.areas.get(area)
    return f"{counts.get('conforms', 0)}/{sum(counts.values())}" if counts else UNJUDGED


def all_areas(matrix: Matrix) -> list[str]:
    """Return the areas of the rows, or of the columns where there are no rows."""
    found = [one.area for one in matrix.rows] or [
        name for one in matrix.columns for name in one.areas
    ]
    return list(dict.fromkeys(found))


def overview(matrix: Matrix) -> tuple[list[str], list[list[str]]]:
    """Return heading and rows of the targets: who, where, per area, and what it comes to."""
    names = all_areas(matrix)
    head = ["target", "version", "machine", *names, "conforms", "verdict"]
    rows = []
    for one in matrix.columns:
        total = f"{one.counts['conforms']}/{one.counts.total()}" if not one.failure else UNJUDGED
        who = " ".join(filter(None, [one.engine, one.version]))
        own = [score(one, area) for area in names]
        rows.append([one.target, who, machine(one), *own, total, verdict(one)])
    return head, rows


def legend(matrix: Matrix) -> dict[str, int]:
    """Return the kinds of outcome that occur, in the order of MARKS, and how often."""
    found = [kind(one) for row in matrix.rows for one in row.outcomes for _ in one.targets]
    return {name: found.count(name) for name in MARKS if name in found}


def report(matrix: Matrix, *, color: bool) -> str:
    """Return all that a terminal shows: the targets, each clause that not all conform to, sums."""
    from rich.console import Console

    console = Console(width=200, force_terminal=color, no_color=not color, highlight=False)
    head, rows = overview(matrix)
    with console.capture() as capture:
        console.print(table(head, rows))
        for section in sections(matrix):
            console.print(grid(section))
            console.print(", ".join(alike(section)) + "\n", style="dim", markup=False)
    marks = [f"{MARKS[name]} {name} {number}" for name, number in legend(matrix).items()]
    lines = [line.rstrip() for line in capture.get().split("\n")]
    return "\n".join([*lines, "  ".join(marks), last_line(matrix)])


def table(head: list[str], rows: list[list[str]]) -> Table:
    """Return a plain table; all text is shown as it stands."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD)
    for name in head:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def grid(section: Section) -> Table:
    """Return the clauses of a section that not all targets conform to, a mark a target."""
    from rich.text import Text

    names = [one.target for one in section.columns]
    made = table(["clause", *names], [])
    styles = {MARKS[name]: style for name, style in COLORS.items()}
    for row in section.rows:
        if not all_conform(row.outcomes):
            marks = [Text(mark, styles.get(mark, "")) for mark in marks_of(row, names)]
            made.add_row(Text(row.clause), *marks)
    return made


def all_conform(outcomes: Iterable[Outcome]) -> bool:
    """Say whether whoever judged a clause conforms to it."""
    return all(one.status == "conforms" for one in outcomes)


def alike(section: Section) -> Iterator[str]:
    """Yield how many clauses of each area all targets conform to: the ones not shown."""
    yield "everybody conforms to"
    for area, rows in areas(section.rows).items():
        number = sum(all_conform(row.outcomes) for row in rows)
        yield f"{number} of {len(rows)} in {area}"


def last_line(matrix: Matrix) -> str:
    """Return the sentence that says the exit status and whose it is."""
    own = [f"{one.target}: {verdict(one)}" for one in matrix.columns if one.exit]
    return f"exit {matrix.exit}: {'; '.join(own) or 'as expected'}"


def markdown(matrix: Matrix) -> str:
    """Return matrix.md: the targets, then each area clause by clause with its reasons."""
    lines = [f"# The golden spec and {len(matrix.columns)} targets", ""]
    lines += md_table(*overview(matrix))
    marks = [f"{MARKS[name]} {MEANINGS[name]} ({many})" for name, many in legend(matrix).items()]
    lines += ["", "; ".join(marks), "", md(last_line(matrix))]
    for section in sections(matrix):
        names = [one.target for one in section.columns]
        for area, rows in areas(section.rows).items():
            head = ["statement", "clause", "level", *names, "source"]
            body = [
                [row.title, row.clause, row.level, *marks_of(row, names), short(row.source)]
                for row in rows
            ]
            lines += ["", f"## {area}", "", *md_table(head, body), ""]
            lines += [line for row in rows for line in reasons(row)]
    return "\n".join(lines) + "\n"


def marks_of(row: Row, targets: Iterable[str]) -> Iterator[str]:
    """Yield the mark of each target on a clause."""
    found = cells(row.outcomes)
    return (MARKS[kind(found[one])] if one in found else UNJUDGED for one in targets)


def short(source: str) -> str:
    """Return the heading, or the section of the specification, that a clause stands under."""
    parts = source.split(", ")
    return ", ".join(parts[:2]) if parts[0] == "runtime-spec" else parts[0]


def reasons(row: Row) -> Iterator[str]:
    """Yield a line for each outcome of a clause that does not conform: whose, what, why."""
    for one in row.outcomes:
        if one.status != "conforms":
            seen = "" if one.observed is None else f"{value_text(one.observed)}, "
            said = one.why.reason if one.why else one.reason or one.status
            link = f" ({one.why.link})" if one.why and one.why.link else ""
            yield f"* {row.clause}, {', '.join(one.targets)}: {md(seen + said)}{link}"


def md_table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table."""
    rule = ["---"] * len(head)
    return [f"| {' | '.join(map(md, row))} |" for row in [head, rule, *rows]]


def md(text: str) -> str:
    """Return a text that markdown shows as it stands, in one cell."""
    for sign in "\\|<>*_[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
