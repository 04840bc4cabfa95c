"""Namespaces: one clone(2) for all the new ones, a detour for those that exist already.

Rule: the runtime's own process never changes its namespaces. To join one by path, a
throw-away child joins it and then clones init as its own sibling (CLONE_PARENT), so init
is the runtime's child in both cases.

Source: namespaces(7), clone(2), user_namespaces(7), OCI config-linux.md Namespaces.
"""

from __future__ import annotations

import ctypes
import os
import struct

from startkit import kernel
from startkit.runtime.text import ContainerError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS = {
    "mount": kernel.CLONE_NEWNS,
    "network": kernel.CLONE_NEWNET,
    "uts": kernel.CLONE_NEWUTS,
    "pid": kernel.CLONE_NEWPID,
    "ipc": kernel.CLONE_NEWIPC,
    "user": kernel.CLONE_NEWUSER,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "time": kernel.CLONE_NEWTIME,
}
CLONE_INTO_CGROUP = 1 << 33
SYS_CLONE3 = 435
SIGCHLD = 17
NS_GET_NSTYPE = 0xB703
AF_INET, SOCK_DGRAM, SIOCSIFFLAGS, IFF_UP = 2, 2, 0x8914, 1
NO_CLONE3 = (38, 22, 7, 16, 95)  # ENOSYS EINVAL E2BIG EBUSY EOPNOTSUPP: join the cgroup later

# PyDLL keeps the interpreter lock over the call: the child is born holding it.
python = ctypes.PyDLL(None, use_errno=True)


def new_flags(namespaces: list[dict[str, Any]]) -> int:
    """Return the CLONE_NEW* bits of the namespaces to be made."""
    return sum(FLAGS[entry["type"]] for entry in namespaces if not entry.get("path"))


def clone(flags: int, cgroup: int | None = None) -> int:
    """clone3(2) with fork's meaning: return the child's pid, and 0 in the child.

    `cgroup` is an open cgroup v2 directory; the child is born in it. Where the kernel
    refuses that, the child is cloned without, and whoever asked finds it elsewhere.
    """
    try:
        return clone_once(flags, cgroup)
    except OSError as error:
        if cgroup is None or error.errno not in NO_CLONE3:
            raise
        return clone_once(flags, None)


def clone_once(flags: int, cgroup: int | None) -> int:
    """One try of `clone`. Source: struct clone_args in clone(2): eleven 64-bit fields."""
    if cgroup is not None:
        flags |= CLONE_INTO_CGROUP
    # A sibling inherits its exit signal; the kernel wants none then.
    exit_signal = 0 if flags & kernel.CLONE_PARENT else SIGCHLD
    fields = [flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup or 0]
    arguments = ctypes.create_string_buffer(struct.pack("=11Q", *fields))
    python.PyOS_BeforeFork()
    pid: int = python.syscall(SYS_CLONE3, arguments, ctypes.c_size_t(88))
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    code = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, os.strerror(code), f"clone with namespaces {flags:#x}")
    return pid


def start_init(namespaces: list[dict[str, Any]], cgroup: int | None) -> int:
    """Clone init into its namespaces: return its pid, and 0 in init itself.

    Two are not among them: a cgroup namespace shows what it is made in, so init makes
    it once it stands in its cgroup; a time namespace takes its offsets while it is empty.
    """
    flags = new_flags(namespaces) & ~(kernel.CLONE_NEWCGROUP | kernel.CLONE_NEWTIME)
    paths = [entry for entry in namespaces if entry.get("path")]
    if not paths:
        return clone(flags, cgroup)
    return clone_from_inside(paths, flags, cgroup)


def clone_from_inside(paths: list[dict[str, Any]], flags: int, cgroup: int | None) -> int:
    """Let a throw-away child join the namespaces of `paths` and clone init there."""
    reader, writer = os.pipe()
    helper = os.fork()
    if helper == 0:
        clone_sibling(paths, flags, cgroup, writer)  # returns in init only
        os.close(reader)
        return 0
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(helper, 0)
    if not answer.isdecimal():
        raise ContainerError(answer or "the process that joins namespaces died")
    return int(answer)


