"""A Python inside a virtual machine of its own: root, mounts and daemons that harm nobody.

    kernel     a Debian kernel and its modules, fetched into a cache directory
    initramfs  what the kernel starts: busybox, a few modules, the guest's first script
    machine    QEMU: one machine from boot to the exit code of the command in it
    doctor     what of all this is here, what is missing, how to get it

Rule: the guest sees the host's root read-only and writes to memory; QEMU enforces that, not
the guest. The one directory of the host that it can write is named by whoever starts it.
"""

from __future__ import annotations

CGROUPS = ("v2", "v1", "hybrid")  # the layouts that a guest can have


class VmError(Exception):
    """Why there is no machine, in one line: what is wrong and what to do."""
