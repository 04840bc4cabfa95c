"""vfs: no union at all, each layer is a full copy of its parent in `dir/<layer>`.

Works on every file system and every kernel. `layers/<layer>` names the parents,
nearest first, one a line: the copies themselves no longer tell.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, BinaryIO

from startkit.daemon import archive
from startkit.daemon.errors import ServerError
from startkit.daemon.graph import (
    check_depth,
    check_name,
    read_parents,
    tree_size,
    write_parents,
)

if TYPE_CHECKING:
    from pathlib import Path


class Vfs:
    """The driver of last resort."""

    name = "vfs"

    def __init__(self, root: Path) -> None:
        self.trees, self.parents = root / "dir", root / "layers"
        for directory in (self.trees, self.parents):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, layer: str, parent: str | None) -> None:
        """Copy the parent's tree: owners, modes, times, links, devices and attributes."""
        tree = self.trees / check_name(layer)
        parents = [] if parent is None else [parent, *self.layers(parent)]
        check_depth(parents)
        tree.mkdir(mode=0o755)
        tree.chmod(0o755)
        try:
            if parent is not None:
                copy_tree(self.diff(parent), tree)
            write_parents(self.parents, layer, parents)
        except BaseException:
            self.remove(layer)
            raise

    def layers(self, layer: str) -> list[str]:
        """Return the parents, nearest first."""
        return read_parents(self.parents, layer)

    def diff(self, layer: str) -> Path:
        """Return the whole tree: vfs does not know what of it is the layer's own."""
        return self.trees / check_name(layer)

    def apply(self, layer: str, tar: BinaryIO) -> int:
        """Unpack over the copy; whiteouts remove."""
        return archive.unpack(tar, os.fspath(self.diff(layer)), Removals())

    def mount(self, layer: str) -> Path:
        """Return the tree: it is merged already."""
        self.layers(layer)
        return self.diff(layer)

    def unmount(self, layer: str) -> None:
        """Do nothing: nothing was mounted."""
        check_name(layer)

    def remove(self, layer: str) -> None:
        """Remove the copy and the list of its parents."""
        tree = self.diff(layer)
        if tree.exists():
            shutil.rmtree(tree)
        (self.parents / layer).unlink(missing_ok=True)

    def size(self, layer: str) -> int:
        """Return the bytes of the whole tree."""
        return tree_size(os.fspath(self.diff(layer)))

    def metadata(self, layer: str) -> dict[str, str] | None:
        """Return nothing, as Docker does for vfs."""
        return None


class Removals:
    """vfs' dialect: what is hidden is deleted from the copy."""

    def hide(self, parent: int, name: str, path: str, own: set[str]) -> None:
        """Delete `name`, unless the layer itself has brought it."""
        if path in own:
            return
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            shutil.rmtree(name, dir_fd=parent)

    def opaque(self, parent: int, path: str, own: set[str]) -> None:
        """Delete everything in the directory that the layer itself has not brought."""
        prefix = f"{path}/" if path else ""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            for name in os.listdir(fd):
                inside = f"{prefix}{name}"
                if inside not in own:
                    self.hide(fd, name, inside, own)
                elif is_directory(fd, name):
                    below = os.open(
                        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd
                    )
                    try:
                        self.opaque(below, inside, own)
                    finally:
                        os.close(below)
        finally:
            os.close(fd)


def is_directory(parent: int, name: str) -> bool:
    """Whether `name` in an open directory is a directory itself, not a link to one."""
    return stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode)


def copy_tree(source: Path, target: Path) -> None:
    """Copy everything in `source` into `target`. Raises ServerError with cp's own words."""
    words = ["cp", "-a", "--reflink=auto", "--", f"{source}/.", os.fspath(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        full = "No space left on device" in done.stderr
        raise ServerError("no space left on device" if full else done.stderr.strip()[:500])
