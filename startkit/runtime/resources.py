"""`linux.resources` as files to write, for cgroup v1 and for v2.

Rule: `v1_settings` and `v2_settings` are pure: config in, (controller, file, text) out, in the
order of writing. A number that is 0 or absent means "not set", as Docker writes it.

Source: OCI config-linux.md Control groups; kernel's cgroup-v1/*.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import os

from startkit.runtime.text import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Setting = tuple[str, str, str]

# What every container may use: runc and crun add the same to any list.
ALWAYS_ALLOWED = ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm", "c 5:0 rwm",
                  "c 1:5 rwm", "c 1:9 rwm", "c 5:1 rwm", "c 136:* rwm", "c 5:2 rwm")  # fmt: skip
THROTTLES = (("throttleReadBpsDevice", "read_bps", "rbps"),
             ("throttleWriteBpsDevice", "write_bps", "wbps"),
             ("throttleReadIOPSDevice", "read_iops", "riops"),
             ("throttleWriteIOPSDevice", "write_iops", "wiops"))  # fmt: skip


def apply(directories: dict[str, str], wanted: dict[str, Any]) -> None:
    """Write all limits into the container's cgroup directories, keyed by hierarchy name.

    Raises ContainerError where the host lacks the controller, or refuses the value.
    """
    unified = directories.get("")
    rules: list[Setting] = []
    if any("devices" in name.split(",") for name in directories):
        rules = [("devices", *rule) for rule in v1_device_rules(wanted)]
    elif unified is not None:
        attach_device_rules(unified, wanted.get("devices") or [])
    update(directories, wanted, rules)


def update(
    directories: dict[str, str], wanted: dict[str, Any], rules: list[Setting] | None = None
) -> None:
    """Write the limits, then `rules`; the devices' are as they are, other than in `apply`."""
    places = by_controller(directories)
    if list(directories) == [""]:
        settings = v2_settings(wanted)
    elif wanted.get("unified"):
        words = "invalid configuration: this host has cgroup v1"
        raise ContainerError(f"config.json /linux/resources/unified: {words}")
    else:
        settings = v1_settings(wanted)
        memory = wanted.get("memory") or {}
        name = "memory.memsw.limit_in_bytes"
        there = os.path.exists(f"{places.get('memory')}/{name}")
        if memory.get("limit") == -1 and not memory.get("swap") and there:
            settings.append(("memory", name, "-1"))
    write_settings([*settings, *(rules or ())], places, again=True)


def write_settings(settings: list[Setting], places: dict[str, str], *, again: bool) -> None:
    """Write settings in their order; `again`: those refused once more, after all the others.

    Some limits bound each other (memory and memory with swap, cpu period and quota within the
    parent's), and which one has to be first depends on what they are now.
    """
    refused = []
    for controller, name, text in settings:
        directory = places.get(controller, places.get(""))
        if controller == "blkio" and not os.path.exists(f"{directory}/{name}"):
            name = name.replace("blkio.weight", "blkio.bfq.weight")  # what Linux 5 calls it
        if directory is None or not os.path.exists(f"{directory}/{name}"):
            raise ContainerError(
                f"config.json /linux/resources/{controller}: "
                f"this host has no cgroup file {name} to set to {text.strip()}"
            )
        try:
            write_setting(f"{directory}/{name}", text)
        except OSError as error:
            if not again:
                raise ContainerError(
                    f"config.json /linux/resources/{controller}: "
                    f"writing {text} to {name}: {error.strerror}"
                ) from None
            refused.append((controller, name, text))
    if refused:
        write_settings(refused, places, again=False)


def by_controller(directories: dict[str, str]) -> dict[str, str]:
    """Return controller -> directory; a v1 hierarchy may have several, "" is v2."""
    return {c: d for name, d in directories.items() for c in name.split(",")}


def write_setting(path: str, text: str) -> None:
    """Write to an existing file, at once. Raises OSError naming the path."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def v1_settings(wanted: dict[str, Any]) -> list[Setting]:
    """Return what cgroup v1 is to be told."""
    cpu, memory = wanted.get("cpu") or {}, wanted.get("memory") or {}
    block = wanted.get("blockIO") or {}
    found: list[Setting] = []
    for part, controller, name, key in (
        (cpu, "cpuset", "cpuset.cpus", "cpus"),
        (cpu, "cpuset", "cpuset.mems", "mems"),
        (cpu, "cpu", "cpu.shares", "shares"),
        (cpu, "cpu", "cpu.idle", "idle"),
        (cpu, "cpu", "cpu.cfs_period_us", "period"),
        (cpu, "cpu", "cpu.cfs_quota_us", "quota"),
        (cpu, "cpu", "cpu.cfs_burst_us", "burst"),
        (cpu, "cpu", "cpu.rt_period_us", "realtimePeriod"),
        (cpu, "cpu", "cpu.rt_runtime_us", "realtimeRuntime"),
        (memory, "memory", "memory.limit_in_bytes", "limit"),
        (memory, "memory", "memory.memsw.limit_in_bytes", "swap"),
        (memory, "memory", "memory.soft_limit_in_bytes", "reservation"),
        (memory, "memory", "memory.kmem.limit_in_bytes", "kernel"),
        (memory, "memory", "memory.kmem.tcp.limit_in_bytes", "kernelTCP"),
        (memory, "memory", "memory.swappiness", "swappiness"),
        (wanted.get("pids") or {}, "pids", "pids.max", "limit"),
        (block, "blkio", "blkio.weight", "weight"),
    ):
        value = part.get(key)
        if value or (key == "swappiness" and value is not None):
            text = "max" if (name, value) == ("pids.max", -1) else str(value)
            found.append((controller, name, text))
    for page in wanted.get("hugepageLimits") or ():
        name = f"hugetlb.{page['pageSize']}.limit_in_bytes"
        found.append(("hugetlb", name, str(page["limit"])))
    for rule in block.get("weightDevice") or ():
        text = f"{rule['major']}:{rule['minor']} {rule.get('weight') or 0}"
        found.append(("blkio", "blkio.weight_device", text))
    if memory.get("disableOOMKiller"):
        found.append(("memory", "memory.oom_control", "1"))
    for key, name, _ in THROTTLES:
        for rule in block.get(key) or ():
            text = f"{rule['major']}:{rule['minor']} {rule['rate']}"
            found.append(("blkio", f"blkio.throttle.{name}_device", text))
    return found


def v1_device_rules(wanted: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (file, rule) pairs: all denied, the config's rules, the always allowed."""
    found = [
        ("devices.allow" if rule.get("allow") else "devices.deny", rule_text(rule))
        for rule in wanted.get("devices") or ()
    ]
    always = [("devices.allow", text) for text in ALWAYS_ALLOWED]
    return [("devices.deny", "a"), *found, *always]


