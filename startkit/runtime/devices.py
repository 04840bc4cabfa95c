"""Device nodes and the symlinks that every container finds in /dev.

Rule: a node is made only where /dev is the container's own, and one that is there already
must be the very device that it is named after.

Source: OCI config-linux.md Devices, Default Devices; runtime-linux.md Dev symbolic links.
"""

from __future__ import annotations

import os
import stat

from startkit.runtime import mounts, paths
from startkit.runtime.text import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
           "tty": (5, 0)}  # fmt: skip
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def make_devices(root: int, wanted: list[dict[str, Any]], *, bound: bool) -> None:
    """Make the default nodes, the `wanted` ones and the links.

    `bound`: in a user namespace nodes cannot be made, so the host's are bound there.
    """
    named = {paths.clean(entry["path"]): entry for entry in wanted}
    for name, (major, minor) in DEFAULT.items():
        entry = {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor}
        named.setdefault(f"/dev/{name}", entry)
    for path, entry in named.items():
        if bound:
            mounts.bind_file(root, path, path)
        else:
            make_device(root, path, entry)
    make_links(root)


def make_device(root: int, path: str, entry: dict[str, Any]) -> None:
    """Make one node with exactly the mode and owner that its entry names."""
    parent = paths.make_inside(root, os.path.dirname(path), directory=True)
    name = os.path.basename(path)
    kind = KINDS[entry["type"]]
    device = os.makedev(entry.get("major", 0), entry.get("minor", 0))
    mode = entry.get("fileMode", 0o666)
    try:
        os.mknod(name, kind | mode, device, dir_fd=parent)
        os.chown(name, entry.get("uid", 0), entry.get("gid", 0), dir_fd=parent)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_IFMT(found.st_mode) != kind or (kind != stat.S_IFIFO and found.st_rdev != device):
            raise ContainerError(f"device {path}: something else stands there") from None
    finally:
        os.close(parent)


def make_links(root: int) -> None:
    """Make the symlinks of /dev; `ptmx` is replaced, the others give way to what is there."""
    dev = paths.open_inside(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    there = os.listdir(paths.proc_path(dev))
    links = dict(LINKS)
    if os.path.exists("/proc/kcore"):
        links["core"] = "/proc/kcore"
    for name, target in links.items():
        if name not in there:
            os.symlink(target, name, dir_fd=dev)
    if "ptmx" in there:
        os.unlink("ptmx", dir_fd=dev)
    os.symlink("pts/ptmx", "ptmx", dir_fd=dev)
    os.close(dev)


def open_null(root: int) -> int:
    """Open the container's /dev/null, and make sure that it is the real one.

    A masked path is covered with it: were it a file of the image, what is written to the
    masked path would come back. Source: CVE-2025-31133.
    """
    fd = paths.open_inside(root, "/dev/null")
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        raise ContainerError("/dev/null of the container is not the null device")
    return fd
