"""What a clause needs of host and engine before it says anything.

Rule: an unmet need is the verdict `not-applicable` with its reason, never a failure
of the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


# what an engine may be built without; a dialect's `[[lack]]` says so, and why
CAPABILITIES = {
    "containerd": "a process between daemon and shims that keeps the containers",
    "fifos": "named pipes between the engine and a container",
    "json-log": "a log of JSON lines",
    "resolv-conf": "a resolv.conf of the container's own, be it without a network",
}


def unmet(needs: Iterable[str], seen: Seen) -> str | None:
    """Return why these words are not met on this host, with this storage driver, or None."""
    wanted = (NEEDS[word] for word in needs if word in NEEDS)
    return next((reason for met, reason in wanted if not met(seen)), None)
