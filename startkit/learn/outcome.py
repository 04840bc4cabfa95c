"""What goes into a try of a lesson, and what comes of it."""

from __future__ import annotations

import msgspec

from startkit.judge.verdict import Verdict  # noqa: TC001  msgspec reads it

GOOD = ("conforms", "not-applicable", "expected-difference")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried."""

    lesson: str
    source: str
    evidence: str = ""  # where it will be kept
    slower: int = 1  # than a machine of one's own
    clauses: list[str] = []  # the lesson's own, where there are none


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a try. `notes`: what went wrong in the student's file, `FILE:LINE: text`."""

    lesson: str
    verdicts: list[Verdict] = []
    notes: list[str] = []
    printed: list[str] = []
    engine: str = ""  # what the engine answered to a start that failed
    trouble: str = ""  # why nothing could be watched
    failure: str = ""  # the first clause that does not hold, as the suite shows it
    evidence: msgspec.Raw = msgspec.Raw(b"null")
    text: str = ""

    @property
    def passed(self) -> bool:
        """Say whether all clauses hold."""
        return bool(self.verdicts) and not self.red

    @property
    def red(self) -> list[Verdict]:
        """The clauses that do not."""
        return [one for one in self.verdicts if one.status not in GOOD]
