"""Control groups of a container, in every hierarchy that is mounted.

Source: article, heading "准备OCI需要的bundle": `find /sys/fs/cgroup/ -name ID`; cgroups(7).
"""

from __future__ import annotations

import contextlib
import os

from startkit.observe import disk, procfs

# what a container's limits are written to; a hierarchy has the ones of its controllers
FILES = (
    *("cgroup.procs", "devices.list", "pids.max"),
    *("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpuset.cpus", "cpuset.mems"),
    *("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness"),
    *("memory.soft_limit_in_bytes", "cpu.max", "cpu.weight", "memory.max", "memory.swap.max"),
)
# mount options of a v1 hierarchy that are no controllers of it
FLAGS = {"rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "none"}


def hierarchies() -> dict[str, str]:
    """Return name -> mount point: `memory`, `cpu,cpuacct`, `systemd`, and `unified` for v2."""
    found: dict[str, str] = {}
    for mount in procfs.mounts():
        if mount.fstype == "cgroup2":
            found.setdefault("unified", mount.target)
        elif mount.fstype == "cgroup":
            words = [word for word in mount.super_options if word not in FLAGS]
            name = ",".join(word.removeprefix("name=") for word in words if "agent=" not in word)
            found.setdefault(name, mount.target)
    return found


def version() -> str:
    """Return v1, hybrid or v2."""
    names = set(hierarchies())
    if "unified" not in names:
        return "v1"
    return "v2" if names == {"unified"} else "hybrid"


def find(container: str) -> dict[str, str]:
    """Return hierarchy -> directory named after the container; the outermost one."""
    found = {name: disk.named(top, container) for name, top in hierarchies().items()}
    return {name: places[0] for name, places in sorted(found.items()) if places}


def files(directories: dict[str, str]) -> dict[str, str]:
    """Return `memory/memory.limit_in_bytes` -> text without the last newline."""
    found: dict[str, str] = {}
    for hierarchy, directory in directories.items():
        for name in FILES:
            path = os.path.join(directory, name)
            if os.path.exists(path):
                found[f"{hierarchy}/{name}"] = procfs.read(path).rstrip("\n")
    return found


def remove(container: str) -> None:
    """Remove the directories named after a container, in which nobody is any more."""
    for top in find(container).values():
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
