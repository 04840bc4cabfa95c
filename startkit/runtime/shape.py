"""The shape of config.json, as data; `bundle.py` says how to read it.

Rule: each entry is here because a module of this runtime carries it out, or because it
must be refused by name. Nothing here looks at the host.

Source: OCI runtime-spec, config.md and config-linux.md.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Rule = Callable[[Any], str]

MAX_ID = 2**32 - 2  # 2**32 - 1 means "no change" to the kernel
MAX_SIGNED = 2**63 - 1


def number(low: int, high: int) -> Rule:
    """Return the rule for whole numbers from `low` to `high`."""

    def rule(value: Any) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if fits else f"must be a whole number from {low} to {high}"

    return rule


def one_of(*words: str) -> Rule:
    """Return the rule for a closed set of words."""
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def left_out(what: str) -> Rule:
    """Return the rule that refuses anything but an empty value."""
    return lambda value: f"{what} is not supported by startkit-runc" if value else ""


def plain(value: Any) -> bool:
    """Whether a value is text that the kernel can be given: without NUL or half a character."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:  # a lone surrogate, other than one that stands for a byte
        return False


def absolute(value: Any) -> str:
    """Refuse what is not an absolute path."""
    fits = plain(value) and value.startswith("/")
    return "" if fits else "must be an absolute path"


def filled(value: Any) -> str:
    """Refuse what is not text, or empty."""
    fits = plain(value) and value != ""
    return "" if fits else "must be text, and not empty"


def argument_list(value: Any) -> str:
    """Refuse what execve(2) cannot take as arguments."""
    if not isinstance(value, list) or not value:
        return "must be an array with at least one entry"
    fits = all(map(plain, value))
    return "" if fits else "must hold text without NUL"


def variable(value: Any) -> str:
    """Refuse what is not NAME=value."""
    fits = plain(value) and value.find("=") > 0
    return "" if fits else "must be NAME=value"


def hostname(value: Any) -> str:
    """Refuse what sethostname(2) refuses."""
    fits = plain(value) and len(os.fsencode(value)) <= 64
    return "" if fits else "must be text of at most 64 bytes"


def container_version(value: Any) -> str:
    """Refuse a specification whose major version is not 1."""
    fits = isinstance(value, str) and value.split(".")[0] == "1"
    return "" if fits else "must be a version 1.x.y"


def access(value: Any) -> str:
    """Refuse what is not made of r, w and m; an `a` beside them is passed over, as runc does."""
    fits = isinstance(value, str) and set(value) & set("rwm") and not set(value) - set("rwma")
    return "" if fits else "must be made of r, w and m"


def page_size(value: Any) -> str:
    """Refuse what is not a size as the kernel names its files: 64KB, 2MB, 1GB."""
    fits = isinstance(value, str) and value[:-2].isdecimal() and value[-2:] in ("KB", "MB", "GB")
    return "" if fits else "must be a size such as 2MB"


ID = number(0, MAX_ID)
COUNT = number(0, MAX_SIGNED)
LIMIT = number(-1, MAX_SIGNED)
HOOKS = [{"path!": absolute, "args": [str], "env": [variable], "timeout": number(1, 10**6)}]
MAPPINGS = [{"containerID!": ID, "hostID!": ID, "size!": number(1, 2**32 - 1)}]
THROTTLE = [{"major!": COUNT, "minor!": COUNT, "rate!": COUNT}]
KIND = {"type!": one_of("c", "u", "b", "p"), "path!": absolute, "major": COUNT, "minor": COUNT,
        "fileMode": number(0, 0o7777), "uid": ID, "gid": ID}  # fmt: skip

CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

PROCESS = {
    "terminal": bool,
    "consoleSize": {"height!": number(0, 65535), "width!": number(0, 65535)},
    "user": {"uid": ID, "gid": ID, "umask": number(0, 0o777), "additionalGids": [ID]},
    "cwd!": absolute,
    "args!": argument_list,
    "env": [variable],
    "capabilities": {kind: [str] for kind in CAPABILITY_SETS},
    "rlimits": [{"type!": str, "hard!": number(0, 2**64 - 1), "soft!": number(0, 2**64 - 1)}],
    "noNewPrivileges": bool,
    "oomScoreAdj": number(-1000, 1000),
    "apparmorProfile": left_out("an AppArmor profile"),
    "selinuxLabel": left_out("an SELinux label"),
    "scheduler": {
        "policy!": one_of(*(f"SCHED_{w}" for w in (
            "OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"))),
        "nice": number(-20, 19), "priority": number(0, 99),
        "flags": [one_of(*(f"SCHED_FLAG_{w}" for w in (
            "RESET_ON_FORK", "RECLAIM", "DL_OVERRUN", "KEEP_POLICY", "KEEP_PARAMS",
            "UTIL_CLAMP_MIN", "UTIL_CLAMP_MAX")))],
        "runtime": COUNT, "deadline": COUNT, "period": COUNT},
    "ioPriority": {"class!": one_of("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"),
                   "priority": number(0, 7)},
    "execCPUAffinity": left_out("a CPU affinity"),
}  # fmt: skip

