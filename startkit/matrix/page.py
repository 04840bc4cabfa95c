"""matrix.html: the table on one page, each cell opens its evidence.

Rule: pure and self-contained, as report.html. A cell is a button, what it opens a popover:
both work in a browser that runs no script, which is there for filters and arrow keys alone.
Outcomes that targets share stand on the page once.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from startkit.judge.text import shown, value_rows, value_text
from startkit.judge.verdict import Verdict
from startkit.matrix.table import RUNTIME, areas, sections
from startkit.matrix.text import (
    MARKS,
    MEANINGS,
    UNJUDGED,
    all_areas,
    cells,
    kind,
    last_line,
    legend,
    score,
    short,
    verdict,
)
from startkit.report import html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from startkit.matrix.table import Column, Matrix, Outcome, Row, Section

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")
NARROW = 8  # targets that a desk's screen shows without scrolling sideways
SIDES = ("expected", "observed")
WORDS = {name: name.replace("-", " ") for name in MARKS}


class Page:
    """A page while it is written: what its cells open is kept for the end."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.numbers = count()
        self.cards: list[str] = []
        self.kinds: dict[tuple[str, str], Counter[str]] = {}  # (target, area) -> kind -> number
        for row in matrix.rows:
            for one in row.outcomes:
                for target in one.targets:
                    self.kinds.setdefault((target, row.area), Counter())[kind(one)] += 1

    def text(self) -> str:
        """Return the page."""
        number = len(self.matrix.columns)
        title = f"The golden spec and {number} target{'s' * (number != 1)}"
        body = [
            *self.head(title),
            self.overview(),
            *self.choices(),
            *(part for section in sections(self.matrix) for part in self.section(section)),
            *self.cards,
        ]
        style = html.STYLE + "".join(html.colours()) + STYLE.read_text()
        return html.whole(title, style, body, SCRIPT.read_text())

    def head(self, title: str) -> Iterator[str]:
        """Yield title, what it came to, and what the marks mean."""
        rows = self.matrix.rows
        taken = max((one.taken[:10] for one in self.matrix.columns), default="")
        yield f"<header><h1>{title}</h1>"
        yield (
            f"<p class=lead>What happens behind <code>docker start</code>, as {len(rows)} clauses: "
            "each one a checkable statement, each one looked at from outside while real "
            "containers start. A cell opens its evidence.</p>"
        )
        sign = "conforms" if not self.matrix.exit else "differs"
        bad = len([one for one in self.matrix.columns if one.exit])
        said = f"{bad} of {len(self.matrix.columns)} targets not as expected"
        said = f"exit {self.matrix.exit}: {said}" if bad else last_line(self.matrix)
        yield (
            f'<p class="sum"><b class="{sign}">{MARKS[sign]}</b> {escape(said)}'
            f"<span>{escape(taken)}, startkit {escape(self.matrix.startkit)}</span></p>"
        )
        yield "<ul class=legend>"
        for name, many in legend(self.matrix).items():
            word = f"<b>{WORDS[name]}</b> <small>{escape(MEANINGS[name])}</small>"
            yield f"<li>{mark(name)}<span>{word}</span><strong>{many}</strong></li>"
        yield "</ul></header>"

    def overview(self) -> str:
        """Return the table of the targets: who, where, and how each area came out."""
        names = all_areas(self.matrix)
        links = [f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names]
        heads = ["target", "engine", "machine", *links, "all"]
        lines = [f"<tr>{''.join(f'<th scope=col>{head}</th>' for head in heads)}</tr>"]
        for one in self.matrix.columns:
            who = " ".join(filter(None, [one.engine, one.version]))
            where = f"cgroup {escape(one.cgroup)}<small>{escape(one.kernel)}</small>"
            first = f"<th scope=row>{escape(one.target)}</th>"
            if one.failure:
                said = f"<td class=fail colspan={len(heads) - 1}>{escape(verdict(one))}</td>"
                lines.append(f"<tr>{first}{said}</tr>")
                continue
            dialect = f"<small>dialect {escape(one.dialect or 'none')}</small>"
            cells = [f"<td>{escape(who)}{dialect}</td><td>{where}</td>"]
            own = [self.kinds.get((one.target, area), Counter()) for area in names]
            pairs = zip(names, own, strict=True)
            cells += [f"<td>{bar(kinds)}{score(one, area)}</td>" for area, kinds in pairs]
            total = f"{one.counts['conforms']}/{one.counts.total()}"
            said = f"<small>{escape(verdict(one))}</small>" if one.exit else ""
            cells.append(f"<td>{bar(sum(own, Counter()))}<b>{total}</b>{said}</td>")
            lines.append(f"<tr>{first}{''.join(cells)}</tr>")
        return (
            "<h2 id=targets>Targets</h2>"
            "<p>How many clauses of each area a target conforms to.</p>"
            f'<div class="box targets" tabindex=0 role=region aria-labelledby=targets>'
            f"<table>{''.join(lines)}</table></div>"
        )

    def choices(self) -> Iterator[str]:
        """Yield the filters, which the script shows."""
        if not self.matrix.rows:
            return
        levels = list(dict.fromkeys(one.level for one in self.matrix.rows if one.level))
        yield "<h2 id=clauses>Clauses</h2>"
        yield "<form class=choices hidden role=search aria-label='Clauses'>"
        control = '<input type=search id=for-words name=words placeholder="title, id or source">'
        yield f"<div class=search><label for=for-words>search</label>{control}</div>"
        for name, every, values in (
            ("area", "all areas", all_areas(self.matrix)),
            ("level", "all levels", sorted(levels)),
            ("target", "any target", [one.target for one in self.matrix.columns]),
        ):
            options = "".join(f"<option>{escape(value)}</option>" for value in values)
            options = f'<option value="">{every}</option>{options}'
            control = f"<select id=for-{name} name={name}>{options}</select>"
            yield f"<div><label for=for-{name}>{name}</label>{control}</div>"
        yield "<label class=tick><input type=checkbox name=differs> only what differs</label>"
        yield "<output></output></form>"

    def section(self, section: Section) -> Iterator[str]:
        """Yield the table of some areas and the targets that they are judged of."""
        names = [one.target for one in section.columns]
        wide = " wide" if len(names) > NARROW else ""
        own = set(areas(section.rows))
        what = "Runtimes" if own == {RUNTIME} else "Engines"
        what = f"{what}: {len(section.rows)} clauses, {len(names)} targets"
        yield f'<div class="box clauses{wide}"><table aria-label="{what}"><thead><tr>'
        yield f"<th scope=col>{what.replace(': ', '<small>')}</small></th>"
        yield from map(heading, section.columns)
        yield "</tr></thead>"
        for area, rows in areas(section.rows).items():
            scores = "".join(f"<td>{score(one, area)}</td>" for one in section.columns)
            name = escape(area)
            yield f'<tbody data-area="{name}"><tr class=area>'
            yield f'<th scope=rowgroup id="{name}">{name}</th>{scores}</tr>'
            yield from (self.row(one, names) for one in rows)
            yield "</tbody>"
        yield "</table></div>"

    def row(self, row: Row, names: list[str]) -> str:
        """Return a clause and its cells."""
        ids = {id(one): self.card(row, one) for one in row.outcomes}
        found = cells(row.outcomes)
        parts = []
        for name in names:
            if one := found.get(name):
                label = escape(f"{row.clause}, {name}: {WORDS[kind(one)]}")
                does = f'popovertarget={ids[id(one)]} aria-label="{label}"'
                parts.append(f"<button class={kind(one)} {does}>{MARKS[kind(one)]}</button>")
            else:
                parts.append(f'<span role=img aria-label="not judged">{UNJUDGED}</span>')
        more = f"{id_text(row.clause)} {badge(row.level)} {escape(short(row.source))}"
        first = f"<th scope=row>{prose(row.title)}<small>{more}</small></th>"
        marks = "".join(f"<td>{part}</td>" for part in parts)
        return f'<tr data-level="{escape(row.level)}">{first}{marks}</tr>'

    def card(self, row: Row, one: Outcome) -> str:
        """Write what a cell opens; return its id."""
        name = f"o{next(self.numbers)}"
        others = [
            f"{MARKS[kind(other)]} {WORDS[kind(other)]}: {', '.join(other.targets)}"
            for other in row.outcomes
            if other is not one
        ]
        facts = [
            ("source", escape(row.source)),
            *values(row, one),
            *reasons(one),
            ("look", f"<pre>{escape(row.look)}</pre>"),
            ("hint", prose(row.hint)),
            ("scene", escape(one.scene)),
            ("elsewhere", "<br>".join(map(escape, others))),
        ]
        told = "".join(f"<dt>{word}</dt><dd>{said}</dd>" for word, said in facts if said)
        what, whose = kind(one), escape(", ".join(one.targets))
        self.cards.append(
            f"<div popover id={name} role=dialog aria-labelledby={name}h class=card>"
            f"<div class=top><h3 id={name}h>{prose(row.title)}</h3>"
            f"<button popovertarget={name} popovertargetaction=hide autofocus>close</button></div>"
            f"<p>{id_text(row.clause)} {badge(row.level)}</p>"
            f'<p class="status {what}">{mark(what)} <b>{WORDS[what]}</b> {whose}</p>'
            f"<dl>{told}</dl></div>"
        )
        return name


