"""The seccomp agent: a program outside that answers for the container's system calls.

Rule: init, under the filter already, only writes the number of its listener; the runtime
fetches it with pidfd_getfd(2), gives it to the agent and keeps no copy: with the last one
closed, calls that wait for an answer fail with ENOSYS.

Source: OCI config-linux.md Seccomp (The Container Process State), seccomp_unotify(2).
"""

from __future__ import annotations

import os

from startkit import kernel
from startkit.runtime import console
from startkit.runtime.text import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from startkit.runtime.seccomp import Filter

SYS_PIDFD_GETFD = 438


def hand_over(profile: Filter, state: dict[str, Any], pid: int, number: int) -> None:
    """Send the agent descriptor `number` of process `pid`. Raises ContainerError, OSError."""
    assert profile.listener is not None
    path, metadata = profile.listener
    connection = console.connect(path, "failed to connect with seccomp agent")
    handle = os.pidfd_open(pid)
    fd = kernel.libc.syscall(SYS_PIDFD_GETFD, handle, number, 0)
    os.close(handle)
    kernel.check(fd, "pidfd_getfd")
    message = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata,
        "state": state,
    }
    console.send_descriptor(connection, fd, json_text(message).encode())
