"""What a process carries through exec beside its user: scheduler, IO priority, personality.

Rule: imported only by a config that names one of them; set while init still is root.

Source: sched_setattr(2), ioprio_set(2), personality(2), OCI config.md and config-linux.md.
"""

from __future__ import annotations

import ctypes
import os
import struct

from startkit import kernel
from startkit.runtime.text import ContainerError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SYS_SCHED_SETATTR, SYS_IOPRIO_SET = {"x86_64": (314, 251), "aarch64": (274, 30)}[os.uname().machine]
POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4,
            "SCHED_IDLE": 5, "SCHED_DEADLINE": 6}  # fmt: skip
SCHEDULER_FLAGS = {"SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2,
                   "SCHED_FLAG_DL_OVERRUN": 4, "SCHED_FLAG_KEEP_POLICY": 8,
                   "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32,
                   "SCHED_FLAG_UTIL_CLAMP_MAX": 64}  # fmt: skip
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
DOMAINS = {"LINUX": 0, "LINUX32": 8}


def apply(process: dict[str, Any], linux: dict[str, Any]) -> None:
    """Set all three. Raises ContainerError naming the field that the kernel refuses."""
    for path, wanted, change in (
        ("/process/ioPriority", process.get("ioPriority"), set_io_priority),
        ("/linux/personality", linux.get("personality"), set_personality),
        ("/process/scheduler", process.get("scheduler"), set_scheduler),
    ):
        try:
            if wanted:
                change(wanted)
        except OSError as error:
            raise ContainerError(f"config.json {path}: {reason(error)}") from None


def set_scheduler(wanted: dict[str, Any]) -> None:
    """Set policy, nice value, priority and the three times of a deadline (nanoseconds)."""
    flags = sum(SCHEDULER_FLAGS[name] for name in set(wanted.get("flags") or ()))
    times = [wanted.get(key) or 0 for key in ("runtime", "deadline", "period")]
    policy, nice = POLICIES[wanted["policy"]], wanted.get("nice") or 0
    fields = struct.pack("=IIQiI3Q", 48, policy, flags, nice, wanted.get("priority") or 0, *times)
    result = kernel.libc.syscall(SYS_SCHED_SETATTR, 0, ctypes.create_string_buffer(fields, 48), 0)
    kernel.check(result, "sched_setattr")


def set_io_priority(wanted: dict[str, Any]) -> None:
    """Set the class and, in it, the priority: 0 is the highest."""
    value = IO_CLASSES[wanted["class"]] << 13 | (wanted.get("priority") or 0)
    kernel.check(kernel.libc.syscall(SYS_IOPRIO_SET, 1, 0, value), "ioprio_set")


def set_personality(wanted: dict[str, Any]) -> None:
    """Set the execution domain: what uname(2) tells a 32-bit program."""
    kernel.check(kernel.libc.personality(ctypes.c_ulong(DOMAINS[wanted["domain"]])), "personality")
