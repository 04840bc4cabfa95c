"""Which worker runs which test, and what is run again when a worker is lost.

2026-11-24: an own scheduler, because `--dist loadgroup` does not group on pytest 9.2
(pytest-dev/pytest-xdist#1386): a scene would be started on every worker.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

CONFORMANCE = "suites/conformance/"


class ByScene(LoadScopeScheduling):
    """Scope of a conformance test: its scene. Of any other test: its file.

    A test whose worker is lost runs once more; one that takes two workers does not.
    """

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self.lost: Counter[str] = Counter()  # test -> workers that were lost in it

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        scene = name.partition("[")[2].removesuffix("]")
        return scene if scene and nodeid.startswith(CONFORMANCE) else file

    def remove_node(self, node: WorkerController) -> str | None:
        """Hand out again what a lost worker has not ended; return the test it was lost in.

        pytest-xdist hands out scenes that have ended, too, and then waits for them for ever.
        """
        left: list[tuple[str, str]] = [
            (scope, test)
            for scope, unit in self.assigned_work.pop(node).items()
            for test, ended in unit.items()
            if not ended
        ]
        if not left:
            return None
        crashed = left[0][1]
        self.lost[crashed] += 1
        for scope, test in left[self.lost[crashed] > 1 :]:
            self.workqueue.setdefault(scope, {})[test] = False
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker two tests: it keeps one back until it hears whether another follows."""
        if node not in self.registered_collections:
            return  # a new one, which takes part when it has collected
        super()._reschedule(node)
        few = self._pending_of(self.assigned_work[node]) < 2
        if few and self.workqueue and not node.shutting_down:
            self._reschedule(node)
