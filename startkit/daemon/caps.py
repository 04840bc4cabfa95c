"""Which capabilities a container is given. Source: era.md section 4, capabilities(7)."""

from __future__ import annotations

from startkit.daemon.errors import BadParameter

# In the kernel's order, CAP_CHOWN is bit 0.
ALL = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
DEFAULT = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
)


def held() -> tuple[str, ...]:
    """Return what this daemon may hand on: its own bounding set.

    A machine that withholds a capability withholds it from `--privileged` as well.
    """
    with open("/proc/self/status") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapBnd:"))
    return tuple(name for bit, name in enumerate(ALL) if mask >> bit & 1)


def plain(word: str) -> str:
    """Return `NET_ADMIN` for `net_admin` or `CAP_NET_ADMIN`. Raises BadParameter."""
    name = word.upper().removeprefix("CAP_")
    if name != "ALL" and name not in ALL:
        raise BadParameter(f'unknown capability: "CAP_{name}"')
    return name


def resolve(add: list[str], drop: list[str], *, privileged: bool = False) -> list[str]:
    """Return the container's capabilities as `CAP_X` words.

    The defaults keep their order, added ones follow in the order given; what is both
    dropped and added is there.
    Raises BadParameter for an unknown word.
    """
    added, dropped = [plain(word) for word in add], {plain(word) for word in drop}
    if privileged:
        return [f"CAP_{name}" for name in held()]
    if "ALL" in added:
        names = [name for name in held() if name not in dropped]
    else:
        base = [] if "ALL" in dropped else [name for name in DEFAULT if name not in dropped]
        names = list(dict.fromkeys(base + added))
    return [f"CAP_{name}" for name in names]
