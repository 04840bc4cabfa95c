"""Capabilities: five sets, applied around the change of user.

Rule: `limit` runs while the process still is root and takes away what no exec may give
back; `apply` runs as the user and sets the rest. Between the two keep-caps carries the
permitted set over setuid(2).

Source: capabilities(7), capset(2), OCI config.md Linux Process.
"""

from __future__ import annotations

import ctypes
import struct

from startkit import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NUMBERS = {f"CAP_{name}": number for number, name in enumerate(NAMES.split())}
VERSION_3 = 0x20080522


class Sets:
    """The five sets as bit masks, cut down to what the runtime itself may hand on.

    `unavailable`: names that the kernel does not know or that the runtime's own bounding
    set lacks, sorted; the specification wants a warning for those, and no failure.
    """

    def __init__(self, wanted: dict[str, Any]) -> None:
        held = bounding_set()
        names = {name for kind in wanted.values() for name in kind or ()}
        self.unavailable = sorted(n for n in names if not held >> NUMBERS.get(n, 63) & 1)
        self.bounding, self.effective, self.permitted, self.inheritable, self.ambient = (
            mask(wanted.get(kind) or ()) & held
            for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
        )
        # The kernel refuses an ambient capability that is not in both of these.
        self.ambient &= self.permitted & self.inheritable


def mask(names: Any) -> int:
    """Return names such as CAP_CHOWN as a bit mask; unknown ones have no bit."""
    return sum(1 << NUMBERS[name] for name in set(names) if name in NUMBERS)


def bounding_set() -> int:
    """Return the bounding set of this process as a bit mask."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapBnd:"):
                return int(line.split()[1], 16)
    return 0


def limit(sets: Sets, held: int) -> None:
    """Drop everything from the bounding set that is not wanted in it, and keep caps over setuid."""
    for number in range(held.bit_length()):
        if held >> number & 1 and not sets.bounding >> number & 1:
            kernel.prctl(kernel.PR_CAPBSET_DROP, number)
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)


def apply(sets: Sets) -> None:
    """Set effective, permitted, inheritable and ambient of this process."""
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 0)
    header = ctypes.create_string_buffer(struct.pack("=Ii", VERSION_3, 0))
    three = (sets.effective, sets.permitted, sets.inheritable)
    low, high = [m & 0xFFFFFFFF for m in three], [m >> 32 for m in three]
    data = ctypes.create_string_buffer(struct.pack("=6I", *low, *high))
    kernel.check(kernel.libc.capset(header, data), "capset")
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(sets.ambient.bit_length()):
        if sets.ambient >> number & 1:
            kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_RAISE, number)
