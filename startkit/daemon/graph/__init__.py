"""Graph drivers: how a stack of layers becomes one directory tree.

A layer is a name (64 hexadecimal digits, or that and `-init`) and has at most one
parent. Drivers keep what they need below `D/<driver>/` and remember nothing else.
Source: article, heading on the rootfs; era.md section 2.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, BinaryIO, Protocol

from startkit.daemon.errors import BadParameter, ServerError

if TYPE_CHECKING:
    from pathlib import Path

MAX_IMAGE_LAYERS = 125  # dockerd's; overlayfs and one page of mount data set it
MAX_LAYERS = MAX_IMAGE_LAYERS + 2  # plus a container's init layer and its writable one
LAYER = re.compile(r"[0-9a-f]{64}(-init)?")
NAMES = ("overlay2", "vfs", "aufs")


class Driver(Protocol):
    """What a graph driver does. Every call is safe to repeat."""

    name: str

    def create(self, layer: str, parent: str | None) -> None:
        """Make an empty layer. Raises BadParameter where the chain gets too long."""

    def diff(self, layer: str) -> Path:
        """Return the directory with the layer's own content, in the driver's dialect."""

    def apply(self, layer: str, tar: BinaryIO) -> int:
        """Unpack a layer's uncompressed tar into it; return its content's size in bytes."""

    def mount(self, layer: str) -> Path:
        """Return the merged tree, mounted where the driver needs a mount."""

    def unmount(self, layer: str) -> None:
        """Take the merged tree away. Fine where there is none."""

    def remove(self, layer: str) -> None:
        """Remove the layer, merged tree and all. Fine where there is none."""

    def layers(self, layer: str) -> list[str]:
        """Return the layer's parents, nearest first."""

    def size(self, layer: str) -> int:
        """Return the bytes of the layer's own files."""

    def metadata(self, layer: str) -> dict[str, str] | None:
        """Return what `inspect` shows as GraphDriver.Data."""


def open_driver(name: str, root: Path) -> Driver:
    """Return the driver `name` with its directories below `root` made.

    Raises BadParameter for an unknown name or a path that no mount option can hold,
    ServerError where the kernel lacks the file system.
    """
    if name not in NAMES:
        raise BadParameter(f"unknown storage driver {name!r}: one of {' '.join(NAMES)}")
    if any(character in os.fspath(root) for character in ",:="):
        raise BadParameter(f"the data root must not contain ',', ':' or '=': {root}")
    if name == "overlay2":
        need_filesystem("overlay")
        from startkit.daemon.graph.overlay2 import Overlay2

        return Overlay2(root)
    if name == "aufs":
        need_filesystem("aufs")
        from startkit.daemon.graph.aufs import Aufs

        return Aufs(root)
    from startkit.daemon.graph.vfs import Vfs

    return Vfs(root)


def need_filesystem(name: str) -> None:
    """Raise ServerError unless the kernel has the file system, loaded or as a module."""
    with open("/proc/filesystems") as known:
        if name in known.read().split():
            return
    if os.path.exists("/sbin/modprobe"):
        import subprocess

        subprocess.run(["/sbin/modprobe", "-q", name], check=False, capture_output=True)
        with open("/proc/filesystems") as known:
            if name in known.read().split():
                return
    raise ServerError(f"{name} is not in this kernel")


def check_name(layer: str) -> str:
    """Return `layer`. Raises BadParameter for what is no layer's name, such as a path."""
    if not LAYER.fullmatch(layer):
        raise BadParameter(f"invalid layer id: {layer!r}")
    return layer


def check_depth(parents: list[str]) -> None:
    """Raise BadParameter where one more layer on `parents` is too many."""
    if len(parents) + 1 > MAX_LAYERS:
        raise BadParameter(f"max depth exceeded: an image has at most {MAX_IMAGE_LAYERS} layers")


def read_parents(directory: Path, layer: str) -> list[str]:
    """Return what `write_parents` wrote. Raises ServerError where there is no such layer."""
    try:
        return (directory / check_name(layer)).read_text().split()
    except FileNotFoundError:
        raise ServerError(f"layer {layer} is missing in {directory}") from None


def write_parents(directory: Path, layer: str, parents: list[str]) -> None:
    """Write the parents' names, nearest first, one a line, into `directory/<layer>`."""
    (directory / layer).write_text("".join(f"{parent}\n" for parent in parents))


def tree_size(top: str) -> int:
    """Return the bytes of the files below `top`; a file with several names counts once."""
    total, seen = 0, set()
    for directory, _, names in os.walk(top):
        for name in names:
            try:
                status = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                continue  # a running container removed it
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total
