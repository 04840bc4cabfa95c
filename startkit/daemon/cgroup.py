"""The container's cgroup directories, one in every hierarchy of this machine.

Rule: a path is resolved as if the hierarchy were the root, so `..` leads nowhere.
Limits are not set here: config.json carries them and the runtime writes them.
Source: article, heading on the bundle; era.md section 4, cgroupsPath.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from startkit.daemon.start import Start

DEFAULT_PARENT = "/docker"
MADE = "cgroups"  # below the exec root: the parents that no other daemon has made


def path_of(container_id: str, parent: str) -> str:
    """Return config.json's cgroupsPath: `/docker/ID`, or `<parent>/ID`."""
    inside = posixpath.normpath("/" + (parent or DEFAULT_PARENT).lstrip("/"))
    return posixpath.join(inside, container_id)


def hierarchies() -> list[Path]:
    """Return the mount points of the cgroup file systems, in the order of the mount table."""
    found: dict[str, None] = {}
    with open("/proc/self/mountinfo") as table:
        for line in table:
            fields, _, rest = line.partition(" - ")
            if rest.startswith(("cgroup ", "cgroup2 ")) and fields.split()[3] == "/":
                found[fields.split()[4]] = None
    return [Path(point) for point in found]


def directories(start: Start) -> list[Path]:
    """Return the container's directory in every hierarchy."""
    relative = path_of(start.container.id, start.cgroup_parent).lstrip("/")
    return [point / relative for point in hierarchies()]


def make(start: Start) -> None:
    """Step: make the directory in every hierarchy, parents too.

    Raises OSError, with those removed again that were made.
    """
    start.container.cgroups = directories(start)
    try:
        for directory in start.container.cgroups:
            inherit_cpuset(directory)
            note_parents(start, directory)
            directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove(start)
        raise


def inherit_cpuset(directory: Path) -> None:
    """Make sure that a v1 cpuset group made below starts with its parent's cpus and nodes.

    Without it the group is empty and takes no process. Source: cpuset(7), clone_children.
    """
    top = next(parent for parent in directory.parents if parent.exists())
    if (top / "cpuset.cpus").exists():
        with contextlib.suppress(OSError):
            (top / "cgroup.clone_children").write_text("1")


def remove(start: Start) -> None:
    """Undo of `make`. A parent that others made, or still use, stays."""
    for directory in start.container.cgroups:
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
                raise
    start.container.cgroups = []


def note_parents(start: Start, directory: Path) -> None:
    """Write down which parents are not there yet: a daemon that crashed made them, too."""
    missing = [parent for parent in directory.parents if not parent.exists()]
    if missing:
        with (start.daemon.config.exec_root / MADE).open("a") as file:
            file.writelines(f"{parent}\n" for parent in reversed(missing))


def remove_parents(exec_root: Path) -> None:
    """Remove the parents that we made, where nobody uses them; those of others stay."""
    with contextlib.suppress(FileNotFoundError):
        for path in sorted((exec_root / MADE).read_text().splitlines(), reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        (exec_root / MADE).unlink()
