"""The mounts of config.json, one after the other, into the rootfs.

Rule: a mount's target is a descriptor from `paths.py`; after a mount the target is opened
again, for the old descriptor still means what lies below.

Source: OCI config.md Mounts, mount(2), mount_namespaces(7).
"""

from __future__ import annotations

import os

from startkit import kernel
from startkit.runtime import paths
from startkit.runtime.text import ContainerError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# option: (bits to set, bits to clear)
FLAGS = {
    "defaults": (0, 0),
    "ro": (kernel.MS_RDONLY, 0),
    "rw": (0, kernel.MS_RDONLY),
    "nosuid": (kernel.MS_NOSUID, 0),
    "suid": (0, kernel.MS_NOSUID),
    "nodev": (kernel.MS_NODEV, 0),
    "dev": (0, kernel.MS_NODEV),
    "noexec": (kernel.MS_NOEXEC, 0),
    "exec": (0, kernel.MS_NOEXEC),
    "sync": (kernel.MS_SYNCHRONOUS, 0),
    "async": (0, kernel.MS_SYNCHRONOUS),
    "dirsync": (kernel.MS_DIRSYNC, 0),
    "mand": (kernel.MS_MANDLOCK, 0),
    "nomand": (0, kernel.MS_MANDLOCK),
    "remount": (kernel.MS_REMOUNT, 0),
    "atime": (0, kernel.MS_NOATIME),
    "noatime": (kernel.MS_NOATIME, 0),
    "diratime": (0, kernel.MS_NODIRATIME),
    "nodiratime": (kernel.MS_NODIRATIME, 0),
    "relatime": (kernel.MS_RELATIME, 0),
    "norelatime": (0, kernel.MS_RELATIME),
    "strictatime": (kernel.MS_STRICTATIME, 0),
    "nostrictatime": (0, kernel.MS_STRICTATIME),
    "lazytime": (kernel.MS_LAZYTIME, 0),
    "nolazytime": (0, kernel.MS_LAZYTIME),
    "silent": (kernel.MS_SILENT, 0),
    "loud": (0, kernel.MS_SILENT),
    "iversion": (1 << 23, 0),
    "noiversion": (0, 1 << 23),
    "acl": (1 << 16, 0),
    "noacl": (0, 1 << 16),
    "symfollow": (0, kernel.MS_NOSYMFOLLOW),
    "nosymfollow": (kernel.MS_NOSYMFOLLOW, 0),
    "bind": (kernel.MS_BIND, 0),
    "rbind": (kernel.MS_BIND | kernel.MS_REC, 0),
}
PROPAGATION = {
    name: bit | recursive
    for prefix, recursive in (("", 0), ("r", kernel.MS_REC))
    for word, bit in (
        ("private", kernel.MS_PRIVATE),
        ("slave", kernel.MS_SLAVE),
        ("shared", kernel.MS_SHARED),
        ("unbindable", kernel.MS_UNBINDABLE),
    )
    for name in (prefix + word,)
}
SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429
AT_FDCWD, AT_RECURSIVE, OPEN_TREE_CLONE = -100, 0x8000, 1
MOVE_FDS = 0x44  # MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
LEFT_OUT = {"idmap", "ridmap"}
# rro, rnosuid and so on: for the mount and all below it, see `mountattr.py`.
RECURSIVE = {
    "r" + name
    for name in ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "nodiratime",
                 "diratime", "relatime", "norelatime", "noatime", "atime", "strictatime",
                 "nostrictatime", "nosymfollow", "symfollow")
}  # fmt: skip
# Files of /proc that may be covered by a mount; the rest must stay the kernel's.
PROC_FILES = {
    "/proc/" + name
    for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg",
                 "slabinfo", "net/dev", "sys/kernel/ns_last_pid")
}  # fmt: skip


class Mount:
    """One entry of `mounts`, understood: flags for mount(2), propagation, data text."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.target = paths.clean(entry["destination"])
        self.source: str = entry.get("source") or entry.get("type") or "none"
        options = entry.get("options") or []
        self.recursive = [name[1:] for name in options if name in RECURSIVE]
        self.copy_up = "tmpcopyup" in options
        own = [name for name in options if name not in RECURSIVE and name != "tmpcopyup"]
        self.flags, self.propagation, data = parse_options(own)
        self.data = ",".join(data)
        self.bind = bool(self.flags & kernel.MS_BIND) or entry.get("type") == "bind"
        self.fstype: str = "bind" if self.bind else entry.get("type") or ""
        self.tree = -1  # a bind's source, when the runtime had to open it: see `open_source`
        if self.bind:
            self.flags |= kernel.MS_BIND
        if self.bind and data:
            raise ContainerError(f"mount {self.target}: unknown option {data[0]} of a bind")
        if self.copy_up and self.fstype != "tmpfs":
            raise ContainerError(f"mount {self.target}: tmpcopyup needs the type tmpfs")
        if not self.bind and not self.fstype:
            raise ContainerError(f"mount {self.target}: needs a type, or the option bind")


def parse_options(options: list[str]) -> tuple[int, list[int], list[str]]:
    """Return flags, propagation changes in order, and the words for the file system itself."""
    flags, propagation, data = 0, [], []
    for option in options:
        if option in FLAGS:
            on, off = FLAGS[option]
            flags = flags & ~off | on
        elif option in PROPAGATION:
            propagation.append(PROPAGATION[option])
        elif option in LEFT_OUT:
            raise ContainerError(f"mount option {option} is not supported by startkit-runc")
        else:
            data.append(option)
    return flags, propagation, data


def mount_entry(root: int, mount: Mount, bundle_path: str) -> None:
    """Carry out one mount. A read-only tmpfs stays writable until `seal`. Raises ContainerError."""
    try:
        if mount.bind:
            bind(root, mount, os.path.join(bundle_path, mount.source))
        else:
            mount_new(root, mount)
        for change in mount.propagation:
            reopen_and_mount(root, mount.target, change)
        if mount.recursive:
            set_recursively(root, mount)
    except OSError as error:
        where = f"{mount.source} to {mount.target} ({mount.fstype})"
        raise ContainerError(f"error mounting {where}: {reason(error)}") from None


def target_fd(root: int, target: str, *, directory: bool) -> int:
    """Open, or make, a mount's target, and refuse what would hide a part of /proc."""
    fd = paths.make_inside(root, target, directory=directory)
    found = paths.where(root, fd)
    if found.startswith("/proc/") and found not in PROC_FILES:
        os.close(fd)
        raise ContainerError(f"mount {target}: {found} is inside /proc")
    return fd


