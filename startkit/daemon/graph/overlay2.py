"""overlay2: `<layer>/{diff,work,merged,link,lower}` and one overlay mount.

`l/` holds a 26-character symlink for each layer, so that 127 lower layers fit the
one page that mount data may have. `lower` is the layer's `lowerdir`, ready to use.
A whiteout is a character device 0/0, an opaque directory has an extended attribute.
Source: era.md section 2, overlay2; Linux, Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from typing import TYPE_CHECKING, BinaryIO

from startkit import kernel
from startkit.daemon import archive
from startkit.daemon.errors import ServerError
from startkit.daemon.graph import check_depth, check_name, tree_size

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096  # mount(2): mount data is cut there, its closing NUL included
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
LINK_LENGTH = 26
OPAQUE = ("trusted.overlay.opaque", b"y")
CLONE_FS = 0x200


class Overlay2:
    """The driver that every Docker since 17.06 prefers."""

    name = "overlay2"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links = root / "l"
        self.links.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, layer: str, parent: str | None) -> None:
        """Make the directories, the short name and the `lower` file."""
        home = self.root / check_name(layer)
        parents = [] if parent is None else [parent, *self.layers(parent)]
        check_depth(parents)
        home.mkdir(mode=0o710)
        try:
            make_directory(home / "diff", 0o755)
            link = short_name()
            (self.links / link).symlink_to(f"../{layer}/diff")
            (home / "link").write_text(link)
            if parent is not None:
                make_directory(home / "work", 0o700)
                (home / "lower").write_text(":".join(f"l/{self.link(p)}" for p in parents))
        except BaseException:
            self.remove(layer)
            raise

    def link(self, layer: str) -> str:
        """Return a layer's short name. Raises ServerError where the layer is not there."""
        try:
            return (self.root / check_name(layer) / "link").read_text()
        except FileNotFoundError:
            raise ServerError(f"overlay2: layer {layer} is missing") from None

    def lower(self, layer: str) -> list[str]:
        """Return `l/<short name>` of each parent, nearest first."""
        self.link(layer)
        try:
            return (self.root / layer / "lower").read_text().split(":")
        except FileNotFoundError:
            return []

    def layers(self, layer: str) -> list[str]:
        """Return the parents, nearest first, by following the short names."""
        return [os.readlink(self.root / link).split("/")[1] for link in self.lower(layer)]

    def diff(self, layer: str) -> Path:
        """Return the layer's own directory."""
        return self.root / check_name(layer) / "diff"

    def apply(self, layer: str, tar: BinaryIO) -> int:
        """Unpack with whiteouts as devices 0/0 and opaque attributes."""
        return archive.unpack(tar, os.fspath(self.diff(layer)), Whiteouts())

    def mount(self, layer: str) -> Path:
        """Mount at `merged`. A layer without parents is its own merged tree."""
        lower = self.lower(layer)
        if not lower:
            return self.diff(layer)
        merged = self.root / layer / "merged"
        make_directory(merged, 0o700)
        if not os.path.ismount(merged):
            data = mount_options(os.fspath(self.root), layer, lower)
            if data.startswith("lowerdir=/"):
                kernel.mount("overlay", merged, "overlay", 0, data)
            else:
                mount_from(os.fspath(self.root), f"{layer}/merged", data)
        return merged

    def unmount(self, layer: str) -> None:
        """Unmount, and remove the mount point."""
        merged = self.root / check_name(layer) / "merged"
        try:
            kernel.umount(merged)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
        with contextlib.suppress(FileNotFoundError):
            merged.rmdir()

    def remove(self, layer: str) -> None:
        """Remove the layer and its short name."""
        home = self.root / check_name(layer)
        if not home.exists():
            return
        self.unmount(layer)
        link = home / "link"
        if link.exists():
            (self.links / link.read_text()).unlink(missing_ok=True)
        shutil.rmtree(home)

    def size(self, layer: str) -> int:
        """Return the bytes below `diff`."""
        return tree_size(os.fspath(self.diff(layer)))

    def metadata(self, layer: str) -> dict[str, str] | None:
        """Return the paths of the parts; no LowerDir where there is no parent."""
        home = self.root / check_name(layer)
        parts = {"MergedDir": "merged", "UpperDir": "diff", "WorkDir": "work"}
        shown = {key: os.fspath(home / part) for key, part in parts.items()}
        if below := [os.fspath(self.diff(parent)) for parent in self.layers(layer)]:
            shown["LowerDir"] = ":".join(below)
        return shown


class Whiteouts:
    """overlayfs' dialect."""

    def hide(self, parent: int, name: str, path: str, own: set[str]) -> None:
        """Make a character device 0/0, unless the layer itself has something there."""
        with contextlib.suppress(FileExistsError):
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)

    def opaque(self, parent: int, path: str, own: set[str]) -> None:
        """Mark the directory."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.setxattr(fd, *OPAQUE)
        finally:
            os.close(fd)


def short_name() -> str:
    """Return 26 random characters: 130 bits, and nothing to escape in mount data."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LINK_LENGTH))


def make_directory(path: Path, mode: int) -> None:
    """Make a directory with exactly this mode, whatever the umask."""
    try:
        path.mkdir(mode)
    except FileExistsError:
        return
    path.chmod(mode)


def mount_options(root: str, layer: str, lower: list[str]) -> str:
    """Return the mount data: absolute, or relative to `root` where that needs a page or more.

    Shape: `lowerdir=<l/..>:<l/..>,upperdir=<layer>/diff,workdir=<layer>/work`.
    Raises ServerError where even the relative form does not fit.
    """
    for prefix in (f"{root}/", ""):
        data = (
            f"lowerdir={':'.join(prefix + link for link in lower)},"
            f"upperdir={prefix}{layer}/diff,workdir={prefix}{layer}/work"
        )
        if len(data) < PAGE:
            return data
    raise ServerError(f"cannot mount layer, mount label too large {len(data)}")


def mount_from(root: str, target: str, data: str) -> None:
    """Mount with paths relative to `root`.

    A working directory belongs to a process, unless a thread leaves it: this one does,
    and ends. Raises OSError.
    """
    failure: list[BaseException] = []

    def run() -> None:
        try:
            kernel.unshare(CLONE_FS)
            os.chdir(root)
            kernel.mount("overlay", target, "overlay", 0, data)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
