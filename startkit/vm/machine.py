"""One machine: QEMU from its start to the exit code of the command that runs in it.

Rule: nothing of a machine outlives its launcher: QEMU dies with it, and its files lie in a
directory that is removed. KVM counts only when a guest has answered under it.

Source: qemu-system-x86_64(1); virtio-serial: three ports, since QEMU drops a port's output
once its input has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit import kernel as linux
from startkit.vm import VmError, initramfs
from startkit.vm import kernel as kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

QEMU = "qemu-system-x86_64"
WORDS = ("console=ttyS0 quiet mitigations=off audit=0 nokaslr tsc=reliable no_timer_check "
         "random.trust_cpu=on cryptomgr.notests apparmor=0 reboot=t panic=-1")  # fmt: skip
NO_V1 = " cgroup_no_v1=all"
# What a guest gets of the environment: never the whole, it may hold secrets.
KEPT = ("PATH", "HOME", "LANG", "TERM", "CI", "HYPOTHESIS_PROFILE", "PYTEST_ADDOPTS")
NO_ANSWER = 125


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a machine is to be. `shared`: the one host directory that it can write."""

    cgroup: str = "v2"
    memory_mib: int = 1024
    cpus: int = 1
    kernel: Path | None = None
    shared: Path | None = None
    timeout_s: float = 0  # none


def accelerator() -> list[str]:
    """Return QEMU's words for the way to run: KVM where it works, else translation."""
    return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64,+rdrand"]


def command_line(settings: Settings, image: Path, place: Path) -> list[str]:
    """Return QEMU's command line; `place` holds the guest's archive and gets its output."""
    words = WORDS + (NO_V1 if settings.cgroup == "v2" else "")
    share = "local,security_model=none,multidevs=remap"
    argv = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "q35,usb=off,graphics=off,smbus=off,sata=off,vmport=off",
            *accelerator(), "-m", str(settings.memory_mib), "-smp", str(settings.cpus),
            "-kernel", str(image), "-initrd", str(place / "initramfs"), "-append", words,
            "-serial", f"file:{place}/console",
            "-fsdev", f"{share},id=host,path=/,readonly=on",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
            "-device", "virtio-serial-pci,max_ports=5",
            "-chardev", "stdio,id=in,signal=off"]  # fmt: skip
    for name, path in (("out", "/dev/fd/3"), ("err", "/dev/fd/4"), ("end", f"{place}/end")):
        argv += ["-chardev", f"file,id={name},path={path},append=on"]
    for name in ("in", "out", "err", "end"):
        argv += ["-device", f"virtserialport,chardev={name},name={name}"]
    if settings.shared:
        argv += ["-fsdev", f"{share},id=shared,path={settings.shared}"]
        argv += ["-device", "virtio-9p-pci,fsdev=shared,mount_tag=shared"]
    return argv


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Make a directory for one machine and remove it, whatever ends us but SIGKILL."""
    with tempfile.TemporaryDirectory(prefix="startkit-vm-") as name:
        yield Path(name)


def run(argv: Sequence[str], settings: Settings) -> int:
    """Run a command in a machine of its own, on our stdin, stdout, stderr; return its exit code.

    Raises VmError where no machine comes up, with the last line of its console.
    """
    if shutil.which(QEMU) is None:
        raise VmError(f"{QEMU} is not here: apt-get install qemu-system-x86")
    kernel = kernels.find(settings.kernel)
    environment = {key: os.environ[key] for key in KEPT if key in os.environ}
    environment |= {key: text for key, text in os.environ.items() if key.startswith("STARTKIT_")}
    with directory() as place:
        guest = initramfs.guest(
            list(argv), kernel, settings.cgroup, environment, settings.shared
        )
        (place / "initramfs").write_bytes(base(kernel) + guest)
        ended = boot(command_line(settings, kernel.image, place), settings.timeout_s)
        end = place / "end"
        code = end.read_text().strip() if end.exists() else ""
        if code:
            return int(code)
        console = place / "console"
        lines = console.read_text(errors="replace").split("\n") if console.exists() else []
        last = [line.strip() for line in lines if line.strip()][-8:]
        raise VmError(f"the machine ended without an answer ({ended}):\n" + "\n".join(last))


def base(kernel: kernels.Kernel) -> bytes:
    """Return the part of the archive that is the same each time, kept beside the kernel."""
    path = kernel.image.with_name("initramfs")
    if not path.exists():
        unfinished = path.with_name(f"initramfs.{os.getpid()}")
        unfinished.write_bytes(initramfs.base(kernel))
        unfinished.rename(path)
    return path.read_bytes()


def boot(argv: list[str], timeout_s: float) -> str:
    """Run QEMU to its end; say how it ended."""

    def prepare() -> None:
        """In QEMU before exec: our outputs where it looks for them; die with the launcher."""
        os.dup2(1, 3)
        os.dup2(2, 4)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)

    process = subprocess.Popen(argv, preexec_fn=prepare, pass_fds=(3, 4), stdout=2)
    try:
        return f"exit {process.wait(timeout_s or None)}"
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout_s:g} s"
    finally:
        process.kill()
        process.wait()
