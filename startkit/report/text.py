"""The scoreboard: one row an area, one column a verdict."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from startkit.judge.verdict import Verdict

# best first; the words of design.md, with the colour that a person reads them by
STATUSES = {
    "conforms": "green",
    "not-applicable": "dim",
    "expected-difference": "cyan",
    "no-evidence": "yellow",
    "differs": "red",
    "stale": "magenta",
    "broken": "bold red",
}
HEADINGS = {"not-applicable": "not\nappl.", "expected-difference": "expected\ndifference"}
HEADINGS["no-evidence"] = "no\nevidence"
WRONG = ("differs", "stale", "broken")
WIDTH = 100
BAR = 40


def scoreboard(
    title: str, verdicts: Sequence[Verdict], areas: Sequence[str], *, color: bool = False
) -> str:
    """Return the table as text; `areas` gives the order of the rows."""
    from rich.console import Console

    console = Console(width=WIDTH, force_terminal=color, no_color=not color, highlight=False)
    with console.capture() as capture:
        console.print(title, style="bold")
        console.print(table(verdicts, areas))
    return capture.get().rstrip("\n") + "\n"


def progress(verdicts: Sequence[Verdict], total: int, *, color: bool = False) -> str:
    """Return one line: a bar, how many clauses are judged, where, and what is wrong so far."""
    from rich.console import Console
    from rich.progress_bar import ProgressBar

    console = Console(width=WIDTH, force_terminal=color, no_color=not color)
    with console.capture() as capture:
        console.print(ProgressBar(total, len(verdicts), width=BAR), end="")
    counts: Counter[str] = Counter(one.status for one in verdicts)
    wrong = [f"{counts[status]} {status}" for status in WRONG if counts[status]]
    area = verdicts[-1].clause.partition(".")[0] if verdicts else ""
    return " ".join([capture.get(), f"{len(verdicts)}/{total}", area, *wrong])


def table(verdicts: Sequence[Verdict], areas: Sequence[str]) -> Table:
    """Return the rows of areas and their sum; columns that nobody needs stay away."""
    from rich import box
    from rich.table import Table

    rows = by_area(verdicts)
    shown = [status for status in STATUSES if any(row[status] for row in rows.values())]
    made = Table(box=box.SIMPLE_HEAD, show_footer=True)
    total: Counter[str] = sum(rows.values(), Counter())
    made.add_column("area", footer="all")
    made.add_column("clauses", footer=str(total.total()), justify="right")
    for status in shown:
        heading = HEADINGS.get(status, status)
        made.add_column(heading, footer=str(total[status]), justify="right", style=STATUSES[status])
    for area in [*areas, *sorted(set(rows) - set(areas))]:
        if row := rows.get(area):
            cells = [str(row[status] or "·") for status in shown]
            made.add_row(area, str(row.total()), *cells)
    return made


def by_area(verdicts: Sequence[Verdict]) -> dict[str, Counter[str]]:
    """Return area -> status -> number."""
    rows: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        area = verdict.clause.partition(".")[0]
        rows.setdefault(area, Counter())[verdict.status] += 1
    return rows


def silence(verdicts: Sequence[Verdict], notes: Sequence[str]) -> str:
    """Return why nothing was judged: what a verdict says, for a worker's notes stay with it."""
    said = [one.reason for one in verdicts if one.status in ("no-evidence", "broken")]
    return next(filter(None, [*said[:1], *notes]), "nobody said why")


def sentence(counts: dict[str, int], code: int, why: str = "") -> str:
    """Return the last line: what the verdicts come to, and the exit status that says so."""
    worst = [status for status in WRONG if counts.get(status)]
    bad = [f"{counts[status]} {status}" for status in worst]
    said = {0: "as expected", 1: ", ".join(bad) or "not as expected", 3: why or ", ".join(bad)}
    return f"exit {code}: {said.get(code, why)}"
