"""One machine: QEMU from its start to the exit code of the command that runs in it.

Rule: nothing of a machine outlives its launcher: QEMU dies with it, and its files have no
names. KVM counts only when a guest has answered under it.

Source: qemu-system-x86_64(1). Input, output and errors have a port each: QEMU drops what a
port says once its input has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
import zlib
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from startkit import kernel as linux
from startkit.vm import VmError, initramfs
from startkit.vm import kernel as kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

QEMU = "qemu-system-x86_64"
# one thread is a sixth quicker for one cpu: it needs no locked instructions
TCG = ("-accel", "tcg,thread={thread},tb-size=256", "-cpu", "qemu64,+rdrand")
KVM = ("-accel", "kvm", "-cpu", "host")
KVM_S = 2
BARE = (QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine",
        "q35,usb=off,graphics=off,smbus=off,sata=off,vmport=off")  # fmt: skip
SIGN = ".\n"  # of life: what a guest writes every two seconds
# What a guest makes there is a plain file or directory of ours, whatever the guest takes it for:
# owner, mode, device numbers and a link's target are kept as an attribute beside it.
SHARE = "local,multidevs=remap,security_model=mapped-xattr,fmode=0644,dmode=0755"
WORDS = ("console=ttyS0 quiet mitigations=off audit=0 nokaslr tsc=reliable no_timer_check "
         "random.trust_cpu=on cryptomgr.notests apparmor=0 reboot=t panic=-1")  # fmt: skip
NO_V1 = " cgroup_no_v1=all"
# What a guest gets of the environment: never the whole, it may hold secrets.
KEPT = ("PATH", "HOME", "LANG", "TERM", "CI", "HYPOTHESIS_PROFILE", "PYTEST_ADDOPTS")
OURS = "STARTKIT_"
LAST_LINES = 20  # of its console, when a machine has given no answer


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a machine is to be.

    `shared`: the one host directory that it can write. `root`: its root, if not the host's.
    """

    cgroup: str = "v2"
    memory_mib: int = 1024
    cpus: int = 1
    kernel: Path | None = None
    shared: Path | None = None
    root: Path | None = None
    timeout_s: float = 0  # none
    silence_s: float = 60  # without a sign of life: then it hangs


def run(argv: Sequence[str], settings: Settings) -> int:
    """Run a command in a machine of its own, on our stdin, stdout, stderr; return its exit code.

    Raises VmError where no machine comes up, with the last lines of its console.
    """
    if shutil.which(QEMU) is None:
        raise VmError(f"{QEMU} is not here: apt-get install qemu-system-x86")
    kernel = kernels.find(settings.kernel)
    environment = {
        key: text for key, text in os.environ.items() if key in KEPT or key.startswith(OURS)
    }
    guest = initramfs.guest(list(argv), kernel, settings, environment)
    files = {"initramfs": memory_file(base(kernel) + guest)}
    files |= {"console": memory_file(), "end": memory_file()}
    (out, files["out"]), (err, files["err"]) = os.pipe(), os.pipe()
    pumps = [Thread(target=pump, args=pair, daemon=True) for pair in ((out, 1), (err, 2))]
    for one in pumps:
        one.start()
    try:
        argv = command_line(settings, kernel, files)
        limits = Limits(settings.timeout_s, settings.silence_s, files["end"])
        ended = boot(argv, list(files.values()), limits)
        code, console = read(files["end"]).replace(SIGN, "").strip(), read(files["console"])
    finally:
        for fd in files.values():
            os.close(fd)
    for one in pumps:
        one.join()
    if code:
        return int(code)
    lines = [line.strip() for line in console.split("\n") if line.strip()]
    said = "\n".join(lines[-LAST_LINES:])
    raise VmError(f"the machine gave no answer ({ended}); its console:\n{said}")


