"""System calls that Python 3.11 lacks, one wrapper each.

Rule: a wrapper adds nothing but types and an error that names the call and the
path. Standard library only, no import of the project, no state.

Source: the man page of the same name, section 2.
"""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

# mount(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_SYNCHRONOUS, MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC = 16, 32, 64, 128
MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_MOVE = 256, 1024, 2048, 4096, 8192
MS_REC, MS_SILENT, MS_UNBINDABLE = 16384, 32768, 1 << 17
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 24, 1 << 25
# umount2(2)
MNT_FORCE, MNT_DETACH, MNT_EXPIRE, UMOUNT_NOFOLLOW = 1, 2, 4, 8
# clone(2), unshare(2), setns(2)
CLONE_NEWTIME, CLONE_NEWNS, CLONE_PARENT = 0x80, 0x20000, 0x8000
CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
# prctl(2)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 1, 4, 8
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
# openat2(2)
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 1, 2, 4
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 8, 16

SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 428, 429, 430, 431, 432
SYS_OPENAT2 = 437
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, MOVE_MOUNT_BOTH_EMPTY = 1, 0x44  # the second: both paths may be empty
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6


def check(result: int, call: str, path: str = "") -> int:
    """Return `result`, or raise OSError with errno's text, the call and the path.

    A failed `mount` reads `mount /x: No such file or directory`.
    """
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"{call} {path}".strip())
    return result


def encode(text: str | os.PathLike[str] | None) -> bytes | None:
    """Return the bytes that the kernel gets for a path or word; None stays NULL."""
    return None if text is None else os.fsencode(text)


def mount(
    source: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    fstype: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None:
    """Mount a file system. `data` is the option string, at most one page."""
    result = libc.mount(
        encode(source), encode(target), encode(fstype), ctypes.c_ulong(flags), encode(data)
    )
    check(result, "mount", os.fspath(target))


def open_tree(source: str | int, *, recursive: bool = False) -> int:
    """Copy a mount from `source` on, a path or a descriptor: a mount that is nowhere yet."""
    start, path = (source, "") if isinstance(source, int) else (AT_FDCWD, source)
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return check(libc.syscall(SYS_OPEN_TREE, start, encode(path), flags), "open_tree", path)


def new_mount(fstype: str, words: list[str], attributes: int) -> int:
    """Make a file system and a mount of it that is nowhere yet; `words` as `key` or `key=value`.

    Source: fsopen(2), fsconfig(2), fsmount(2); `attributes` are MOUNT_ATTR_* bits.
    """
    context = check(libc.syscall(SYS_FSOPEN, encode(fstype), 1), "fsopen", fstype)
    try:
        for word in words:
            key, equals, value = word.partition("=")
            kind = FSCONFIG_SET_STRING if equals else FSCONFIG_SET_FLAG
            text = encode(value) if equals else None
            result = libc.syscall(SYS_FSCONFIG, context, kind, encode(key), text, 0)
            check(result, "fsconfig", word)
        check(libc.syscall(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")
        return check(libc.syscall(SYS_FSMOUNT, context, 1, attributes), "fsmount")
    finally:
        os.close(context)


def move_mount(tree: int, target: int) -> None:
    """Mount `tree` on what `target` has open; from then on `tree` means the mount there."""
    result = libc.syscall(SYS_MOVE_MOUNT, tree, b"", target, b"", MOVE_MOUNT_BOTH_EMPTY)
    check(result, "move_mount")


def umount(target: str | os.PathLike[str], flags: int = UMOUNT_NOFOLLOW) -> None:
    """Unmount; never follows a symlink in the last component unless told to."""
    check(libc.umount2(encode(target), flags), "umount", os.fspath(target))


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW* bits of `flags`."""
    check(libc.unshare(flags), "unshare", hex(flags))


def setns(fd: int, kind: int = 0) -> None:
    """Enter the namespace behind `fd`; `kind` is the CLONE_NEW* bit expected, or 0."""
    check(libc.setns(fd, kind), "setns", str(fd))


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root; the old one is then mounted at `old`."""
    check(libc.syscall(SYS_PIVOT_ROOT, encode(new), encode(old)), "pivot_root", new)


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """Change this process in a way whose arguments are numbers."""
    arguments = [ctypes.c_ulong(n) for n in (a, b, c, d)]
    return check(libc.prctl(option, *arguments), "prctl", str(option))


class OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(
    dirfd: int,
    path: str | os.PathLike[str],
    flags: int,
    mode: int = 0,
    resolve: int = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
) -> int:
    """Open `path` as if `dirfd` were the root: no symlink leads out of it.

    O_CLOEXEC is always set. Raises OSError.
    """
    how = OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    result = libc.syscall(
        SYS_OPENAT2, dirfd, encode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
    )
    return check(result, "openat2", os.fspath(path))


def is_subreaper() -> bool:
    """Say whether this process is handed the orphans among its descendants."""
    found = ctypes.c_int()
    check(libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0), "prctl")
    return bool(found.value)


def set_title(argv: list[str]) -> None:
    """Make `ps` show `argv` for this process, and argv[0] as its name.

    The kernel reads a process's arguments from the process's own memory, so they are
    written over in place, padded with NULs: `argv` must not be longer than what
    stands there, else ValueError. Source: proc(5), /proc/PID/cmdline and stat fields 48, 49.
    """
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    text = b"".join(os.fsencode(word) + b"\0" for word in argv)
    if len(text) > end - start:
        raise ValueError(f"title of {len(text)} bytes, room for {end - start}")
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
    with open("/proc/self/comm", "wb") as comm:
        comm.write(os.fsencode(os.path.basename(argv[0]))[:15])
