"""Paths inside a rootfs that may be hostile.

Rule: a path of the container is never given to the kernel as text. It is resolved with
openat2(2) as if the rootfs were `/`, and what is used afterwards is the descriptor: neither
a symlink of the image nor one swapped in at the last moment leads to the host.

Source: openat2(2), RESOLVE_IN_ROOT; CVE-2019-16884, CVE-2021-30465.
"""

from __future__ import annotations

import os

from startkit import kernel
from startkit.runtime.text import ContainerError

MAX_LINKS = 40  # as the kernel's own limit, path_resolution(7)
EAGAIN = 11


def clean(path: str) -> str:
    """Return a path as seen from its root: absolute, without `.`, `..` and doubled slashes."""
    return os.path.normpath("/" + path.lstrip("/"))


def open_inside(root: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` inside the directory `root`. Raises OSError as open(2) does."""
    for _ in range(100):
        try:
            return kernel.openat2(root, path, flags, mode)
        except OSError as error:
            if error.errno != EAGAIN:  # a rename raced with a `..`
                raise
    raise ContainerError(f"{path}: changed too often while it was being opened")


def proc_path(fd: int) -> str:
    """Return a path for mount(2) that means exactly what `fd` has open."""
    return f"/proc/self/fd/{fd}"


def where(root: int, fd: int) -> str:
    """Return the path of `fd` as the container sees it. Raises ContainerError outside of it."""
    base, path = os.readlink(proc_path(root)), os.readlink(proc_path(fd))
    if base == "/":
        return path
    if path != base and not path.startswith(base + "/"):
        raise ContainerError(f"{path} lies outside of the rootfs {base}")
    return path[len(base) :] or "/"


def make_inside(root: int, path: str, *, directory: bool) -> int:
    """Open `path` inside `root` with O_PATH, making it and its parents where absent.

    Directories are made 0755, files empty and 0755 (as the article's mount points are). A
    dangling symlink is followed, inside the root, to where its target has to be.
    """
    for _ in range(MAX_LINKS):
        try:
            return open_inside(root, path)
        except FileNotFoundError:
            pass
        parent, name, rest = deepest_parent(root, path)
        try:
            link = os.readlink(name, dir_fd=parent)
        except FileNotFoundError:
            make_one(parent, name, directory=directory or rest != "")
            continue
        except OSError:
            continue  # it appeared at this moment
        finally:
            here = where(root, parent)
            os.close(parent)
        path = os.path.normpath(
            os.path.join(here, link, rest) if rest else os.path.join(here, link)
        )
    raise ContainerError(f"{path}: cannot be made inside the rootfs")


def deepest_parent(root: int, path: str) -> tuple[int, str, str]:
    """Return the deepest directory of `path` that exists, the name missing in it, and the rest."""
    names = [name for name in clean(path).split("/") if name]
    parent = open_inside(root, "/", os.O_PATH | os.O_DIRECTORY)
    for index, name in enumerate(names):
        try:
            inner = open_inside(
                root, "/" + "/".join(names[: index + 1]), os.O_PATH | os.O_DIRECTORY
            )
        except FileNotFoundError:
            return parent, name, "/".join(names[index + 1 :])
        except BaseException:
            os.close(parent)
            raise
        os.close(parent)
        parent = inner
    return parent, ".", ""


def make_one(parent: int, name: str, *, directory: bool) -> None:
    """Make one directory or empty file; somebody else having made it is as good."""
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            os.close(os.open(name, flags, 0o755, dir_fd=parent))
    except FileExistsError:
        pass
