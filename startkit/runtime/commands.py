"""`ps`, `pause`, `resume`, `update`, `events`: what is asked of a container's cgroups.

Rule: every one of them finds the cgroups in the container's record; nothing is kept.

Source: runc-ps(8), runc-pause(8), runc-update(8), runc-events(8); cgroup-v1/freezer-subsystem
and cgroup-v2.rst (cgroup.freeze).
"""

from __future__ import annotations

import os
import select
import subprocess
import time

from startkit.runtime import cgroup, counters, freezer, resources, shape
from startkit.runtime.bundle import broken_rule
from startkit.runtime.text import ContainerError, json_text, parse_json, reason, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from startkit.runtime.cli import Arguments

# flag: where it stands in `linux.resources`, and whether it is a number, a size or text
LIMITS = {
    "blkio-weight": ("blockIO", "weight", "number"),
    "cpu-period": ("cpu", "period", "number"),
    "cpu-quota": ("cpu", "quota", "number"),
    "cpu-share": ("cpu", "shares", "number"),
    "cpu-shares": ("cpu", "shares", "number"),
    "cpu-rt-period": ("cpu", "realtimePeriod", "number"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", "number"),
    "cpuset-cpus": ("cpu", "cpus", "text"),
    "cpuset-mems": ("cpu", "mems", "text"),
    "memory": ("memory", "limit", "size"),
    "memory-reservation": ("memory", "reservation", "size"),
    "memory-swap": ("memory", "swap", "size"),
    "pids-limit": ("pids", "limit", "number"),
}


def show_processes(arguments: Arguments) -> None:
    """Print the container's processes: their pids as JSON, or `ps`'s lines about them."""
    form, options = arguments.flags.get("format", "table"), arguments.words[1:]
    pids = cgroup.processes(arguments.container().record["cgroups"])
    if form == "json":
        say(json_text(pids))
        return
    if form != "table":
        raise ContainerError("invalid format option")
    command = ["ps", *(options or ["-ef"])]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    head, *lines = listing.stdout.splitlines() or [""]
    if listing.returncode or "PID" not in head.split():
        raise ContainerError(listing.stderr.strip() or "couldn't find PID field in ps output")
    column = head.split().index("PID")
    say("\n".join([head, *(x for x in lines if x.split()[column] in map(str, pids))]))


def pause(arguments: Arguments) -> None:
    """Freeze every process of a running container."""
    container = arguments.container()
    if container.status() not in ("running", "created"):
        raise ContainerError("container not running")
    freezer.freeze(container.record["cgroups"], frozen=True)


def resume(arguments: Arguments) -> None:
    """Let a paused container go on."""
    container = arguments.container()
    if container.status() != "paused":
        raise ContainerError("container not paused")
    freezer.freeze(container.record["cgroups"], frozen=False)


def update(arguments: Arguments) -> None:
    """Change the limits of a container, running or not yet."""
    container, flags = arguments.container(), arguments.flags
    if container.status() == "stopped":
        raise ContainerError("container not running")
    wanted = read_resources(flags["resources"]) if flags.get("resources") else limits_of(flags)
    broken = broken_rule(wanted, shape.RESOURCES, "")
    if broken:
        raise ContainerError(f"resources {broken}")
    resources.update(cgroup.by_hierarchy(container.record["cgroups"]), wanted)


def read_resources(path: str) -> dict[str, Any]:
    """Return a file of resources, or what stdin holds for `-`."""
    try:
        with open(0 if path == "-" else path, encoding="utf-8") as file:
            found: dict[str, Any] = parse_json(file.read())
    except OSError as error:
        raise ContainerError(f"open {reason(error)}") from None
    except ValueError as error:
        raise ContainerError(f"{path}: not JSON: {error}") from None
    return found


def limits_of(flags: dict[str, str]) -> dict[str, Any]:
    """Return the flags of `update` as `linux.resources`."""
    found: dict[str, Any] = {}
    for flag, word in flags.items():
        part, key, kind = LIMITS[flag]
        value = word if kind == "text" else parse_size(flag, word, units=kind == "size")
        found.setdefault(part, {})[key] = value
    return found


def parse_size(flag: str, word: str, *, units: bool) -> int:
    """Return a number; `units`: one with k, m, g or t and maybe a b behind it counts bytes."""
    digits, factor = word, 1
    if units:
        digits = word.lower().removesuffix("b").removesuffix("i")
        if digits[-1:] and digits[-1] in "kmgt":
            digits, factor = digits[:-1], 1024 ** ("kmgt".index(digits[-1]) + 1)
    if not digits.removeprefix("-").isdecimal():
        raise ContainerError(f"invalid value for {flag}: invalid size: '{word}'")
    return int(digits) * factor


def show_events(arguments: Arguments) -> None:
    """Print statistics, once (--stats) or every --interval to the end, and when memory ran out."""
    container, flags = arguments.container(), arguments.flags
    if container.status() == "stopped":
        raise ContainerError(f"container with id {container.id} is not running")
    interval = milliseconds(flags.get("interval", "5s"))
    directories = cgroup.by_hierarchy(container.record["cgroups"])
    handle = os.pidfd_open(container.pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    memory = counters.OutOfMemory(directories)
    poll.register(memory.fd, memory.event)
    due = 0.0
    while True:
        if time.monotonic() >= due:
            due = time.monotonic() + interval / 1000
            data = counters.read_statistics(directories)
            say(json_text({"type": "stats", "id": container.id, "data": data}))
        if "stats" in flags:
            return
        ready = {fd for fd, _ in poll.poll(max(0, due - time.monotonic()) * 1000)}
        if memory.fd in ready and memory.happened():
            say(json_text({"type": "oom", "id": container.id}))
        if handle in ready:
            return


def milliseconds(word: str) -> int:
    """Return a duration such as 100ms, 5s or 1m. Raises ContainerError."""
    for unit, factor in (("ms", 1), ("s", 1000), ("m", 60000), ("h", 3600000)):
        digits = word.removesuffix(unit)
        if digits.isdecimal() and int(digits) and digits != word:
            return int(digits) * factor
    raise ContainerError("duration interval must be greater than 0")


def write_spec(arguments: Arguments) -> None:
    """Write an example config.json into --bundle or the current directory."""
    from startkit.runtime import cli, spec

    flags = arguments.flags
    spec.write_spec(flags.get("bundle") or ".", cli.OCI_VERSION, rootless="rootless" in flags)


def show_features(_: Arguments) -> None:
    """Print what this runtime can."""
    from startkit.runtime import cli, spec

    say(spec.features(cli.OCI_VERSION))


def run_inside(arguments: Arguments) -> int:
    """Run one more program in a container; return its exit code, 255 where it cannot run."""
    from startkit.runtime import enter

    try:
        words = arguments.words[1:]
        return enter.execute(arguments.container(), words, arguments.flags, arguments.log)
    except (ContainerError, OSError) as error:
        arguments.log.error(f"exec failed: {reason(error)}")
        return 255
