"""`spec` and `features`: what a config.json may look like, and what this runtime carries out.

Rule: `features` is read off the tables that the other modules work by, never typed again.

Source: runc-spec(8); runtime-spec 1.1, features.md.
"""

from __future__ import annotations

import json
import os

from startkit import __version__
from startkit.runtime import caps, mounts, namespaces, shape
from startkit.runtime.text import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
FIXED = ["nosuid", "noexec", "nodev"]
PTS = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
          "/proc/scsi")  # fmt: skip


def mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    """Return one entry of `mounts`."""
    entry: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    return {**entry, "options": list(options)} if options else entry


def example(version: str, *, rootless: bool) -> dict[str, Any]:
    """Return the config.json to start from; `rootless`: one that its user may run."""
    sys_mount = mount("/sys", "sysfs", "sysfs", *FIXED, "ro")
    ids: dict[str, Any] = {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    kinds = ["pid", "network", "ipc", "uts", "mount"]
    if rootless:
        sys_mount = mount("/sys", "none", "/sys", "rbind", *FIXED, "ro")
        maps = {"uidMappings": os.geteuid(), "gidMappings": os.getegid()}
        ids = {key: [{"containerID": 0, "hostID": n, "size": 1}] for key, n in maps.items()}
        kinds = ["pid", "ipc", "uts", "mount", "user"]
    kinds_of_caps = ("bounding", "effective", "permitted", "ambient")
    return {
        "ociVersion": version,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(kinds_of_caps, CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": [
            mount("/proc", "proc", "proc"),
            mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "devpts", *PTS, *([] if rootless else ["gid=5"])),
            mount("/dev/shm", "tmpfs", "shm", *FIXED, "mode=1777", "size=65536k"),
            mount("/dev/mqueue", "mqueue", "mqueue", *FIXED),
            sys_mount,
            mount("/sys/fs/cgroup", "cgroup", "cgroup", *FIXED, "relatime", "ro"),
        ],
        "linux": {
            **ids,
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": list(MASKED),
            "readonlyPaths": [f"/proc/{n}" for n in ("bus", "fs", "irq", "sys", "sysrq-trigger")],
        },
    }  # fmt: skip


def write_spec(directory: str, version: str, *, rootless: bool) -> None:
    """Write config.json. Raises ContainerError where there is one already."""
    path = os.path.join(directory, "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps(example(version, rootless=rootless), indent="\t") + "\n")
    except FileExistsError:
        raise ContainerError("File config.json exists. Remove it first") from None


def features(version: str) -> str:
    """Return what the runtime carries out, as JSON."""
    hooks: Any = shape.SHAPE["hooks"]
    found = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": version,
        "hooks": list(hooks),
        "mountOptions": sorted([*mounts.FLAGS, *mounts.PROPAGATION]),
        "linux": {
            "namespaces": sorted(namespaces.FLAGS),
            "capabilities": list(caps.NUMBERS),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False,
                       "rdma": False},
            "seccomp": seccomp_features(),
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
        },
        "annotations": {"startkit-runc.version": __version__},
    }  # fmt: skip
    return json.dumps(found, indent=4)


def seccomp_features() -> dict[str, Any]:
    """Return what a seccomp profile may hold; nothing where libseccomp is not installed."""
    from startkit.runtime import seccomp

    try:
        seccomp.open_library()
    except ContainerError:
        return {"enabled": False}
    operators = [f"SCMP_CMP_{name}" for name in seccomp.OPERATORS]
    return {"enabled": True, "actions": sorted(seccomp.ACTIONS), "operators": operators}