RESOURCES = {
    "devices": [{"allow": bool, "type": one_of("a", "c", "b"), "major": LIMIT, "minor": LIMIT,
                 "access": access}],
    "memory": {"limit": LIMIT, "reservation": LIMIT, "swap": LIMIT, "kernel": LIMIT,
               "kernelTCP": LIMIT, "swappiness": number(0, 100), "disableOOMKiller": bool,
               "useHierarchy": bool,
               "checkBeforeUpdate": left_out("a check of the usage before the limit")},
    "cpu": {"shares": COUNT, "quota": LIMIT, "period": COUNT, "burst": COUNT,
            "realtimeRuntime": LIMIT, "realtimePeriod": COUNT, "cpus": str, "mems": str,
            "idle": number(0, 1)},
    "pids": {"limit": LIMIT},
    "blockIO": {"weight": number(0, 1000), "leafWeight": left_out("a leaf weight"),
                "weightDevice": [{"major!": COUNT, "minor!": COUNT, "weight": number(0, 1000),
                                  "leafWeight": left_out("a leaf weight")}],
                "throttleReadBpsDevice": THROTTLE, "throttleWriteBpsDevice": THROTTLE,
                "throttleReadIOPSDevice": THROTTLE, "throttleWriteIOPSDevice": THROTTLE},
    "unified": {"*": str},
    "hugepageLimits": [{"pageSize!": page_size, "limit!": COUNT}],
    "network": left_out("a network class"),
    "rdma": left_out("a limit on RDMA"),
}  # fmt: skip

ACTION = one_of(
    *(f"SCMP_ACT_{word}" for word in ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO",
                                      "NOTIFY", "TRACE", "LOG", "ALLOW"))
)  # fmt: skip
OPERATOR = one_of(
    *(f"SCMP_CMP_{word}" for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
)
OFFSET = {"secs": number(-MAX_SIGNED, MAX_SIGNED), "nanosecs": number(0, 10**9 - 1)}
WORD = number(0, 2**64 - 1)
SECCOMP = {
    "defaultAction!": ACTION,
    "defaultErrnoRet": number(0, 65535),
    "architectures": [str],
    "flags": [one_of(*(f"SECCOMP_FILTER_FLAG_{w}" for w in ("TSYNC", "LOG", "SPEC_ALLOW")))],
    "listenerPath": str,
    "listenerMetadata": str,
    "syscalls": [{"names!": argument_list, "action!": ACTION, "errnoRet": number(0, 65535),
                  "args": [{"index!": number(0, 5), "value!": WORD, "valueTwo": WORD,
                            "op!": OPERATOR}]}],
}  # fmt: skip

LINUX = {
    "namespaces": [{"type!": one_of("mount", "network", "uts", "pid", "ipc", "user", "cgroup",
                               "time"),
                    "path": absolute}],
    "uidMappings": MAPPINGS,
    "gidMappings": MAPPINGS,
    "devices": [KIND],
    "cgroupsPath": str,
    "resources": RESOURCES,
    "rootfsPropagation": one_of("shared", "rshared", "slave", "rslave", "private", "rprivate",
                                "unbindable", "runbindable", ""),
    "maskedPaths": [absolute],
    "readonlyPaths": [absolute],
    "sysctl": {"*": str},
    "mountLabel": left_out("a mount label"),
    "seccomp": SECCOMP,
    "intelRdt": left_out("Intel RDT"),
    "personality": {"domain!": one_of("LINUX", "LINUX32"),
                    "flags": left_out("a flag of a personality")},
    "timeOffsets": {"monotonic": OFFSET, "boottime": OFFSET},
    "netDevices": left_out("moving network devices"),
    "memoryPolicy": left_out("a NUMA memory policy"),
}  # fmt: skip

SHAPE = {
    "ociVersion!": container_version,
    "process!": PROCESS,
    "root!": {"path!": filled, "readonly": bool},
    "hostname": hostname,
    "domainname": hostname,
    "mounts": [{"destination!": filled, "type": str, "source": str, "options": [str],
                "uidMappings": left_out("a mount with ids of its own"),
                "gidMappings": left_out("a mount with ids of its own")}],
    "hooks": dict.fromkeys(("prestart", "createRuntime", "createContainer", "startContainer",
                            "poststart", "poststop"), HOOKS),
    "annotations": {"*": str},
    "linux!": LINUX,
    "vm": left_out("a virtual machine"),
}  # fmt: skip
