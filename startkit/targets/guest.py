"""The traces that judging leaves on somebody else's engine and on the host, taken away.

Rule: only what was not there before is removed, and only by the one who came first
and leaves last: the controller of a run, never one of several workers.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from startkit.client import Client, ClientError
from startkit.observe import cgroups
from startkit.observe.life import IMAGE
from startkit.targets.target import Socket

if TYPE_CHECKING:
    from startkit.targets.target import Target

# cgroups that engines make above a container's and never remove: their own, and a scene's
PARENT = "docker"
OURS = "startkit-suite"


class Guest:
    """What was there before."""

    def __init__(self, target: Target) -> None:
        self.client = Client(target.path, timeout_s=5) if isinstance(target, Socket) else None
        self.had_image = self.has_image()
        self.absent = [path for path in parents(PARENT) if not os.path.isdir(path)]

    def has_image(self) -> bool:
        """Say whether the running engine has the suites' image; True when it does not answer."""
        try:
            return not self.client or self.client.get(f"/images/{IMAGE}/json").status == 200
        except ClientError:
            return True

    def leave(self) -> None:
        """Remove the image from an engine that runs on, and the empty cgroup parents."""
        if self.client and not self.had_image:
            with contextlib.suppress(ClientError):
                self.client.delete(f"/images/{IMAGE}", force=True)
        for path in (*self.absent, *parents(OURS)):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def parents(name: str) -> list[str]:
    """Return where a cgroup parent stands or would stand in each hierarchy."""
    return [os.path.join(top, name) for top in cgroups.hierarchies().values()]
