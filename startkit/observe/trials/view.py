"""A trial as a test reads it: `seen.asked("user")`, `seen.glimpse("created").state`.

Rule: as in `view`: it finds and never judges, and says why where nothing was seen.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from startkit.observe.procfs import parse_mount
from startkit.observe.view import NOT_MOUNTED, NoEvidence

if TYPE_CHECKING:
    from startkit.observe.evidence import Glimpse, Mount, Process, Ran, Seen, Trial


class TrialView:
    """One bundle under one runtime."""

    def __init__(self, seen: Seen, trial: Trial) -> None:
        self.seen, self.scene = seen, trial

    def names(self) -> dict[str, str]:
        """Return token -> text of this run."""
        found = {"<ID>": self.scene.id, "<BUNDLE>": self.scene.bundle}
        return {token: text for token, text in found.items() if text}

    def call(self, label: str) -> Ran:
        """Return what came of a call. Raises NoEvidence."""
        found = self.scene.calls.get(label)
        if found is None:
            raise NoEvidence(self.scene.broken or f"{label} was never called")
        return found

    @property
    def leftovers(self) -> list[str]:
        """Return what was left after the last call. Raises NoEvidence."""
        if self.scene.broken:
            raise NoEvidence(self.scene.broken)
        return self.scene.leftovers

    def refusal(self) -> str | None:
        """Return the first of create and start that the runtime refused."""
        for label in ("create", "start"):
            found = self.scene.calls.get(label)
            if found and found.status:
                return f"{label}: {found.said.strip()[:200]}"
        return None

    def answers(self, *labels: str) -> list[str]:
        """Return `done` or `refused` for each call."""
        return ["refused" if self.call(label).status else "done" for label in labels]

    def glimpse(self, label: str) -> Glimpse:
        """Return what was seen at a call of `state`. Raises NoEvidence."""
        self.call(label)
        return self.scene.glimpses[label]

    def state(self, label: str) -> dict[str, Any]:
        """Return what `state` printed. Raises NoEvidence."""
        found = self.glimpse(label).state
        if found is None:
            raise NoEvidence(f"{label}: no JSON: {self.call(label).said[:200]}")
        return found

    def status(self, label: str) -> str:
        """Return the status that `state` told, or `unknown` where it was refused."""
        self.call(label)
        state = self.scene.glimpses[label].state
        return str(state.get("status")) if state else "unknown"

    def init(self, label: str) -> Process:
        """Return the process that `state` named. Raises NoEvidence."""
        found = self.glimpse(label).init
        if found is None:
            raise NoEvidence(f"{label}: no process of this pid")
        return found

    def asked(self, name: str) -> list[str]:
        """Return the lines that the program said to a question. Raises NoEvidence."""
        _, asked, rest = self.scene.output.partition(f"== {name}\n")
        if not asked:
            create = self.scene.calls.get("create")
            why = create.said.strip()[:200] if create and create.status else "it was not answered"
            raise NoEvidence(self.scene.broken or f"{name}: {why}")
        return rest.partition("== ")[0].splitlines()

    def said(self) -> str:
        """Return all that the program has said."""
        self.call("create")
        return self.scene.output

    def mounts(self) -> list[Mount]:
        """Return the container's mountinfo as its program read it; empty where it could not."""
        found = []
        for line in self.asked("mounts"):
            with contextlib.suppress(ValueError, IndexError):
                found.append(parse_mount(line))
        return found

    def mount(self, target: str) -> Mount:
        """Return the uppermost mount at a place; where nothing is mounted, one that says so."""
        return next((one for one in reversed(self.mounts()) if one.target == target), NOT_MOUNTED)

    def limit(self, name: str) -> str:
        """Return a cgroup file of the running container, `memory.limit_in_bytes`."""
        files = self.glimpse("running").cgroup_files
        found = [text for path, text in files.items() if path.rpartition("/")[2] == name]
        if not found:
            raise NoEvidence(f"no cgroup of the container has {name}")
        return found[0]

    def wrote(self, name: str) -> str:
        """Return a file that a hook wrote, "" where it never did."""
        self.call("create")
        return self.scene.files.get(name, "")


def other_namespaces(seen: TrialView, process: Process) -> list[str]:
    """Return the kinds of namespace in which a process differs from us."""
    own = seen.seen.host.namespaces
    return sorted(kind for kind, name in process.namespaces.items() if own.get(kind, name) != name)


def told(seen: TrialView, hook: str) -> dict[str, Any]:
    """Return the state that a hook was told, {} where it was told none."""
    try:
        state = json.loads(seen.wrote(f"{hook}.state"))
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def ran(seen: TrialView) -> list[str]:
    """Return the hooks in the order in which they ran."""
    return seen.wrote("order").split()
