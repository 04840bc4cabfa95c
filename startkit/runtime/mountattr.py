"""Attributes of a mount and all below it: `rro`, `rnosuid` and the like; and `tmpcopyup`.

Rule: imported only by a config that asks for one of the two.

Source: mount_setattr(2), OCI config.md Linux mount options, runc's tmpcopyup.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from startkit import kernel
from startkit.runtime.text import ContainerError

SYS_MOUNT_SETATTR = 442
ATIME = 0x70  # a field of its own: to set it is to clear it first
ENOSYS = 38
BITS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 0x10, "strictatime": 0x20,
        "nodiratime": 0x80, "nosymfollow": 0x200000}  # fmt: skip
OPPOSITES = {"rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "atime": "noatime",
             "nostrictatime": "strictatime", "diratime": "nodiratime",
             "symfollow": "nosymfollow"}  # fmt: skip
CHUNK = 1 << 20


def set_recursively(fd: int, options: list[str]) -> None:
    """Change the mount below `fd` and those on it; `options` in order, without their `r`."""
    on = off = 0
    for option in options:
        bit = BITS.get(option) or BITS.get(OPPOSITES.get(option, ""), 0)
        if bit & ATIME or option in ("relatime", "norelatime"):
            on, off = on & ~ATIME, off | ATIME
        if option in BITS:
            on |= bit
        elif not bit & ATIME:
            on, off = on & ~bit, off | bit
    attributes = ctypes.create_string_buffer(struct.pack("=4Q", on, off, 0, 0), 32)
    flags = kernel.AT_EMPTY_PATH | kernel.AT_RECURSIVE
    libc = kernel.libc
    result = libc.syscall(SYS_MOUNT_SETATTR, fd, b"", flags, attributes, ctypes.c_size_t(32))
    if result == -1 and ctypes.get_errno() == ENOSYS:
        raise ContainerError("this kernel cannot set the attributes of all mounts below one")
    kernel.check(result, "mount_setattr")


def copy_up(source: int, target: int) -> None:
    """Copy what is in one directory into another, both open; no symlink is followed."""
    here, there = os.open(".", os.O_RDONLY, dir_fd=source), os.open(".", os.O_RDONLY, dir_fd=target)
    for name in os.listdir(here):
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, dir_fd=there)
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
            pair = [os.open(name, flags, dir_fd=one) for one in (here, there)]
            copy_up(*pair)
            for fd in pair:
                os.close(fd)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
        elif stat.S_ISREG(found.st_mode):
            copy_file(name, here, there)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=there)
        copy_owner(name, found, there)
    os.close(here)
    os.close(there)


def copy_file(name: str, here: int, there: int) -> None:
    """Copy one regular file's content."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
    reader, writer = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=here), -1
    try:
        writer = os.open(name, flags, 0o600, dir_fd=there)
        while os.sendfile(writer, reader, None, CHUNK):
            pass
    finally:
        os.close(reader)
        if writer != -1:
            os.close(writer)


def copy_owner(name: str, found: os.stat_result, there: int) -> None:
    """Give a copy its original's owner, then mode (chown takes setuid away), then times."""
    os.chown(name, found.st_uid, found.st_gid, dir_fd=there, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=there)
    times = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=there, follow_symlinks=False)
