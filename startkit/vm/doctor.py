"""What a machine needs, what of it is here, and the command that gets the rest."""

from __future__ import annotations

import shutil
from typing import NamedTuple

from startkit.vm import VmError, workers
from startkit.vm import kernel as kernels
from startkit.vm.machine import QEMU, Settings, kvm_answers


class Finding(NamedTuple):
    """One thing: `help` is what to do, empty where nothing is missing."""

    name: str
    state: str
    help: str = ""


def examine() -> list[Finding]:
    """Look at everything that a machine needs; KVM is tried by booting a guest under it."""
    found = []
    for program, package in ((QEMU, "qemu-system-x86"), ("busybox", "busybox-static")):
        path = shutil.which(program)
        missing = "" if path else f"apt-get install {package}"
        found.append(Finding(program, path or "not here", missing))
    try:
        kernel = kernels.find()
    except VmError:
        found.append(Finding("kernel", f"none in {kernels.cache()}", "startkit vm fetch"))
    else:
        found.append(Finding("kernel", kernel.version))
        if shutil.which(QEMU):
            here = kvm_answers(kernel)
            found.append(Finding("KVM", "a guest answers" if here else "no guest answers: TCG"))
    place = kernels.cache()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free >> 20
    short = "" if free > kernels.NEEDED_MIB else f"free {kernels.NEEDED_MIB} MiB below {place}"
    found.append(Finding("disk", f"{free} MiB free for {kernels.cache()}", short))
    memory, needed = workers.free_memory_mib(), Settings().memory_mib
    short = "" if memory >= needed else f"a machine takes {needed}: end something, or --memory MIB"
    found.append(Finding("memory", f"{memory} MiB free", short))
    return found
