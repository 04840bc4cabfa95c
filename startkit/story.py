"""The whole start as one list: each program's steps, where the one before hands over.

Rule: only the engine's own tuples are read; nothing is listed twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from startkit.containerd.create import CREATE as CONTAINERD
from startkit.daemon.start import START
from startkit.runtime.create import CREATE as RUNTIME
from startkit.runtime.init import INIT
from startkit.shim.shim import START as SHIM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from startkit.steps import Step

PROGRAMS: dict[str, Sequence[Step]] = {
    "dockerd": START,
    "containerd": CONTAINERD,
    "shim": SHIM,
    "runtime": RUNTIME,
    "init": INIT,
}
# "PROGRAM STEP": the program that goes on from there
HANDS_OVER = {
    "dockerd call-containerd": "containerd",
    "containerd spawn-shim": "shim",
    "shim create": "runtime",
    "runtime clone-init": "init",
}


def steps(program: str = "dockerd") -> Iterator[tuple[str, str, str]]:
    """Yield (program, step, what it says) in the order of a start."""
    for step in PROGRAMS[program]:
        yield program, step.name, step.says
        following = HANDS_OVER.get(f"{program} {step.name}")
        if following:
            yield from steps(following)
