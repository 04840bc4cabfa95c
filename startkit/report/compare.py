"""`startkit diff`: two runs beside each other, clause by clause.

Rule: pure, on what results.jsonl holds; what was seen decides, not what was made of it, so
two engines that differ from the article in the same way are alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from startkit.judge import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from startkit.judge.verdict import Verdict
    from startkit.report.result import Result


class Pair(NamedTuple):
    """One clause on both sides; None where a run has no verdict on it."""

    clause: str
    first: Verdict | None
    second: Verdict | None

    def alike(self) -> bool:
        """Say whether both saw the same, or both nothing for the same reason."""
        one, other = self.first, self.second
        if one is None or other is None:
            return False
        silent = ("no-evidence", "not-applicable")
        if one.status in silent or other.status in silent:
            return one.status == other.status
        return bool(one.observed == other.observed) and (one.status == "broken") == (
            other.status == "broken"
        )


def pairs(first: Result, second: Result) -> list[Pair]:
    """Return the clauses of both runs, in the first one's order, then the second's own."""
    left = {one.clause: one for one in first.verdicts}
    right = {one.clause: one for one in second.verdicts}
    return [Pair(name, left.get(name), right.get(name)) for name in {**left, **right}]


def report(first: Result, second: Result) -> tuple[str, int]:
    """Return the text, and how many clauses are not alike."""
    found = pairs(first, second)
    unlike = [pair for pair in found if not pair.alike()]
    names = first.header.target, second.header.target
    if names[0] == names[1]:
        names = f"{names[0]} {first.header.taken}", f"{names[1]} {second.header.taken}"
    head = f"{names[0]} beside {names[1]}: {len(found) - len(unlike)} of {len(found)} clauses alike"
    return "\n".join([head, *(line for pair in unlike for line in lines(pair, names))]), len(unlike)


def lines(pair: Pair, names: tuple[str, str]) -> Iterator[str]:
    """Yield the clause, then each side with its verdict; long values as a diff."""
    yield f"\n{pair.clause}"
    sides = list(zip(names, (pair.first, pair.second), strict=True))
    values = [text.value_text(one.observed) if one else "" for one in (pair.first, pair.second)]
    long = max(map(len, values)) > text.WIDTH and all((pair.first, pair.second))
    for (name, verdict), value in zip(sides, values, strict=True):
        if verdict is None:
            yield f"  {name}: no verdict"
        else:
            told = verdict.observed is not None and not long
            yield f"  {name}: {verdict.status}{f', {value}' if told else ''}"
    if long and pair.first and pair.second:
        for line in text.difference(pair.first.observed, pair.second.observed).splitlines()[2:]:
            yield f"    {line}"
