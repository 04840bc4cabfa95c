"""A container's own two layers: the init layer, and the writable one above it.

The init layer is read-only and holds the empty files and directories on which the
start mounts something, so that those mount points never soil the writable layer.
Source: era.md section 2, init layer; article, heading on the rootfs.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from startkit import kernel

if TYPE_CHECKING:
    from startkit.daemon.graph import Driver

# path -> "dir", "file" or a symlink's target. A file or symlink of the image's that stands
# there, or on the way, is hidden; a directory stays.
ENTRIES = {
    "dev/pts": "dir",
    "dev/shm": "dir",
    "proc": "dir",
    "sys": "dir",
    ".dockerenv": "file",
    "etc/resolv.conf": "file",
    "etc/hosts": "file",
    "etc/hostname": "file",
    "dev/console": "file",
    "etc/mtab": "/proc/mounts",
}


def make(driver: Driver, mount_id: str, top: str | None) -> None:
    """Make `<mount_id>-init` on the image's `top` layer, and `<mount_id>` on that.

    What was made is removed again when a later part fails.
    """
    init = f"{mount_id}-init"
    driver.create(init, top)
    try:
        root = driver.mount(init)
        try:
            fill(os.fspath(root))
        finally:
            driver.unmount(init)
        driver.create(mount_id, init)
    except BaseException:
        driver.remove(init)
        raise


def remove(driver: Driver, mount_id: str) -> None:
    """Remove both layers."""
    driver.remove(mount_id)
    driver.remove(f"{mount_id}-init")


def fill(root: str) -> None:
    """Make the entries inside the merged tree at `root`; nothing is made outside of it."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, kind in ENTRIES.items():
            parent, _, name = path.rpartition("/")
            at = directory(top, parent) if parent else os.dup(top)
            try:
                entry(at, name, kind)
            finally:
                os.close(at)
    finally:
        os.close(top)


def directory(top: int, path: str) -> int:
    """Return an O_PATH descriptor of a directory below `top`, making what is absent.

    A symlink or file in the way is unlinked: the layer must not mount through it.
    """
    at = os.dup(top)
    try:
        for name in path.split("/"):
            make_directory(at, name)
            flags = os.O_PATH | os.O_DIRECTORY
            below = kernel.openat2(at, name, flags, resolve=kernel.RESOLVE_BENEATH)
            os.close(at)
            at = below
    except BaseException:
        os.close(at)
        raise
    return at


def clear(at: int, name: str) -> bool:
    """Unlink what stands in the way; say whether a directory does, which stays."""
    try:
        if stat.S_ISDIR(os.lstat(name, dir_fd=at).st_mode):
            return True
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        pass
    return False


def make_directory(at: int, name: str) -> None:
    """Make a directory, 0755, unless there is one."""
    if not clear(at, name):
        os.mkdir(name, 0o755, dir_fd=at)
        os.chmod(name, 0o755, dir_fd=at)


def entry(at: int, name: str, kind: str) -> None:
    """Make one entry in the directory `at`, unless a directory of that name stands there."""
    if kind == "dir":
        make_directory(at, name)
    elif clear(at, name):
        return
    elif kind == "file":
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(name, flags, 0o755, dir_fd=at)
        os.fchmod(fd, 0o755)
        os.close(fd)
    else:
        os.symlink(kind, name, dir_fd=at)