def clone_sibling(paths: list[dict[str, Any]], flags: int, cgroup: int | None, writer: int) -> None:
    """Join, clone a sibling, write its pid to `writer` and end; returns in the sibling only."""
    try:
        join(paths)
        pid = clone(flags | kernel.CLONE_PARENT, cgroup)
    except BaseException as error:
        os.write(writer, reason(error).encode())
        os._exit(1)
    if pid:
        os.write(writer, b"%d" % pid)
        os._exit(0)
    os.close(writer)


def join(paths: list[dict[str, Any]]) -> None:
    """Enter existing namespaces, the mount namespace last, for it changes what paths mean.

    A user namespace goes first when the others belong to it, and cannot when they do not:
    so those that are refused at first are tried again once the user namespace is entered.
    """
    opened = [(entry, open_namespace(entry)) for entry in paths]
    order = ("network", "uts", "ipc", "pid", "cgroup", "time", "user", "mount")
    opened.sort(key=lambda pair: order.index(pair[0]["type"]))
    refused = []
    for entry, fd in opened:
        try:
            kernel.setns(fd, FLAGS[entry["type"]])
        except PermissionError:
            refused.append((entry, fd))
    for entry, fd in refused:
        try:
            kernel.setns(fd, FLAGS[entry["type"]])
        except OSError as error:
            raise ContainerError(f"joining {entry['path']}: {reason(error)}") from None


def open_namespace(entry: dict[str, Any]) -> int:
    """Open a namespace by its path and refuse one of another type."""
    path, kind = entry["path"], entry["type"]
    try:
        fd = os.open(path, os.O_RDONLY)
        found = kernel.check(kernel.libc.ioctl(fd, NS_GET_NSTYPE), "ioctl", path)
    except OSError as error:
        raise ContainerError(f"namespace {kind}: {reason(error)}") from None
    if found != FLAGS[kind]:
        raise ContainerError(f"namespace {kind}: {path} is of another type")
    return fd


def map_ids(pid: int, linux: dict[str, Any]) -> None:
    """Write the id mappings of a new user namespace, from outside."""
    for key, name in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        lines = [f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in linux[key]]
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
        try:
            os.write(fd, "".join(lines).encode())
        except OSError as error:
            raise ContainerError(f"config.json /linux/{key}: {reason(error)}") from None
        finally:
            os.close(fd)


def enter_time(offsets: dict[str, Any]) -> None:
    """Make a time namespace, set its clocks off, and enter it. Raises ContainerError."""
    lines = [
        f"{clock} {entry.get('secs') or 0} {entry.get('nanosecs') or 0}\n"
        for clock, entry in offsets.items()
        if clock in ("monotonic", "boottime") and entry
    ]
    try:
        kernel.unshare(kernel.CLONE_NEWTIME)
        if lines:
            fd = os.open("/proc/self/timens_offsets", os.O_WRONLY)
            os.write(fd, "".join(lines).encode())
            os.close(fd)
        fd = os.open("/proc/self/ns/time_for_children", os.O_RDONLY)
        kernel.setns(fd, kernel.CLONE_NEWTIME)
        os.close(fd)
    except OSError as error:
        raise ContainerError(f"config.json /linux/timeOffsets: {reason(error)}") from None


def raise_loopback() -> None:
    """Bring `lo` up: the one interface of a new network namespace. Source: netdevice(7)."""
    libc = kernel.libc
    fd = kernel.check(libc.socket(AF_INET, SOCK_DGRAM | os.O_CLOEXEC, 0), "socket", "for lo")
    request = ctypes.create_string_buffer(struct.pack("16sh22x", b"lo", IFF_UP))
    kernel.check(libc.ioctl(fd, SIOCSIFFLAGS, request), "ioctl", "SIOCSIFFLAGS lo")
    os.close(fd)
