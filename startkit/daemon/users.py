"""Who the container's process is: `user[:group]`, looked up in the rootfs's own files.

Rule: passwd and group are opened inside the rootfs; a symlink cannot lead out of it.
Source: era.md section 4, `process`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from startkit import kernel
from startkit.daemon.errors import ServerError

ID_MAX = 2**31 - 1
READ_MAX = 1 << 20  # characters of passwd and group


class User(NamedTuple):
    """Numbers, as config.json has them."""

    uid: int
    gid: int
    groups: list[int]


def lines(rootfs: str, path: str) -> list[list[str]]:
    """Return the colon-separated fields of each line of a file inside `rootfs`; [] without it."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # O_NONBLOCK: an image may hold a FIFO of this name
        fd = kernel.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(fd, errors="replace") as file:
            return [line.split(":") for line in file.read(READ_MAX).split("\n")]
    except OSError:
        return []
    finally:
        os.close(root)


def is_id(text: str) -> bool:
    """Say whether a text is a number that can be a uid or a gid."""
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= ID_MAX


def number(text: str) -> int | None:
    """Return a numeric id, None for a name. Raises ServerError out of range."""
    if is_id(text):
        return int(text)
    if text.isascii() and text.removeprefix("-").isdecimal():
        raise ServerError(f"uids and gids must be in range 0-{ID_MAX}")
    return None


def group_id(text: str, groups: list[list[str]]) -> int:
    """Return the gid of a group's name or number. Raises ServerError for an unknown name."""
    for row in groups:
        if row[0] == text:
            return int(row[2])
    gid = number(text)
    if gid is None:
        raise ServerError(f"unable to find group {text}: no matching entries in group file")
    return gid


def resolve(rootfs: str, user: str, add: list[str]) -> User:
    """Return who `user[:group]` is in `rootfs`, with its supplementary groups and `add`.

    A line of passwd or group that is no entry is passed over. Raises ServerError for a
    name that they do not know.
    """
    name, _, group = user.partition(":")
    name = name or "0"
    passwd = [r for r in lines(rootfs, "/etc/passwd") if len(r) >= 4 and is_id(r[2])]
    groups = [r for r in lines(rootfs, "/etc/group") if len(r) >= 3 and is_id(r[2])]
    uid, gid, login = None, 0, ""
    for row in passwd:
        if name in (row[0], row[2]):
            uid, gid, login = int(row[2]), int(row[3]) if is_id(row[3]) else 0, row[0]
            break
    if uid is None:
        uid = number(name)
    if uid is None:
        raise ServerError(f"unable to find user {name}: no matching entries in passwd file")
    extra = [group_id(text, groups) for text in add]
    if group:
        gid = group_id(group, groups)
    elif login:
        extra = [int(r[2]) for r in groups if login in "".join(r[3:4]).split(",")] + extra
    return User(uid, gid, list(dict.fromkeys(extra)))
