"""Guest roots with the engines of other Debian releases, made by mmdebstrap into the cache.

A guest that has one as its root runs the suite with the host's Python, which is laid into it:
a program of Debian 12 runs with the younger libraries of the later ones.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from startkit.vm import VmError
from startkit.vm.kernel import cache, call, fill

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("busybox-static", "containerd", "crun", "docker.io", "iproute2", "libsqlite3-0",
            "lsof", "mount", "podman", "procps", "python3", "runc")  # fmt: skip
MIRROR = "http://deb.debian.org/debian"
RELEASES = ("bookworm", "trixie", "sid")
NEEDED_MIB = 1500


def find(release: str) -> Path:
    """Return the root of a release. Raises VmError."""
    place = cache() / "root" / release
    if release not in RELEASES:
        raise VmError(f"no release {release}: one of {', '.join(RELEASES)}")
    if not place.exists():
        raise VmError(f"no root {place}: run startkit vm image {release}")
    return place


def make(release: str) -> Path:
    """Make a root, unless it is there. Raises VmError with mmdebstrap's last line."""
    try:
        return find(release)
    except VmError:
        if release not in RELEASES:
            raise
    if shutil.which("mmdebstrap") is None:
        raise VmError("mmdebstrap is not here: apt-get install mmdebstrap")
    place = cache() / "root" / release

    def unpack(new: Path) -> None:
        """Fill the place."""
        # A mirror may be a copy that is older than Debian says a list of it may be.
        call("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}",
             "--aptopt=Acquire::Check-Valid-Until false", release, str(new), MIRROR)  # fmt: skip

    fill(place, NEEDED_MIB, unpack)
    return place
