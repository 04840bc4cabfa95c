"""Files and directories, as the host sees them, and as a container does.

Rule: nothing here follows a symlink, opens anything but a regular file, or waits:
what an engine left on the disk is data, however odd.
"""

from __future__ import annotations

import itertools
import os
import stat

from startkit import kernel
from startkit.observe.evidence import Entry
from startkit.observe.procfs import printable

TEXT_LIMIT = 64 * 1024
NAMES_LIMIT = 2000  # a container's directory has nine names; a lying engine's may have no end
WALK_LIMIT = 20000  # directories

# how engines call the cgroup of a container beyond its id, the last two for cgroupfs and systemd
SPELLINGS = ("docker-{}.scope", "libpod-{}", "libpod-{}.scope")

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def entry(path: str, *, at: int | None = None) -> Entry | None:
    """Return one name, or None where there is none. `at`: directory that `path` starts from."""
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except OSError:
        return None
    try:
        return entry_of(fd)
    finally:
        os.close(fd)


def entry_of(fd: int) -> Entry:
    """Return what an O_PATH handle stands for."""
    info = os.fstat(fd)
    kind = KINDS.get(stat.S_IFMT(info.st_mode), "unknown")
    return Entry(
        kind=kind,
        mode=mode_text(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        size=info.st_size,
        link=printable(os.readlink("", dir_fd=fd)) if kind == "symlink" else None,
        text=content(fd) if kind == "file" else None,
        device=f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
        if kind in {"char", "block"}
        else None,
    )


def kind_of(path: str) -> str:
    """Return what stands at a path, a symlink as such; "" where there is nothing."""
    try:
        return KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "unknown")
    except (OSError, ValueError):
        return ""


def mode_text(mode: int) -> str:
    """Return the permission bits as octal text, `0644`."""
    return f"{stat.S_IMODE(mode):04o}"


def content(fd: int) -> str | None:
    """Return the text behind the handle of a regular file; None when long, closed or not UTF-8."""
    try:
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            data = file.read(TEXT_LIMIT + 1)
            return data.decode() if len(data) <= TEXT_LIMIT else None
    except (OSError, UnicodeDecodeError):
        return None


def tree(top: str) -> dict[str, Entry]:
    """Return everything below a directory, as sorted relative path -> entry."""
    found: dict[str, Entry] = {}
    waiting = [""]
    while waiting and len(found) < NAMES_LIMIT:
        inside = waiting.pop()
        try:
            names = sorted(os.listdir(os.path.join(top, inside)))
        except OSError:
            continue
        for name in names[: NAMES_LIMIT - len(found)]:
            path = os.path.join(inside, name)
            if seen := entry(os.path.join(top, path)):
                found[printable(path)] = seen
                if seen.kind == "directory":
                    waiting.append(path)
    return dict(sorted(found.items()))


def listing(top: str, names: tuple[str, ...]) -> dict[str, Entry]:
    """Return those of `names` (relative paths) that stand below `top`; no symlink leads out."""
    try:
        root = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        found = {name: beneath(root, name) for name in names}
        return {name: seen for name, seen in found.items() if seen}
    finally:
        os.close(root)


def beneath(root: int, path: str) -> Entry | None:
    """Return what stands at `path` for somebody whose root directory is `root`."""
    flags = os.O_PATH | os.O_NOFOLLOW
    try:
        fd = kernel.openat2(root, path.lstrip("/") or ".", flags)
    except OSError:
        return None
    try:
        return entry_of(fd)
    finally:
        os.close(fd)


def text(path: str) -> str | None:
    """Return the text of a regular file, or None."""
    seen = entry(path)
    return seen.text if seen else None


def named(top: str, name: str, *, depth: int = 8) -> list[str]:
    """Return the directories called `name`, or SPELLINGS of it, below `top`."""
    found: list[str] = []
    waiting = [(top, 0)]
    for here, level in itertools.islice(waiting, WALK_LIMIT):  # a list that grows on the way
        try:
            subdirectories = [
                item.name for item in os.scandir(here) if item.is_dir(follow_symlinks=False)
            ]
        except OSError:
            continue
        for item in subdirectories:
            path = os.path.join(here, item)
            if item in {name, *(form.format(name) for form in SPELLINGS)}:
                found.append(path)
            elif level < depth:
                waiting.append((path, level + 1))
    return sorted(found)
