"""A run's workers, each a Python in a machine of its own: execnet's `popen//python=COMMAND`.

Rule: nothing else of the suite knows. Whether machines are taken is decided once, by the
controller, and said in one line.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from startkit.vm import VmError, machine
from startkit.vm import kernel as kernels

if TYPE_CHECKING:
    from startkit.vm.machine import Settings

WISHES = ("auto", "always", "never")
RESULTS_MIB = 64


def choose(wish: str, image: Path | None = None) -> tuple[bool, str]:
    """Return whether to take machines, and why. Raises VmError where they must be and cannot."""
    root = os.geteuid() == 0
    if wish == "never":
        return False, ""
    try:
        kernel = kernels.find(image)
        if shutil.which(machine.QEMU) is None:
            raise VmError(f"{machine.QEMU} is not here")
    except VmError as error:
        if wish == "always":
            raise VmError(f"--vm always: {error} (see startkit vm doctor)") from None
        return False, "" if root else f"no machines for a run without root: {error}"
    kvm = machine.accelerator(kernel) == machine.KVM
    how = "KVM" if kvm else "TCG"
    if wish == "always":
        return True, f"in virtual machines ({how}), as asked for"
    if kvm or not root:
        return True, f"in virtual machines ({how}): " + ("KVM works" if kvm else "not root")
    return False, ""


def free_memory_mib() -> int:
    """Return what the kernel can give without swapping, in MiB. Source: proc(5), meminfo."""
    words = Path("/proc/meminfo").read_text().split()
    return int(words[words.index("MemAvailable:") + 1]) >> 10


def check_room(count: int, settings: Settings, results: Path | None = None) -> None:
    """Raise VmError where so many machines have no memory, or their results no disk."""
    wanted, free = count * settings.memory_mib, free_memory_mib()
    if wanted > free:
        machines = f"{count} machine{'s' * (count > 1)} of {settings.memory_mib} MiB"
        raise VmError(f"{machines}, and {free} MiB are free: take fewer (-n) or --memory MIB")
    if results:
        place = next(one for one in (results, *results.absolute().parents) if one.exists())
        if shutil.disk_usage(place).free >> 20 < RESULTS_MIB:
            raise VmError(f"{place}: results take {RESULTS_MIB} MiB, free some or use --results")


def gateway(settings: Settings) -> str:
    """Return the --tx of a worker in a machine."""
    command = [sys.executable, "-m", "startkit.cli", "vm", "python", "--cgroup", settings.cgroup]
    command += ["--memory", str(settings.memory_mib), "--cpus", str(settings.cpus)]
    if settings.shared:
        command += ["--share", str(settings.shared)]
    if settings.root:
        command += ["--root", str(settings.root)]
    if settings.kernel:
        command += ["--kernel", str(settings.kernel)]
    return f"popen//python={shlex.join([*command, '--'])}"
