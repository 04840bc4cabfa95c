"""One run: what was asked for, what was judged, and what it comes to.

Rule: nothing here knows pytest; the suite's conftest feeds it, and a command line can.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from startkit import __version__
from startkit.judge.text import failure_text
from startkit.judge.verdict import JUDGED, Verdict, counts_against, exit_code
from startkit.report import html, result, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from startkit.judge.clause import Clause
    from startkit.judge.dialect import Dialect
    from startkit.observe.evidence import Seen


class Run(msgspec.Struct, kw_only=True):
    """A run. `results`: the directory for its files, made when there is something to write."""

    target: str
    strict: bool
    results: Path | None
    clauses: dict[str, Clause]
    dialect: Dialect | None = None
    verdicts: list[Verdict] = []
    parts: list[Seen] = []  # evidence, one a worker
    notes: list[str] = []  # what a reader must know: why a target could not be watched ...

    def note(self, text: str | None) -> None:
        """Keep a sentence, once."""
        if text and text not in self.notes:
            self.notes.append(text)

    def keep(self, verdict: Verdict) -> None:
        """Keep one verdict a clause, the first: what comes later comes from a teardown."""
        if all(one.clause != verdict.clause for one in self.verdicts):
            self.verdicts.append(verdict)

    def code(self) -> int:
        """Return 0 as expected, 1 differs or stale, 3 broken, or something without evidence."""
        return exit_code(self.verdicts, self.clauses, strict=self.strict)

    def areas(self) -> list[str]:
        """Return the areas in the article's order, as the clauses come."""
        return list(dict.fromkeys(name.partition(".")[0] for name in self.clauses))

    def why(self) -> str:
        """Return why the exit status is 3."""
        broken = [one.clause for one in self.verdicts if one.status == "broken"]
        if broken:
            return f"broken: {', '.join(broken)}"
        silent = sum(one.status == "no-evidence" for one in self.verdicts)
        judged = any(one.status in JUDGED for one in self.verdicts)
        head = f"{silent} without evidence" if judged else "nothing was judged"
        return f"{head}: {text.silence(self.verdicts, self.notes)}"

    def summary(self, status: int, *, color: bool) -> str:
        """Return scoreboard and last lines. `status`: the exit status of all that was run."""
        seen = result.merge(self.parts)
        name = seen.target if seen else self.target
        title = f"{name} judged by {len(self.clauses)} clauses" + (
            f", dialect {self.dialect.name}" if self.dialect else ", no dialect"
        )
        lines = [text.scoreboard(title, self.verdicts, self.areas(), color=color)]
        lines += self.notes
        if self.results:
            lines.append(f"report.html, evidence.json, results.jsonl in {self.results}")
        code = self.code()
        line = text.sentence(result.count(self.verdicts), code, self.why())
        other = f"exit {status}: something else failed; for the verdicts alone {line}"
        lines.append(line if code == status else other)
        return "\n".join(lines)

    def failures(self, place: str) -> Iterator[str]:
        """Yield the text of each verdict that is not as expected. `place`: the evidence's."""
        for one in self.verdicts:
            clause = self.clauses[one.clause]
            if one.status == "broken" or counts_against(one, clause, strict=self.strict):
                yield failure_text(one, clause, self.dialect, place)

    def write(self) -> None:
        """Write evidence, verdicts and the page that shows them."""
        seen = result.merge(self.parts)
        if seen is None or self.results is None:
            return
        result.write(self.results / "evidence.json", seen)
        document = self.document(seen)
        result.write(self.results / "verdicts.json", document)
        result.write_whole(self.results / "results.jsonl", result.lines(document))
        made = html.page(document, self.clauses, self.dialect)
        result.write_whole(self.results / "report.html", made.encode())

    def document(self, seen: Seen) -> result.Result:
        """Return the results; verdicts in the order of the clauses."""
        place = {name: number for number, name in enumerate(self.clauses)}
        ordered = sorted(self.verdicts, key=lambda one: place.get(one.clause, len(place)))
        return result.Result(
            header=result.Header(
                target=seen.target,
                engine=seen.engine,
                version=seen.version,
                dialect=self.dialect.name if self.dialect else None,
                kernel=seen.host.kernel,
                cgroup=seen.host.cgroup,
                strict=self.strict,
                taken=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                startkit=__version__,
            ),
            verdicts=ordered,
            notes=self.notes,
            exit=self.code(),
            counts=result.count(ordered),
        )
