"""What the kernel has counted for a container, in the shape of runc's events.

Rule: a file that the kernel does not have leaves its field out.

Source: runc-events(8), types/events.go's JSON names; cgroup-v1/*.rst, cgroup-v2.rst.
"""

from __future__ import annotations

import os
import select

from startkit.runtime import cgroup, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Numbers = dict[str, int]

MAX = 2**64 - 1
TICK_NS = 10_000_000  # USER_HZ is 100 for every program


def read_statistics(directories: dict[str, str]) -> dict[str, Any]:
    """Return the counters of a container, `directories` by hierarchy name."""
    found = resources.by_controller(directories)
    unified = list(directories) == [""]
    read = read_v2(found[""]) if unified else read_v1(found)
    return {**read, "hugetlb": {}, "intel_rdt": {}, "network_interfaces": None}


class OutOfMemory:
    """Tells when a container has run out of memory: `fd` is polled for `event`.

    v1 counts on an eventfd (also once as the cgroup goes), v2 marks memory.events as changed.
    """

    def __init__(self, directories: dict[str, str]) -> None:
        found = resources.by_controller(directories)
        self.first = "memory" in found
        directory = found.get("memory") or found[""]
        self.path = f"{directory}/memory.{'oom_control' if self.first else 'events'}"
        control = os.open(self.path, os.O_RDONLY)
        self.fd, self.event = control, select.POLLPRI
        if self.first:
            self.fd, self.event = os.eventfd(0, os.EFD_CLOEXEC), select.POLLIN
            cgroup.write(f"{directory}/cgroup.event_control", f"{self.fd} {control}")
        self.kills = table(self.path).get("oom_kill", 0)

    def happened(self) -> bool:
        """Take the news off `fd`; return whether it is a lack of memory."""
        if self.first:
            os.eventfd_read(self.fd)
            return os.path.exists(self.path)
        os.pread(self.fd, 4096, 0)
        before, self.kills = self.kills, table(self.path).get("oom_kill", 0)
        return self.kills > before


def value(path: str) -> int | None:
    """Return the number in a file; None where there is no such file; `max` is all ones."""
    try:
        word = cgroup.read(path).strip()
    except OSError:
        return None
    return MAX if word == "max" else int(word)


def table(path: str) -> Numbers:
    """Return a file of `name number` lines, empty where there is no such file."""
    try:
        lines = cgroup.read(path).splitlines()
    except OSError:
        return {}
    return {name: int(number) for name, _, number in (line.partition(" ") for line in lines)}


def devices(path: str, words: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Return what block devices were asked for, an entry for each device and operation.

    v1 has lines `8:0 Read 4096`, v2 `8:0 rbytes=4096 ...`: `words` are the ones to be taken.
    """
    try:
        lines = [line.split() for line in cgroup.read(path).splitlines()]
    except OSError:
        return []
    found = []
    for device, *rest in lines:
        major, _, minor = device.partition(":")
        pairs = [word.split("=") for word in rest] if words else [rest]
        for name, *number in pairs if minor else ():  # v1 ends with a sum of all
            if words is None or name in words:
                op = words[name] if words else name
                entry = {"major": int(major), "minor": int(minor), "op": op}
                found.append({**entry, "value": int(number[0])})
    return found


def known(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {key: value for key, value in fields.items() if value is not None}


def read_v1(found: dict[str, str]) -> dict[str, Any]:
    """Return the counters of cgroup v1."""
    cpuacct, memory = found.get("cpuacct", ""), found.get("memory", "")
    ticks, throttled = table(f"{cpuacct}/cpuacct.stat"), table(f"{found.get('cpu')}/cpu.stat")
    usage = known(
        total=value(f"{cpuacct}/cpuacct.usage"),
        kernel=ticks.get("system", 0) * TICK_NS,
        user=ticks.get("user", 0) * TICK_NS,
    )

    def counter(prefix: str) -> dict[str, Any]:
        fields = {"limit": "limit_in_bytes", "usage": "usage_in_bytes",
                  "max": "max_usage_in_bytes", "failcnt": "failcnt"}  # fmt: skip
        return known(**{k: value(f"{memory}/memory.{prefix}{name}") for k, name in fields.items()})

    raw = table(f"{memory}/memory.stat")
    return {
        "cpu": {"usage": usage, "throttling": throttling(throttled, "throttled_time", 1)},
        "memory": known(cache=raw.get("cache")) | {
            "usage": counter(""),
            "swap": counter("memsw."),
            "kernel": counter("kmem."),
            "kernelTCP": counter("kmem.tcp."),
            "raw": raw,
        },
        "pids": pids(found.get("pids", "")),
        "blkio": {
            field: devices(f"{found.get('blkio')}/blkio.throttle.{name}_recursive")
            for field, name in (("ioServiceBytesRecursive", "io_service_bytes"),
                                ("ioServicedRecursive", "io_serviced"))
        },
    }  # fmt: skip


def read_v2(directory: str) -> dict[str, Any]:
    """Return the counters of cgroup v2."""
    cpu, raw = table(f"{directory}/cpu.stat"), table(f"{directory}/memory.stat")
    fields = {"total": "usage_usec", "kernel": "system_usec", "user": "user_usec"}
    usage = {key: cpu.get(name, 0) * 1000 for key, name in fields.items()}

    def counter(prefix: str) -> dict[str, Any]:
        return known(
            limit=value(f"{directory}/memory.{prefix}max"),
            usage=value(f"{directory}/memory.{prefix}current"),
        )

    return {
        "cpu": {"usage": usage, "throttling": throttling(cpu, "throttled_usec", 1000)},
        "memory": known(cache=raw.get("file")) | {
            "usage": counter(""),
            "swap": counter("swap."),
            "raw": raw,
        },
        "pids": pids(directory),
        "blkio": {
            field: devices(f"{directory}/io.stat", words)
            for field, words in (
                ("ioServiceBytesRecursive", {"rbytes": "Read", "wbytes": "Write"}),
                ("ioServicedRecursive", {"rios": "Read", "wios": "Write"}),
            )
        },
    }  # fmt: skip


def throttling(counted: Numbers, time: str, factor: int) -> Numbers:
    """Return how often and how long (in nanoseconds) the quota was used up; zeros are left out."""
    names = (("periods", "nr_periods", 1), ("throttledPeriods", "nr_throttled", 1),
             ("throttledTime", time, factor))  # fmt: skip
    return {key: counted[name] * by for key, name, by in names if counted.get(name)}


def pids(directory: str) -> Numbers:
    """Return how many processes there are, and may be."""
    limit = value(f"{directory}/pids.max")
    return known(current=value(f"{directory}/pids.current"), limit=None if limit == MAX else limit)
