"""The judge: one clause, what was seen, a dialect; one verdict.

Rule: pure. No file, no clock, no engine; what it needs comes in as arguments.

1. What is expected and what was seen become plain data with tokens in it.
2. Alike: `conforms`; but an entry of the dialect says that it always differs: `stale`.
3. Not alike: what the dialect's entry says is seen: `expected-difference`.
4. Something else than the entry says: `stale`. No entry: `differs`.
5. A test that gives `want` where the clause has a value, or none where it is computed:
   `broken`, for the suite is wrong and not the engine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.judge.normalise import normalise
from startkit.judge.verdict import Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from startkit.judge.clause import Clause
    from startkit.judge.dialect import Dialect

UNSET = msgspec.UNSET
ANY = "<...>"


def judge(
    clause: Clause,
    observed: Any,
    dialect: Dialect | None,
    *,
    want: Any = UNSET,
    names: Mapping[str, str],
) -> Verdict:
    """Return the verdict. `names`: token -> text of this run; `want`: a computed clause's value."""
    if (want is UNSET) == (clause.expected is UNSET):
        said = "no `want`" if want is UNSET else "`want`, and the clause has a value"
        return verdict_of(clause, "broken", f"the test gives {said}")
    try:
        seen = normalise(observed, names)
        expected = normalise(clause.expected if want is UNSET else want, names)
    except TypeError as error:
        return verdict_of(clause, "broken", f"no plain data: {error}")
    status, reason = decide(clause, alike(expected, seen), seen, dialect)
    return verdict_of(clause, status, reason, expected=expected, observed=seen)


def decide(clause: Clause, same: bool, seen: Any, dialect: Dialect | None) -> tuple[Status, str]:
    """Return status and reason, by what the dialect says."""
    if dialect and (lack := dialect.lacks(clause)):
        return "stale", f"{dialect.name} says that it has no {lack.what}; it was seen"
    entry = dialect.entry(clause.id) if dialect else None
    if dialect is None or entry is None:
        return ("conforms", "") if same else ("differs", "")
    if same and entry.sometimes:
        return "conforms", ""
    if same:
        return "stale", f"{dialect.name} says that it differs; it does not"
    if fits(entry.seen, seen) or (entry.any_order and same_items(entry.seen, seen)):
        return "expected-difference", entry.reason
    return "stale", f"{dialect.name} says that something else is seen: {entry.seen!r}"


def alike(one: Any, other: Any) -> bool:
    """Compare plain data; unlike Python, True is not 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def fits(told: Any, seen: Any) -> bool:
    """Compare what an entry says with what was seen; ANY is whatever text or items there are."""
    if isinstance(told, str) and isinstance(seen, str):
        return bool(re.fullmatch(".*".join(map(re.escape, told.split(ANY))), seen, re.DOTALL))
    if not (isinstance(told, list) and isinstance(seen, list)):
        return alike(told, seen)
    if told[:1] == [ANY]:
        return any(fits(told[1:], seen[skipped:]) for skipped in range(len(seen) + 1))
    if told and seen:
        return fits(told[0], seen[0]) and fits(told[1:], seen[1:])
    return not told and not seen


def same_items(one: Any, other: Any) -> bool:
    """Compare two lists without regard to their order."""
    if not isinstance(one, list) or not isinstance(other, list):
        return False
    return alike(sorted(one, key=repr), sorted(other, key=repr))


def verdict_of(
    clause: Clause, status: Status, reason: str, *, expected: Any = None, observed: Any = None
) -> Verdict:
    """Return a verdict on a clause in its scene."""
    return Verdict(
        clause=clause.id,
        status=status,
        expected=expected,
        observed=observed,
        reason=reason,
        scene=clause.scene,
    )
