"""The traces that judging leaves on somebody else's engine and on the host, taken away.

Rule: only what was not there before is removed, and only by the one who came first
and leaves last: the controller of a run, never one of several workers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from startkit.client import Client, ClientError
from startkit.observe import cgroups
from startkit.observe.life import IMAGE
from startkit.targets.target import Socket

if TYPE_CHECKING:
    from startkit.targets.target import Target

# cgroups that engines make above a container's and never remove, and a scene's; inner ones first
CGROUPS = ("docker", "libpod_parent/conmon", "libpod_parent", "startkit-suite")
# what engines and runtimes keep outside of the places they are told, inner ones first
TRACES = (
    "/run/runc",
    "/var/lib/containers/cache/blob-info-cache-v1.boltdb",
    "/var/lib/containers/cache",
    "/var/lib/containers",
)
TOP = "/sys/fs/cgroup"


class Guest:
    """What was there before."""

    def __init__(self, target: Target | None = None) -> None:
        self.client = Client(target.path, timeout_s=5) if isinstance(target, Socket) else None
        self.book: IO[str] | None = None
        self.book = self.sign(self.client) if self.client else None
        self.had_image = self.has_image()
        inside = [os.path.join(top, name) for name in CGROUPS for top in hierarchies()]
        self.absent = [path for path in (*inside, *TRACES) if not os.path.exists(path)]
        self.tops = tops()

    def sign(self, client: Client) -> IO[str] | None:
        """Join the guests of an engine, whichever run they belong to. Not root: None."""
        name = hashlib.sha256(client.path.encode()).hexdigest()[:12]
        try:
            path = os.path.join(tempfile.gettempdir(), f"startkit-guests-{name}")
            book = open(path, "a+")  # noqa: SIM115 -- its lock is held until we leave
            fcntl.flock(book, fcntl.LOCK_SH)
        except OSError:
            return None
        book.seek(0)
        if not book.read(1):  # the first one writes down what was there
            book.write("yes" if self.has_image() else "no")
            book.flush()
        return book

    def is_last(self) -> bool:
        """Say whether no other run is a guest any more; sign off."""
        if self.book is None:
            return True
        with self.book as book, contextlib.suppress(OSError):
            fcntl.flock(book, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(book.name)
            return True
        return False

    def has_image(self) -> bool:
        """Say whether the engine had the suites' image before anybody came.

        True when it does not answer.
        """
        if self.book:
            self.book.seek(0)
            return self.book.read(1) == "y"
        try:
            return not self.client or self.client.get(f"/images/{IMAGE}/json").status == 200
        except ClientError:
            return True

    def leave(self) -> None:
        """Remove the image from an engine that runs on, and what it or ours left on the host."""
        if self.client and self.is_last() and not self.had_image:
            with contextlib.suppress(ClientError):
                self.client.delete(f"/images/{IMAGE}", force=True)
        for path in self.absent:
            with contextlib.suppress(OSError):
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        for path in tops() - self.tops:
            if not in_use(path):
                shutil.rmtree(path, ignore_errors=True)


def hierarchies() -> list[str]:
    """Return the mounted hierarchies."""
    return list(cgroups.hierarchies().values())


def tops() -> set[str]:
    """Return the directories that podman makes for v1 hierarchies that are not mounted here."""
    places = [os.path.join(TOP, name) for name in os.listdir(TOP)] if os.path.isdir(TOP) else []
    found = {place for place in places if os.path.isdir(os.path.join(place, "libpod_parent"))}
    return found - set(hierarchies())


def in_use(top: str) -> bool:
    """Say whether a living process is written down in such a directory: another run's."""
    for book in Path(top).rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            if any(os.path.exists(f"/proc/{pid}") for pid in book.read_text().split()):
                return True
    return False
