"""A kernel for the guests: Debian's own, unpacked into a cache, never installed.

QEMU starts the uncompressed ELF directly (PVH), which spares the BIOS and the guest's own
decompression, 4 s of a boot. So it is taken out of `vmlinuz` once.

Source: Documentation/x86/boot.rst (payload_offset), deb(5).
"""

from __future__ import annotations

import fcntl
import lzma
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from startkit.vm import VmError

if TYPE_CHECKING:
    from collections.abc import Callable

METAPACKAGE = "linux-image-amd64"
NEEDED_MIB = 800  # the package, what is in it, and the uncompressed kernel
XZ = b"\xfd7zXZ\x00"


class Kernel(NamedTuple):
    """`image`: the uncompressed ELF; `modules`: the directory that holds `kernel/`."""

    image: Path
    modules: Path

    @property
    def version(self) -> str:
        """What `uname -r` says in the guest."""
        return self.modules.name


def cache() -> Path:
    """Return the cache directory; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "startkit"


def find(image: Path | None = None) -> Kernel:
    """Return the newest kernel of the cache, or the one whose ELF is `image`. Raises VmError."""
    found = [image] if image else sorted(cache().glob("kernel/*/vmlinux"))
    if not found or not found[-1].exists():
        raise VmError(f"no kernel {image or 'in ' + str(cache())}: run startkit vm fetch")
    (modules, *_) = [*found[-1].parent.glob("lib/modules/*"), None]
    if modules is None:
        raise VmError(f"{found[-1].parent}/lib/modules: no modules of this kernel")
    return Kernel(found[-1], modules)


def fetch() -> Kernel:
    """Download Debian's kernel and unpack it; one that is there already is kept.

    Raises VmError with what apt-get or dpkg-deb say.
    """
    package = package_name()
    place = cache() / "kernel" / package

    def unpack(new: Path) -> None:
        """Fill the place."""
        call("apt-get", "download", "-q", package, directory=new)
        (archive,) = new.glob("*.deb")
        call("dpkg-deb", "-x", str(archive), ".", directory=new)
        archive.unlink()
        (compressed,) = new.glob("boot/vmlinuz-*")
        (new / "vmlinux").write_bytes(extract(compressed.read_bytes()))

    fill(place, NEEDED_MIB, unpack)
    return find(place / "vmlinux")


def fill(place: Path, needed_mib: int, how: Callable[[Path], None]) -> None:
    """Make a directory by filling another, unless it is there; one at a time. Raises VmError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(f"{place.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists():
            return
        if shutil.disk_usage(place.parent).free >> 20 < needed_mib:
            raise VmError(f"{place.parent}: {place.name} takes {needed_mib} MiB, free some")
        new = place.with_name(f"{place.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            how(new)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        new.rename(place)


def package_name() -> str:
    """Return the package that the newest kernel is in. Raises VmError."""
    for line in call("apt-cache", "depends", METAPACKAGE).splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "Depends" and value.startswith("linux-image-"):
            return value
    raise VmError(f"apt-cache does not know {METAPACKAGE}: run apt-get update as root")


def call(*argv: str, directory: Path | None = None) -> str:
    """Return what a program prints. Raises VmError with its last line of complaint."""
    try:
        done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise VmError(f"{argv[0]} is not here: a Debian system has it") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise VmError(f"{' '.join(argv)}: {said}")
    return done.stdout


def extract(image: bytes) -> bytes:
    """Return the ELF inside of a bzImage. Raises VmError for a compression that is not xz."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if image[0x202:0x206] != b"HdrS" or not payload.startswith(XZ):
        raise VmError("this kernel is not a bzImage compressed with xz")
    return lzma.LZMADecompressor().decompress(payload)
