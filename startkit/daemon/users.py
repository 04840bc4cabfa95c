"""Who the container's process is: `user[:group]`, looked up in the rootfs's own files.

Rule: passwd and group are opened inside the rootfs; a symlink cannot lead out of it.
Source: era.md section 4, `process`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from startkit import kernel
from startkit.daemon.errors import BadParameter

ID_MAX = 2**31 - 1


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
        with os.fdopen(
            kernel.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK), errors="replace"
        ) as f:
            return [line.rstrip("\n").split(":") for line in f.read(1 << 20).splitlines()]
    except OSError:
        return []
    finally:
        os.close(root)


def number(text: str) -> int | None:
    """Return a numeric id, None for a name. Raises BadParameter out of range."""
    if not text.isdecimal():
        return None
    if int(text) > ID_MAX:
        raise BadParameter(f"uids and gids must be in range 0-{ID_MAX}")
    return int(text)


def group_id(text: str, groups: list[list[str]]) -> int:
    """Return the gid of a group's name or number. Raises BadParameter for an unknown name."""
    for row in groups:
        if len(row) >= 3 and row[0] == text and row[2].isdecimal():
            return int(row[2])
    gid = number(text)
    if gid is None:
        raise BadParameter(f"unable to find group {text}: no matching entries in group file")
    return gid


def resolve(rootfs: str, user: str, add: list[str]) -> User:
    """Return who `user[:group]` is in `rootfs`, with its supplementary groups and `add`.

    Raises BadParameter for a name that passwd or group does not know.
    """
    name, _, group = user.partition(":")
    passwd, groups = lines(rootfs, "/etc/passwd"), lines(rootfs, "/etc/group")
    name = name or "0"
    uid, gid, login = number(name), 0, ""
    for row in passwd:
        if len(row) >= 4 and (row[0] == name or row[2] == name) and row[2].isdecimal():
            uid, gid, login = int(row[2]), int(row[3] or 0), row[0]
            break
    if uid is None:
        raise BadParameter(f"unable to find user {name}: no matching entries in passwd file")
    extra = [group_id(text, groups) for text in add]
    if group:
        gid = group_id(group, groups)
    elif login:
        member = [
            r for r in groups if len(r) >= 4 and login in r[3].split(",") and r[2].isdecimal()
        ]
        extra = [int(r[2]) for r in member] + extra
    return User(uid, gid, list(dict.fromkeys(extra)))
