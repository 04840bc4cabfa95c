"""A start is a list of named steps; this is what a step is.

Rule: a step that fails undoes nothing of its own making on the way out of `run`
except through the `undo` of the steps that finished before it, last one first.
A step whose `do` raises cleans up after itself.

The names are the seam for lessons and mutants: the same list with one `do` exchanged.
Standard library only: the shim and the runtime stand on this as well. Nothing is
imported at run time: `typing` alone is 9 ms and 1.5 MB, in every shim.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


class Step:
    """One named step.

    `do` and `undo` get the one object that the whole list works on.
    `says` is the sentence that `explain` prints.
    """

    __slots__ = ("do", "name", "says", "undo")

    def __init__(
        self,
        name: str,
        do: Callable[[Any], Any],
        undo: Callable[[Any], Any] | None = None,
        says: str = "",
    ) -> None:
        self.name, self.do, self.undo, self.says = name, do, undo, says


def run(steps: Iterable[Step], subject: Any) -> None:
    """Do every step in order; where one raises, undo the finished ones in reverse and raise on.

    An `undo` that fails does not stop the others: its error is attached as a note.
    """
    done: list[Step] = []
    try:
        for step in steps:
            step.do(subject)
            done.append(step)
    except BaseException as error:
        undo(done, subject, error)
        raise


async def run_async(steps: Iterable[Step], subject: Any) -> None:
    """Like `run`, for lists in which some `do` or `undo` returns an awaitable."""
    done: list[Step] = []
    try:
        for step in steps:
            result = step.do(subject)
            if hasattr(result, "__await__"):
                await result
            done.append(step)
    except BaseException as error:
        await undo_async(done, subject, error)
        raise


def undo(done: list[Step], subject: Any, error: BaseException | None = None) -> None:
    """Undo finished steps, the last one first."""
    for step in reversed(done):
        if step.undo is None:
            continue
        try:
            step.undo(subject)
        except Exception as failure:
            if error is not None:
                error.add_note(f"undoing {step.name}: {failure}")


async def undo_async(done: list[Step], subject: Any, error: BaseException) -> None:
    """Like `undo`, awaiting what is awaitable."""
    for step in reversed(done):
        try:
            result = step.undo(subject) if step.undo else None
            if result is not None:
                await result
        except Exception as failure:
            error.add_note(f"undoing {step.name}: {failure}")