def mount_new(root: int, mount: Mount) -> None:
    """Mount a new instance of a file system; a tmpfs takes over the mode of what it covers."""
    flags, data = mount.flags, mount.data
    if mount.fstype == "tmpfs":
        flags &= ~kernel.MS_RDONLY
        mode = existing_mode(root, mount.target)
        if mode is not None and "mode=" not in data:
            data = f"{data},mode={mode:o}".lstrip(",")
    fd = target_fd(root, mount.target, directory=True)
    kernel.mount(mount.source, paths.proc_path(fd), mount.fstype, flags, data or None)
    if mount.copy_up:
        from startkit.runtime import mountattr

        covering = paths.open_inside(root, mount.target)
        mountattr.copy_up(fd, covering)
        os.close(covering)
    os.close(fd)


def set_recursively(root: int, mount: Mount) -> None:
    """Set what the mount's `r...` options ask for, on it and on those below it."""
    from startkit.runtime import mountattr

    fd = paths.open_inside(root, mount.target)
    mountattr.set_recursively(fd, mount.recursive)
    os.close(fd)


def existing_mode(root: int, target: str) -> int | None:
    """Return the permission bits of a directory of the image, None where there is none."""
    try:
        fd = paths.open_inside(root, target)
    except OSError:
        return None
    mode = os.fstat(fd).st_mode & 0o7777
    os.close(fd)
    return mode


def bind(root: int, mount: Mount, source: str) -> None:
    """Bind `source` on the target, then set what a bind ignores at first: ro, nosuid and so on."""
    directory = os.path.isdir(source if mount.tree == -1 else mount.tree)
    fd = target_fd(root, mount.target, directory=directory)
    if mount.tree == -1:
        recursive = mount.flags & kernel.MS_REC
        kernel.mount(source, paths.proc_path(fd), None, kernel.MS_BIND | recursive)
    else:
        result = kernel.libc.syscall(SYS_MOVE_MOUNT, mount.tree, b"", fd, b"", MOVE_FDS)
        kernel.check(result, "move_mount", source)
        os.close(mount.tree)
    os.close(fd)
    wanted = mount.flags & ~(kernel.MS_BIND | kernel.MS_REC)
    if wanted:
        remount(root, mount.target, wanted)


def open_source(mount: Mount, bundle_path: str) -> None:
    """Take a bind's source as a mount of its own that belongs nowhere yet.

    The runtime does it for an init in a user namespace, whose root may not search the way
    to the source. Raises ContainerError. Source: open_tree(2), move_mount(2).
    """
    source = os.path.join(bundle_path, mount.source)
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if mount.flags & kernel.MS_REC else 0)
    try:
        fd = kernel.libc.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(source), flags)
        mount.tree = kernel.check(fd, "open_tree", source)
    except OSError as error:
        where = f"{mount.source} to {mount.target} (bind)"
        raise ContainerError(f"error mounting {where}: {reason(error)}") from None


def reopen_and_mount(root: int, target: str, flags: int) -> None:
    """Change a mount that is there: `flags` says what, such as MS_PRIVATE | MS_REC."""
    fd = paths.open_inside(root, target)
    kernel.mount(None, paths.proc_path(fd), None, flags)
    os.close(fd)


def remount(root: int, target: str, flags: int) -> None:
    """Give a mount new flags of its own; those that came locked from another namespace stay."""
    fd = paths.open_inside(root, target)
    path, flags = paths.proc_path(fd), flags | kernel.MS_BIND | kernel.MS_REMOUNT
    try:
        kernel.mount(None, path, None, flags)
    except PermissionError:
        kernel.mount(None, path, None, flags | mount_flags(fd))
    finally:
        os.close(fd)


def mount_flags(fd: int) -> int:
    """Return the MS_* flags that the mount below `fd` has. Source: statvfs(3), f_flag."""
    found = os.fstatvfs(fd).f_flag
    same = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    flags = found & (same | kernel.MS_NOATIME | kernel.MS_NODIRATIME)
    return flags | (kernel.MS_RELATIME if found & 4096 else 0)


def seal(root: int, mount: Mount) -> None:
    """Make a tmpfs read-only that was asked to be, now that everything in it has been made."""
    if mount.fstype == "tmpfs" and mount.flags & kernel.MS_RDONLY:
        remount(root, mount.target, mount.flags)
