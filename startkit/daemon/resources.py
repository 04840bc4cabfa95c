"""`linux.resources` and `linux.devices` of config.json. Source: era.md section 4, last lines."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from startkit.daemon.errors import BadParameter

if TYPE_CHECKING:
    from startkit.daemon.types import Device, HostConfig

CPU_PERIOD_US = 100_000
CPU_MAX = 8192  # the kernel's own largest NR_CPUS
# null full... zero random urandom, tty and console; deny what FUSE would open
ALLOWED = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))
FUSE = (10, 229)


def rule(allow: bool, kind: str, major: int, minor: int, access: str = "rwm") -> dict[str, Any]:
    """Return one line of the device list."""
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def device_rules(host: HostConfig) -> list[dict[str, Any]]:
    """Return the device list, in the order in which it is applied."""
    if host.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [rule(True, "c", *numbers) for numbers in ALLOWED]
    rules.append(rule(False, "c", *FUSE))
    for device in host.devices or []:
        for node in nodes(device):
            rules.append(
                rule(True, node["type"], node["major"], node["minor"], device.cgroup_permissions)
            )
    return rules


def nodes(device: Device) -> list[dict[str, Any]]:
    """Return the device of one `--device`, or all below it where it is a directory.

    Raises BadParameter where there is none.
    """
    source = device.path_on_host
    target = device.path_in_container or source
    if not target.startswith("/"):
        raise BadParameter(f"invalid device path in the container: {target!r}: not absolute")
    try:
        found = below(source, target) if os.path.isdir(source) else [node(source, target)]
    except OSError as error:
        raise BadParameter(
            f'error gathering device information while adding custom device "{source}": '
            f"{(error.strerror or '').lower()}"
        ) from None
    if not found or None in found:
        raise BadParameter(
            f'error gathering device information while adding custom device "{source}": '
            "not a device node"
        )
    return [entry for entry in found if entry]


def below(source: str, target: str) -> list[dict[str, Any] | None]:
    """Return every device node in a tree such as /dev/snd, by name; symlinks are passed over."""
    found: list[dict[str, Any] | None] = []
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        inside = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            found += below(entry.path, inside)
        elif not entry.is_symlink() and (made := node(entry.path, inside)):
            found.append(made)
    return found


def node(source: str, target: str) -> dict[str, Any] | None:
    """Return one of `linux.devices` for a node of the machine, None for another file."""
    status = os.stat(source)
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        return None
    return {
        "path": target,
        "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def devices(host: HostConfig) -> list[dict[str, Any]]:
    """Return the nodes to make beside the runtime's default ones."""
    if host.privileged:
        own = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/fd")
        return [
            entry
            for entry in below("/dev", "/dev")
            if entry and not str(entry["path"]).startswith(own)
        ]
    return [entry for device in host.devices or [] for entry in nodes(device)]


def of(host: HostConfig) -> dict[str, Any]:
    """Return `linux.resources`. Memory in bytes, cpu quota and period in microseconds.

    Without `--memory-swap` a memory limit allows as much swap again.
    """
    made: dict[str, Any] = {"devices": device_rules(host)}
    # -1 asks for no limit, which is what is there when nothing is set
    swap = max(host.memory_swap or 2 * host.memory, 0)
    quota = host.nano_cpus * CPU_PERIOD_US // 10**9 or host.cpu_quota
    period = CPU_PERIOD_US if host.nano_cpus else host.cpu_period
    groups: dict[str, dict[str, Any]] = {
        "memory": {"limit": host.memory, "reservation": host.memory_reservation, "swap": swap},
        "cpu": {
            "shares": host.cpu_shares,
            "quota": quota,
            "period": period,
            "cpus": host.cpuset_cpus,
            "mems": host.cpuset_mems,
        },
        "pids": {"limit": max(host.pids_limit or 0, 0)},
    }
    for name, values in groups.items():
        given = {key: value for key, value in values.items() if value}
        if given:
            made[name] = given
    return made


def numbers(text: str) -> set[int]:
    """Return the numbers of a list such as `0-2,5`, the kernel's own form."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), min(int(last or first), CPU_MAX) + 1))
    return found


def check_cpus(wanted: str) -> None:
    """Raise BadParameter where a processor is asked for that is not online."""
    with open("/sys/devices/system/cpu/online") as file:
        online = file.read().strip()
    if not numbers(wanted) <= numbers(online):
        raise BadParameter(
            f"Requested CPUs are not available - requested {wanted}, available: {online}"
        )
