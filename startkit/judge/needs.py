"""What a clause needs of host and engine before it says anything.

Rule: an unmet need is the verdict `not-applicable` with its reason, never a failure
of the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from startkit.judge.clause import Clause
    from startkit.observe.evidence import Seen


def stores_in(driver: str) -> Callable[[Seen], bool]:
    """Return the question for a storage driver; an engine of which nothing is known may have it."""
    return lambda seen: seen.info.get("Driver", driver) == driver


# word -> (is it met?, what is said when it is not)
NEEDS: dict[str, tuple[Callable[[Seen], bool], str]] = {
    "aufs": (stores_in("aufs"), "the layers are not in aufs"),
    "overlay2": (stores_in("overlay2"), "the layers are not in overlay2"),
    "cgroup-v1": (lambda seen: seen.host.cgroup != "v2", "the host has no cgroup v1"),
    "cgroup-v2": (lambda seen: seen.host.cgroup == "v2", "the host has not cgroup v2 alone"),
}


def capable(_: Seen) -> bool:
    """Say yes: a word that is not in NEEDS is a capability, which a target may lack."""
    return True


def unmet(clause: Clause, seen: Seen, lacks: Iterable[str] = ()) -> str | None:
    """Return why a clause does not apply, or None. `lacks`: capabilities the target is without."""
    missing = set(lacks)
    for word in clause.needs:
        met, reason = NEEDS.get(word, (capable, ""))
        if word in missing:
            return f"the target has no {word}"
        if not met(seen):
            return reason
    return None
