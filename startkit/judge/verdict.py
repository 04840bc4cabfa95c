"""A verdict, the order of verdicts, and what a run of them comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from startkit.judge.clause import Clause

Status = Literal[
    "conforms",
    "not-applicable",
    "expected-difference",
    "no-evidence",
    "differs",
    "stale",
    "broken",
]
WORST: tuple[Status, ...] = get_args(Status)  # the last one wins
JUDGED = {"conforms", "expected-difference", "differs", "stale"}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one clause. `expected` and `observed` are plain data with tokens."""

    clause: str
    status: Status
    expected: Any
    observed: Any
    reason: str = ""
    scene: str = ""


def worst(verdicts: Iterable[Verdict]) -> Status:
    """Return the worst status; nothing judged is `no-evidence`."""
    found = [WORST.index(verdict.status) for verdict in verdicts]
    return WORST[max(found)] if found else "no-evidence"


def counts_against(verdict: Verdict, clause: Clause | None, *, strict: bool = False) -> bool:
    """Say whether a verdict fails a run: a SHOULD that differs does so only when strict."""
    lenient = clause is not None and clause.level == "SHOULD" and not strict
    return verdict.status == "stale" or (verdict.status == "differs" and not lenient)


def exit_code(
    verdicts: Iterable[Verdict], clauses: Mapping[str, Clause], *, strict: bool = False
) -> int:
    """Return 0 as expected, 1 differs or stale, 3 broken, or something without evidence."""
    found = list(verdicts)
    statuses = {verdict.status for verdict in found}
    if "broken" in statuses or not statuses & JUDGED:
        return 3
    against = (counts_against(one, clauses.get(one.clause), strict=strict) for one in found)
    if any(against):
        return 1
    return 3 if "no-evidence" in statuses else 0  # who hangs is not as expected
