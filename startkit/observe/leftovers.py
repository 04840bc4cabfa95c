"""What is left of a container after its removal.

Rule: an engine has `SETTLE_S` to finish what its answer to DELETE promised; then
whatever bears the container's id, or was its place, is written down.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from startkit.observe import cgroups, config, disk, procfs
from startkit.observe.look import is_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from startkit.observe.look import Subject

SETTLE_S = 5.0
POLL_S = 0.02  # there is no event for "nothing is left"


def settle(subject: Subject) -> list[str]:
    """Wait until nothing is left, at most SETTLE_S; return what is."""
    end = time.monotonic() + SETTLE_S
    while (left := sorted(search(subject))) and time.monotonic() < end:
        time.sleep(POLL_S)
    return left


def search(subject: Subject) -> Iterator[str]:
    """Yield `kind place` of everything that still belongs to the container."""
    for mount in procfs.mounts():
        if subject.id in mount.target or is_below(mount.target, subject.places.get("rootfs")):
            yield f"mount {mount.target}"
    for directory in cgroups.find(subject.id).values():
        yield f"cgroup {directory}"
    for pid in procfs.naming(subject.id):
        yield f"process {' '.join(procfs.words(f'/proc/{pid}/cmdline'))}"
    run = config.exec_root(subject.daemon)
    for path in {*places(subject), *disk.named(run, subject.id)}:
        if os.path.lexists(path):
            yield f"path {path}"


def places(subject: Subject) -> Iterator[str]:
    """Yield the paths that were the container's own."""
    if subject.root:
        yield os.path.join(subject.root, "containers", subject.id)
    for name in ("bundle", "container_dir", "state_dir", "rootfs"):
        if place := subject.places.get(name):
            yield place
    yield from subject.places.get("fifos", {}).values()
