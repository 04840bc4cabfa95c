"""The named pipes between the engine and a container, and who holds which end.

Rule: this is `lsof *` of the article without lsof. No FIFO is ever opened here: an
open end more would be an end that the engine did not make.

Source: article, heading "准备IO文件"; era 5; proc(5), /proc/PID/fd and fdinfo.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from startkit.observe import procfs
from startkit.observe.disk import mode_text
from startkit.observe.evidence import End

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

O_PATH = 0o10000000  # as fdinfo prints it; octal, Linux on every machine we know
ACCESS = {os.O_RDONLY: "read", os.O_WRONLY: "write", os.O_RDWR: "both"}
ROLES = ("stdin", "stdout", "stderr")

Inode = tuple[int, int]  # device, inode number


def role_of(path: str) -> str | None:
    """Return the role that a FIFO's name ends with: `init-stdin`, `ID-stdin` -> stdin."""
    return next((role for role in ROLES if os.path.basename(path).endswith(role)), None)


def inode_of(path: str, *, follow: bool = False) -> Inode | None:
    """Return device and inode of a FIFO; None when it is anything else.

    `follow`: the path is one of /proc/PID/fd.
    """
    try:
        info = os.stat(path, follow_symlinks=follow)
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if stat.S_ISFIFO(info.st_mode) else None


def descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """Yield (descriptor, what it is open on), by number."""
    try:
        numbers = sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return
    for number in numbers:
        yield number, procfs.link(f"/proc/{pid}/fd/{number}")


def locate(directories: Iterable[str], container: str, holders: Iterable[int]) -> dict[str, str]:
    """Return role -> path of the container's FIFOs.

    Looks in the directories given, then for what the `holders` (pids) have open below a
    directory named after the container.
    """
    found: dict[str, str] = {}
    for directory in directories:
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            offer(found, os.path.join(directory, name))
    for pid in holders:
        for _, target in descriptors(pid):
            if container in target:
                offer(found, target)
    return found


def offer(found: dict[str, str], path: str) -> None:
    """Add a path to `found` if it is a FIFO with a role that is still free."""
    role = role_of(path)
    if role and role not in found and inode_of(path):
        found[role] = path


def modes(paths: Mapping[str, str]) -> dict[str, str]:
    """Return role -> permission bits as octal text."""
    return {
        role: mode_text(os.lstat(path).st_mode) for role, path in paths.items() if inode_of(path)
    }


def ends(paths: Mapping[str, str], holders: Mapping[int, str]) -> list[End]:
    """Return one row for each open end, in the order of lsof: by holder, then descriptor.

    `holders`: pid -> daemon, shim or containerd; everybody else is `other`.
    """
    roles = {inode: role for role, path in paths.items() if (inode := inode_of(path))}
    others = [pid for pid in procfs.pids() if pid not in holders] if roles else []
    return [
        End(holder=holders.get(pid, "other"), fifo=roles[inode], access=access(pid, number))
        for pid in [*holders, *others]
        for number, target in descriptors(pid)
        if role_of(target)
        and (inode := inode_of(f"/proc/{pid}/fd/{number}", follow=True)) in roles
        and inode
    ]


def access(pid: int, number: int) -> str:
    """Return handle, read, write or both, from the flags in fdinfo."""
    for line in procfs.read(f"/proc/{pid}/fdinfo/{number}").splitlines():
        name, _, value = line.partition(":")
        if name == "flags":
            flags = int(value, 8)
            return "handle" if flags & O_PATH else ACCESS.get(flags & os.O_ACCMODE, "both")
    return "gone"
