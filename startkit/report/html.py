"""report.html: a run on one page, for a browser and for nobody's server.

Rule: pure, and self-contained: no script, no font, no picture, nothing fetched. What stands
in it comes from an engine that may lie, so every text is escaped. The words about a clause
are those of `judge.text`; how it looks follows the reader's system, light or dark.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from startkit.judge.text import MARGIN, failure_text
from startkit.report.text import STATUSES, WRONG, by_area, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from startkit.judge.clause import Clause
    from startkit.judge.dialect import Dialect
    from startkit.judge.verdict import Verdict
    from startkit.report.result import Header, Result

# status -> colour on a light and on a dark ground; a known defect is what a matrix tells apart
COLOURS = {
    "conforms": ("#1a7f37", "#3fb950"),
    "not-applicable": ("#59636e", "#9198a1"),
    "expected-difference": ("#0969da", "#58a6ff"),
    "known-defect": ("#a8480b", "#f0883e"),
    "no-evidence": ("#8a5d00", "#d29922"),
    "differs": ("#cf222e", "#f85149"),
    "stale": ("#8250df", "#bc8cff"),
    "broken": ("#a40e26", "#ff7b72"),
}
STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1f2328; --line: #ddd; --soft: #f6f8fa }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif;
  background: var(--ground); color: var(--ink) }
a { color: inherit }
table { border-collapse: collapse; width: 100% }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child { text-align: left }
.bar { display: flex; min-width: 8rem; height: .75rem; gap: 1px }
.wide { overflow-x: auto }
fieldset { display: flex; flex-wrap: wrap; gap: 1em; margin: 1rem 0; border-color: var(--line) }
details { border-bottom: 1px solid var(--line); padding: .25rem 0 }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 10.5rem }
pre { background: var(--soft); padding: .5rem; margin: .25rem 0; font-size: .85rem;
  white-space: pre-wrap; overflow-wrap: anywhere }
"""


def page(document: Result, clauses: Mapping[str, Clause], dialect: Dialect | None) -> str:
    """Return the page. `clauses`: those judged, in their order; `dialect`: the engine's."""
    verdicts = document.verdicts
    areas = list(dict.fromkeys(one.clause.partition(".")[0] for one in verdicts))
    title = escape(f"{document.header.target}: {len(verdicts)} clauses")
    body = [
        f"<h1>{title}</h1>",
        f"<p>{escape(sentence(document.counts, document.exit))}</p>",
        *(f"<p>{escape(note)}</p>" for note in document.notes),
        facts(document.header),
        scoreboard(verdicts, areas),
        choice(document.counts),
    ]
    for area in areas:
        body.append(f'<h2 id="{escape(area)}">{escape(area)}</h2>')
        own = (one for one in verdicts if one.clause.partition(".")[0] == area)
        body += [row(one, clauses.get(one.clause), dialect) for one in own]
    return whole(title, STYLE + "".join(rules()), body)