def command_line(settings: Settings, kernel: kernels.Kernel, files: dict[str, int]) -> list[str]:
    """Return QEMU's command line; `files`: a descriptor for each thing that it reads or writes."""
    words = WORDS + (NO_V1 if settings.cgroup == "v2" else "")
    place = {name: f"/proc/self/fd/{fd}" for name, fd in files.items()}
    thread = "multi" if settings.cpus > 1 else "single"
    argv = [*BARE, *(word.format(thread=thread) for word in accelerator(kernel)),
            "-m", str(settings.memory_mib), "-smp", str(settings.cpus),
            "-kernel", str(kernel.image), "-initrd", place["initramfs"], "-append", words,
            "-serial", f"file:{place['console']}",
            "-fsdev", "local,multidevs=remap,security_model=none,id=host,path=/,readonly=on",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
            "-device", "virtio-serial-pci,max_ports=5",
            "-chardev", "stdio,id=in,signal=off"]  # fmt: skip
    for name in ("out", "err", "end"):
        argv += ["-chardev", f"file,id={name},path={place[name]},append=on"]
    for name in ("in", "out", "err", "end"):
        argv += ["-device", f"virtserialport,chardev={name},name={name}"]
    if settings.shared:
        argv += ["-fsdev", f"{SHARE},id=shared,path={settings.shared}"]
        argv += ["-device", "virtio-9p-pci,fsdev=shared,mount_tag=shared"]
    return argv


def accelerator(kernel: kernels.Kernel) -> tuple[str, ...]:
    """Return QEMU's words for the way to run: KVM where it works, else translation.

    The answer is kept beside the kernel for as long as the host is up.
    """
    known = kernel.image.with_name("kvm")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    said = known.read_text() if known.exists() else ""
    if not said.startswith(boot_id):
        said = boot_id + ("yes" if kvm_answers(kernel) else "no")
        with contextlib.suppress(OSError):  # a cache of somebody else's is asked each time
            known.write_text(said)
    return KVM if said.endswith("yes") else TCG


def kvm_answers(kernel: kernels.Kernel) -> bool:
    """Boot a guest without an init under KVM; say whether it has come to its end in time.

    Its kernel panics, which with `panic=-1` is a reboot, which ends QEMU.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = [*BARE, *KVM, "-m", "256", "-kernel", str(kernel.image), "-append", WORDS]
    return boot(argv, [], Limits(KVM_S), subprocess.DEVNULL) == "exit 0"


def base(kernel: kernels.Kernel) -> bytes:
    """Return the part of the archive that is the same each time, kept beside the kernel."""
    made_of = f"{initramfs.INIT}{initramfs.MODULES}".encode()
    path = kernel.image.with_name(f"initramfs-{zlib.crc32(made_of):08x}")
    if path.exists():
        return path.read_bytes()
    made = initramfs.base(kernel)
    with contextlib.suppress(OSError):
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        unfinished.write_bytes(made)
        unfinished.rename(path)
    return made


def memory_file(content: bytes = b"") -> int:
    """Return the descriptor of a file without a name."""
    fd = os.memfd_create("startkit-vm")
    os.write(fd, content)
    return fd


def read(fd: int) -> str:
    """Return the text of a file without a name."""
    return os.pread(fd, 1 << 20, 0).decode(errors="replace")


def pump(source: int, target: int) -> None:
    """Copy until the end; QEMU cannot open a terminal or file of somebody else's by name.

    Its `stdio` makes our output one that does not block, for it is the same as its own.
    """
    with open(source, "rb", 0) as reader, contextlib.suppress(OSError):
        while piece := reader.read(65536):
            while piece:
                try:
                    piece = piece[os.write(target, piece) :]
                except BlockingIOError:
                    select.select([], [target], [])


class Limits(NamedTuple):
    """When a machine is ended, 0 for never. `signs`: the file that a guest alive adds to."""

    timeout_s: float
    silence_s: float = 0
    signs: int = -1


def boot(argv: list[str], files: list[int], limits: Limits, errors: int | None = None) -> str:
    """Run QEMU to its end, or end it; say how it ended. `errors`: where its complaints go."""

    def prepare() -> None:
        """In QEMU before exec: die with the launcher."""
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(1)  # it died before we asked to be told

    launcher = os.getpid()
    process = subprocess.Popen(argv, preexec_fn=prepare, pass_fds=files, stderr=errors)
    try:
        return watch(process, limits)
    finally:
        process.kill()
        process.wait()


def watch(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Wait until QEMU ends or a limit is reached; say which."""
    poll = select.poll()
    poll.register(pidfd := os.pidfd_open(process.pid), select.POLLIN)
    began = heard = time.monotonic()
    size = 0
    try:
        while not poll.poll(500):
            now = time.monotonic()
            if limits.timeout_s and now - began >= limits.timeout_s:
                return f"stopped after {limits.timeout_s:g} s"
            if limits.silence_s and (found := os.fstat(limits.signs).st_size) != size:
                size, heard = found, now
            if limits.silence_s and now - heard >= limits.silence_s:
                return f"stopped: no sign of life for {limits.silence_s:g} s"
    finally:
        os.close(pidfd)
    return f"exit {process.wait()}"
