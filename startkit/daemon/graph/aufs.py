"""aufs: `diff/<layer>`, `layers/<layer>`, `mnt/<layer>`, and one union mount.

Rule: every byte of mount data is built in `mount_options`; nothing there touches
the kernel. Mount data is limited to one page: layers that do not fit are added one
by one, with a remount each. `ro+wh` honours whiteouts on read-only branches; plain
`ro`, which the article types by hand, does not, and deleted files come back.
Source: article, heading on the rootfs; era.md section 2.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from startkit import kernel
from startkit.daemon import archive
from startkit.daemon.graph import (
    check_depth,
    check_name,
    read_parents,
    tree_size,
    write_parents,
)

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
XINO = "dio,xino=/dev/shm/aufs.xino"
# What Docker keeps free of the page for XINO and the words around the mount label.
ROOM, ROOM_DIRPERM1 = 54, len("dirperm1")


class Mount(NamedTuple):
    """The data of the one mount, and of each remount after it."""

    first: str
    remounts: list[str]


def mount_options(
    rw: str, ro: list[str], *, dirperm1: bool = False, label: str = "", page: int = PAGE
) -> Mount:
    """Return the mount data for a writable branch over read-only ones, topmost first.

    Shape: `br:<rw>=rw:<ro>=ro+wh:...,dio,xino=/dev/shm/aufs.xino[,dirperm1]`, then
    `append:<ro>=ro+wh` a remount. Raises ValueError where not even `rw` fits the page.
    """
    room = page - ROOM - (ROOM_DIRPERM1 if dirperm1 else 0) - len(label)
    branches = f"br:{rw}=rw"
    if len(branches) > room:
        raise ValueError(f"writable branch of {len(branches)} bytes, room for {room}")
    fitting = 0
    for layer in ro:
        if len(branches) + len(f":{layer}=ro+wh") > room:
            break
        branches += f":{layer}=ro+wh"
        fitting += 1
    options = f"{branches},{XINO}{',dirperm1' if dirperm1 else ''}"
    rest = [labelled(f"append:{layer}=ro+wh", label) for layer in ro[fitting:]]
    return Mount(labelled(options, label), rest)


def labelled(data: str, label: str) -> str:
    """Return mount data with an SELinux label, as the kernel's security hooks read it."""
    return f'{data},context="{label}"' if label else data


def has_dirperm1() -> bool:
    """Whether this kernel's aufs knows `dirperm1`: only the topmost branch's mode counts."""
    try:
        with open("/sys/module/aufs/parameters/brs"):
            return True  # module parameters came with the versions that have it
    except OSError:
        return False


class Aufs:
    """The article's driver."""

    name = "aufs"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trees, self.parents, self.mounts = root / "diff", root / "layers", root / "mnt"
        for directory in (self.trees, self.parents, self.mounts):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, layer: str, parent: str | None) -> None:
        """Make the layer's entry in each of the three directories."""
        check_name(layer)
        parents = [] if parent is None else [parent, *self.layers(parent)]
        check_depth(parents)
        (self.trees / layer).mkdir(mode=0o755)
        try:
            (self.trees / layer).chmod(0o755)
            (self.mounts / layer).mkdir(mode=0o755)
            write_parents(self.parents, layer, parents)
        except BaseException:
            self.remove(layer)
            raise

    def layers(self, layer: str) -> list[str]:
        """Return the parents, nearest first."""
        return read_parents(self.parents, layer)

    def diff(self, layer: str) -> Path:
        """Return the layer's own directory."""
        return self.trees / check_name(layer)

    def apply(self, layer: str, tar: BinaryIO) -> int:
        """Unpack; a whiteout is the file `.wh.x`, as it stands in the archive."""
        return archive.unpack(tar, os.fspath(self.diff(layer)))

    def options(self, layer: str) -> Mount:
        """Return the mount data for a layer over its parents, as absolute paths."""
        ro = [os.fspath(self.diff(parent)) for parent in self.layers(layer)]
        return mount_options(os.fspath(self.diff(layer)), ro, dirperm1=has_dirperm1())

    def mount(self, layer: str) -> Path:
        """Mount at `mnt/<layer>`. A layer without parents is its own merged tree."""
        if not self.layers(layer):
            return self.diff(layer)
        target = self.mounts / layer
        if not os.path.ismount(target):
            data = self.options(layer)
            kernel.mount("none", target, "aufs", 0, data.first)
            try:
                for more in data.remounts:
                    kernel.mount("none", target, "aufs", kernel.MS_REMOUNT, more)
            except OSError:
                kernel.umount(target)
                raise
        return target

    def unmount(self, layer: str) -> None:
        """Unmount; the empty directory stays, as the article sees it."""
        try:
            kernel.umount(self.mounts / check_name(layer))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise

    def remove(self, layer: str) -> None:
        """Remove the layer's three entries."""
        self.unmount(layer)
        for directory in (self.mounts, self.trees):
            if (directory / layer).exists():
                shutil.rmtree(directory / layer)
        (self.parents / layer).unlink(missing_ok=True)

    def size(self, layer: str) -> int:
        """Return the bytes of the layer's own files."""
        return tree_size(os.fspath(self.diff(layer)))

    def metadata(self, layer: str) -> dict[str, str] | None:
        """Return nothing, as Docker does for aufs."""
        return None