def page(matrix: Matrix) -> str:
    """Return the page."""
    return Page(matrix).text()


def heading(one: Column) -> str:
    """Return the head of a target's column."""
    name, _, release = one.target.partition("@")
    release = f"<wbr>@{escape(release)}" if release else ""
    facts = [one.version, f"cgroup {one.cgroup}" if one.cgroup else ""]
    small = "".join(f"<small>{escape(fact)}</small>" for fact in facts if fact and not one.failure)
    small = small or "<small>not judged</small>"
    told = f'data-target="{escape(one.target)}" title="{escape(verdict(one))}"'
    return f"<th scope=col {told}>{escape(name)}{release}{small}</th>"


def mark(name: str) -> str:
    """Return the mark of a kind of outcome, for eyes; its word stands beside it."""
    return f'<i class="mark {name}" aria-hidden=true>{MARKS[name]}</i>'


def bar(kinds: Counter[str]) -> str:
    """Return a picture of counts; the numbers stand beside it."""
    total, x, parts = kinds.total(), 0, []
    for name in MARKS:
        if many := kinds[name]:
            parts.append(f"<rect class={name} x={x} width={many} height=1 />")
            x += many
    box = f'viewBox="0 0 {total} 1" preserveAspectRatio=none aria-hidden=true'
    return f"<svg class=bar {box}>{''.join(parts)}</svg>" if total else ""