def whole(title: str, style: str, body: Iterable[str], script: str = "") -> str:
    """Return a page. What comes from elsewhere could run nothing, even if it were not escaped.

    `title` and `body` are HTML; `script` is ours, and the only one that a browser runs.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; {allowed}"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{style}</style>",
            *("<main>", *body, "</main>"),
            f"<script>{script}</script>\n</html>\n" if script else "</html>\n",
        ]
    )


def colours() -> Iterator[str]:
    """Yield the colours of each status by day and by night, and of a diff."""
    dark = ["--ground: #0d1117; --ink: #e6edf3; --line: #30363d; --soft: #161b22"]
    for name, (light, other) in COLOURS.items():
        yield f":root {{ --{name}: {light} }}\n"
        dark.append(f"--{name}: {other}")
    yield "pre ins, pre del { text-decoration: none } pre ins { color: var(--conforms) }\n"
    yield "pre del { color: var(--differs) }\n"
    yield f"@media (prefers-color-scheme: dark) {{ :root {{ {'; '.join(dark)} }} }}\n"


def rules() -> Iterator[str]:
    """Yield the style of each status, and that a box unticked hides it."""
    yield from colours()
    for name in STATUSES:
        yield f"i.{name} {{ background: var(--{name}) }}\n"
        yield f".{name} > summary b, th.{name} {{ color: var(--{name}) }}\n"
        yield f"main:has(#show-{name}:not(:checked)) details.{name} {{ display: none }}\n"


def facts(header: Header) -> str:
    """Return who was judged, by what, where, in one line."""
    told = {
        "dialect": header.dialect or "none",
        "kernel": header.kernel,
        "cgroups": header.cgroup or "unknown",
        "taken": header.taken,
        "startkit": header.startkit,
        "strict": "yes" if header.strict else "no",
    }
    parts = [f"{name} {escape(value)}" for name, value in told.items()]
    return f'<p>{", ".join(parts)}, <a href="evidence.json">evidence.json</a></p>'


def scoreboard(verdicts: Sequence[Verdict], areas: Sequence[str]) -> str:
    """Return the table: a row an area, a column a status that occurs, a bar."""
    rows = by_area(verdicts)
    total: Counter[str] = sum(rows.values(), Counter())
    shown = [status for status in STATUSES if total[status]]
    head = "".join(f'<th scope="col" class="{status}">{status}</th>' for status in shown)
    lines = [
        f'<tr><th scope="col">area</th><th scope="col">clauses</th>{head}<th>in parts</th></tr>'
    ]
    for area, counts in [*((area, rows[area]) for area in areas), ("all", total)]:
        name = f'<a href="#{escape(area)}">{escape(area)}</a>' if area in rows else area
        cells = "".join(f"<td>{counts[status] or '·'}</td>" for status in shown)
        parts = [
            f'<i class="{one}" style="flex: {counts[one]}"></i>' for one in shown if counts[one]
        ]
        bar = f'<td><div class="bar">{"".join(parts)}</div></td>'
        lines.append(f'<tr><th scope="row">{name}</th><td>{counts.total()}</td>{cells}{bar}</tr>')
    return '<div class="wide"><table>\n{}\n</table></div>'.format("\n".join(lines))


def choice(counts: Mapping[str, int]) -> str:
    """Return the boxes that show and hide clauses by their status."""
    boxes = [
        f'<label><input type="checkbox" id="show-{one}" checked> {one} ({counts[one]})</label>'
        for one in STATUSES
        if counts.get(one)
    ]
    return f"<fieldset><legend>show</legend>{''.join(boxes)}</fieldset>"


def row(verdict: Verdict, clause: Clause | None, dialect: Dialect | None) -> str:
    """Return one clause: verdict, id, level and title; inside, all that is to be said of it."""
    text = verdict.reason
    level = title = ""
    if clause:
        level, title = f" [{clause.level}] ", clause.title
        text = failure_text(verdict, clause, dialect, "evidence.json").partition("\n")[2]
    opened = " open" if verdict.status in WRONG else ""
    return (
        f'<details class="{verdict.status}" id="{escape(verdict.clause)}"{opened}><summary>'
        f"<b>{verdict.status}</b> <code>{escape(verdict.clause)}</code>{level}{escape(title)}"
        f"</summary><pre>{''.join(map(coloured, text.splitlines()))}</pre></details>"
    )


def coloured(line: str) -> str:
    """Return one line of a clause's text; what a diff adds or takes away is marked."""
    name, value = line[:MARGIN].strip(), line[MARGIN:]
    return marked(line, value[:1] if name in ("", "diff") else "")


def marked(line: str, sign: str) -> str:
    """Return one line as HTML, by the sign that a diff gives it."""
    tag = {"+": "ins", "-": "del"}.get(sign)
    return f"<{tag}>{escape(line)}</{tag}>\n" if tag else f"{escape(line)}\n"