def rule_text(rule: dict[str, Any]) -> str:
    """Return a device rule in cgroup v1's language; -1 and an absent number are `*`."""
    kind = rule.get("type") or "a"
    if kind == "a" and "major" not in rule and "minor" not in rule:
        return "a"
    numbers = [rule.get(key, -1) for key in ("major", "minor")]
    major, minor = ("*" if n in (-1, None) else str(n) for n in numbers)
    return f"{kind} {major}:{minor} {access_letters(rule)}"


def access_letters(rule: dict[str, Any]) -> str:
    """Return what of r, w and m a rule is about; absent, it is all of them."""
    return "".join(letter for letter in rule.get("access") or "rwm" if letter in "rwm")


def v2_settings(wanted: dict[str, Any]) -> list[Setting]:
    """Return what cgroup v2 is to be told: v1's units converted, then `unified` as it stands."""
    cpu, memory = wanted.get("cpu") or {}, wanted.get("memory") or {}
    block = wanted.get("blockIO") or {}
    found: list[Setting] = []

    def add(controller: str, name: str, value: Any, text: str | None = None) -> None:
        if value:
            found.append((controller, name, text or ("max" if value == -1 else str(value))))

    for key in ("realtimeRuntime", "realtimePeriod"):
        refuse_v1_only("cpu", key, cpu.get(key))
    for key in ("kernel", "kernelTCP", "swappiness", "disableOOMKiller"):
        refuse_v1_only("memory", key, memory.get(key))
    add("cpuset", "cpuset.cpus", cpu.get("cpus"))
    add("cpuset", "cpuset.mems", cpu.get("mems"))
    add("cpu", "cpu.weight", cpu.get("shares"), str(cpu_weight(cpu.get("shares") or 0)))
    add("cpu", "cpu.idle", cpu.get("idle"))
    quota, period = cpu.get("quota") or -1, cpu.get("period") or 100000
    if cpu.get("quota") or cpu.get("period"):
        add("cpu", "cpu.max", 1, f"{'max' if quota < 0 else quota} {period}")
    add("cpu", "cpu.max.burst", cpu.get("burst"))
    add("memory", "memory.max", memory.get("limit"))
    add("memory", "memory.swap.max", memory.get("swap"), swap_text(memory))
    add("memory", "memory.low", memory.get("reservation"))
    add("pids", "pids.max", (wanted.get("pids") or {}).get("limit"))
    weight = block.get("weight")
    add("io", "io.weight", weight, f"default {1 + ((weight or 10) - 10) * 9999 // 990}")
    for rule in block.get("weightDevice") or ():
        scaled = 1 + ((rule.get("weight") or 10) - 10) * 9999 // 990
        add("io", "io.weight", 1, f"{rule['major']}:{rule['minor']} {scaled}")
    for page in wanted.get("hugepageLimits") or ():
        add("hugetlb", f"hugetlb.{page['pageSize']}.max", 1, str(page["limit"]))
    for key, _, word in THROTTLES:
        for rule in block.get(key) or ():
            add("io", "io.max", 1, f"{rule['major']}:{rule['minor']} {word}={rule['rate']}")
    for name, text in (wanted.get("unified") or {}).items():
        if "/" in name or "." not in name:
            raise ContainerError(f"config.json /linux/resources/unified/{name}: is no file name")
        found.append((name.split(".")[0], name, text))
    return found


def refuse_v1_only(part: str, key: str, value: Any) -> None:
    """Refuse what cgroup v2 has no word for."""
    if value:
        raise ContainerError(
            f"config.json /linux/resources/{part}/{key}: cgroup v2 has no such limit"
        )


def cpu_weight(shares: int) -> int:
    """Map cpu.shares, 2 to 262144, on cpu.weight, 1 to 10000, as crun and runc do."""
    return 1 + (max(shares, 2) - 2) * 9999 // 262142


def swap_text(memory: dict[str, Any]) -> str:
    """Return v2's swap limit, which is swap alone; v1's is memory and swap together."""
    swap, limit = memory.get("swap") or 0, memory.get("limit") or 0
    if swap < 0:
        return "max"
    if swap and (limit <= 0 or swap < limit):
        raise ContainerError("config.json /linux/resources/memory/swap: must not be below limit")
    return str(swap - limit)


def attach_device_rules(directory: str, rules: list[dict[str, Any]]) -> None:
    """Put the device rules on a v2 cgroup as the BPF program that v2 wants for it."""
    from startkit.runtime import devicefilter

    devicefilter.attach(directory, devicefilter.program(rules, ALWAYS_ALLOWED))