def prose(text: str) -> str:
    """Return a sentence; what stands in backticks is code."""
    parts = map(escape, text.split("`"))
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def id_text(name: str) -> str:
    """Return a clause's id, which may be broken at its dots."""
    return f"<code>{escape(name).replace('.', '.<wbr>')}</code>"


def badge(level: str) -> str:
    """Return a level."""
    return f'<span class="level {escape(level)}">{escape(level)}</span>' if level else ""


def values(row: Row, one: Outcome) -> Iterator[tuple[str, str]]:
    """Yield expected and observed, or their difference where they are long."""
    if one.status == "conforms":  # however long, there is no difference
        yield from ((name, f"<pre>{escape(value_text(one.observed))}</pre>") for name in SIDES)
        return
    same = Verdict(
        clause=row.clause, status=one.status, expected=one.expected, observed=one.observed
    )
    for name, value in value_rows(same):
        lines = [
            html.marked(line, line[:1] if name == "diff" else "") for line in value.split("\n")
        ]
        yield name, f"<pre>{''.join(lines)}</pre>"


def reasons(one: Outcome) -> Iterator[tuple[str, str]]:
    """Yield why: the dialect's words, or those of the verdict."""
    if one.why:
        word = {"difference": "reason", "defect": "defect", "lack": "lack"}[one.why.kind]
        yield word, prose(one.why.reason)
        if one.why.link.startswith("https://"):
            link = escape(one.why.link)
            yield "issue", f'<a href="{link}" rel="noreferrer">{link}</a>'
        yield "since", escape(one.why.since)
        yield "seen by", prose(one.why.evidence)
    if one.reason and not (one.why and one.reason == one.why.reason):
        yield "verdict", escape(shown(one.reason))
