"""The freezer: all processes of a container stop where they are, and go on.

Rule: v1's freezer is used where there is one, v2's `cgroup.freeze` elsewhere.

Source: cgroup-v1/freezer-subsystem.rst, cgroup-v2.rst.
"""

from __future__ import annotations

import os
import time

from startkit.runtime.cgroup import read, write
from startkit.runtime.text import ContainerError


def freezer(directories: list[str]) -> tuple[str, bool]:
    """Return the file that freezes the container, and whether it is v1's; "" without one."""
    for name, first in (("freezer.state", True), ("cgroup.freeze", False)):
        for directory in directories:
            if os.path.exists(f"{directory}/{name}"):
                return f"{directory}/{name}", first
    return "", False


def freeze(directories: list[str], *, frozen: bool) -> None:
    """Freeze or thaw all processes, and wait until they have (at most 2 s). Raises OSError."""
    path, first = freezer(directories)
    if not path:
        raise ContainerError("this host has no cgroup to freeze processes with")
    words = ("THAWED", "FROZEN") if first else ("0", "1")
    deadline = time.monotonic() + 2
    while True:
        write(path, words[frozen])  # v1 needs to be told again when a fork got in between
        if first:
            done = read(path).strip() == words[frozen]
        else:
            done = f"frozen {words[frozen]}" in read(os.path.dirname(path) + "/cgroup.events")
        if done:
            return
        if time.monotonic() > deadline:
            if frozen:
                write(path, words[0])
            raise ContainerError("unable to freeze" if frozen else "unable to thaw")
        time.sleep(0.001)
