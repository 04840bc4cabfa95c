"""The terminal: a pty of the container's own devpts, its master sent to whoever asked.

Rule: the pty is opened through the rootfs' descriptor and checked to be one; the slave is
taken from the master by ioctl, never by a name that the image could have planted.

Source: pty(7), ioctl_tty(2), OCI runc's docs/terminals.md for the console socket.
"""

from __future__ import annotations

import ctypes
import os
import struct

from startkit import kernel
from startkit.runtime import paths
from startkit.runtime.text import ContainerError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIOCSCTTY, TIOCSWINSZ, TIOCSPTLCK, TIOCGPTPEER = 0x540E, 0x5414, 0x40045431, 0x5441
PTMX = (5, 2)


def connect(path: str, what: str = "console socket") -> Any:
    """Connect to a socket. Raises ContainerError, which says `what` it is.

    `_socket` is the C half of `socket`, which would import `enum` and `selectors`.
    """
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        raise ContainerError(f"{what} {path}: {reason(error)}") from None
    return connection


def open_pty(root: int, size: dict[str, int] | None) -> tuple[int, int]:
    """Open a new pty of the container's devpts; return (master, slave)."""
    try:
        master = paths.open_inside(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise ContainerError(f"opening a terminal: {reason(error)}") from None
    if os.fstat(master).st_rdev != os.makedev(*PTMX):
        raise ContainerError("/dev/pts/ptmx of the container is not a pty multiplexer")
    ioctl = kernel.libc.ioctl
    unlocked = ctypes.byref(ctypes.c_int(0))
    kernel.check(ioctl(master, ctypes.c_ulong(TIOCSPTLCK), unlocked), "ioctl", "TIOCSPTLCK")
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    slave = kernel.check(ioctl(master, ctypes.c_ulong(TIOCGPTPEER), flags), "ioctl", "TIOCGPTPEER")
    if size:
        set_size(master, size["height"], size["width"])
    return master, slave


def set_size(master: int, height: int, width: int) -> None:
    """Set a terminal's size in characters."""
    size = ctypes.create_string_buffer(struct.pack("=4H", height, width, 0, 0))
    kernel.check(kernel.libc.ioctl(master, TIOCSWINSZ, size), "ioctl", "TIOCSWINSZ")


def send_descriptor(connection: Any, fd: int, data: bytes) -> None:
    """Send a descriptor (a pty's master, with its name as data), and close both."""
    import _socket

    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("=i", fd))
    try:
        connection.sendmsg([data], [rights])
    except OSError as error:
        raise ContainerError(f"sending a descriptor: {reason(error)}") from None
    finally:
        connection.close()
        os.close(fd)


def take_over(slave: int) -> None:
    """Make the slave this session's terminal and its stdin, stdout and stderr."""
    kernel.check(kernel.libc.ioctl(slave, TIOCSCTTY, 0), "ioctl", "TIOCSCTTY")
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.close(slave)
