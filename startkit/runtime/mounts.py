"""The mounts of config.json, one after the other, into the rootfs.

Rule: a mount is made before it has a place and is then put on a descriptor from `paths.py`.
Its own descriptor, `Mount.tree`, is what all changes go to: no target is ever resolved
twice, so nobody who renames directories meanwhile can lead a change elsewhere.

Source: OCI config.md Mounts, mount(2), fsmount(2), move_mount(2), mount_namespaces(7).
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
# What belongs to a file system and not to a mount of it goes to the kernel as a word.
WORDS = {kernel.MS_RDONLY: "ro", kernel.MS_SYNCHRONOUS: "sync", kernel.MS_DIRSYNC: "dirsync",
         kernel.MS_MANDLOCK: "mand", kernel.MS_LAZYTIME: "lazytime"}  # fmt: skip
KERNELS_OWN = ("proc", "sysfs", "cgroup", "cgroup2")
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
        self.flags, self.propagation, self.data = parse_options(own)
        self.bind = bool(self.flags & kernel.MS_BIND) or entry.get("type") == "bind"
        self.fstype: str = "bind" if self.bind else entry.get("type") or ""
        self.tree = -1  # the mount itself, once there is one
        if self.bind:
            self.flags |= kernel.MS_BIND
        if self.bind and self.data:
            raise ContainerError(f"mount {self.target}: unknown option {self.data[0]} of a bind")
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
            bind(root, mount, bundle_path)
        else:
            mount_new(root, mount)
        for change in mount.propagation:
            kernel.mount(None, paths.proc_path(mount.tree), None, change)
        if mount.recursive:
            from startkit.runtime import mountattr

            mountattr.set_recursively(mount.tree, mount.recursive)
    except OSError as error:
        raise failed(mount, error) from None


def failed(mount: Mount, error: OSError) -> ContainerError:
    """Return the words for a mount that the kernel refuses."""
    where = f"{mount.source} to {mount.target} ({mount.fstype})"
    return ContainerError(f"error mounting {where}: {reason(error)}")


def target_fd(root: int, target: str, *, directory: bool) -> int:
    """Open, or make, a mount's target, and refuse what would hide a part of /proc."""
    fd = paths.make_inside(root, target, directory=directory)
    found = paths.where(root, fd)
    if found.startswith("/proc/") and found not in PROC_FILES:
        os.close(fd)
        raise ContainerError(f"mount {target}: {found} is inside /proc")
    return fd


def put(root: int, tree: int, target: str, *, directory: bool = True) -> None:
    """Give a mount its place, which is made where absent."""
    fd = target_fd(root, target, directory=directory)
    kernel.move_mount(tree, fd)
    os.close(fd)


def mount_new(root: int, mount: Mount) -> None:
    """Mount a new instance of a file system; a tmpfs takes over the mode of what it covers."""
    flags, words = mount.flags, mount.data
    if mount.fstype == "tmpfs":
        flags &= ~kernel.MS_RDONLY
        mode = existing_mode(root, mount.target)
        if mode is not None and not any(word.startswith("mode=") for word in words):
            words = [*words, f"mode={mode:o}"]
    fd = target_fd(root, mount.target, directory=True)
    if mount.fstype in KERNELS_OWN and paths.where(root, fd) != mount.target:
        raise ContainerError(f"mount {mount.target}: must be mounted on ordinary directory")
    if flags & kernel.MS_REMOUNT:  # what an entry before this one has mounted
        mount.tree, path = fd, paths.proc_path(fd)
        kernel.mount(mount.source, path, mount.fstype, flags, ",".join(words))
        return
    mount.tree = new_tree(mount.fstype, mount.source, flags, words)
    kernel.move_mount(mount.tree, fd)
    if mount.copy_up:
        from startkit.runtime import mountattr

        mountattr.copy_up(fd, mount.tree)
    os.close(fd)


def new_tree(fstype: str, source: str, flags: int, words: list[str]) -> int:
    """Make a file system as mount(2) would, from its MS_* flags and data, but nowhere yet."""
    atime = 0x20 if flags & kernel.MS_STRICTATIME else (flags & kernel.MS_NOATIME) >> 6
    attributes = flags & 15 | atime | (flags & kernel.MS_NODIRATIME) >> 4
    attributes |= (flags & kernel.MS_NOSYMFOLLOW) << 13
    own = [word for bit, word in WORDS.items() if flags & bit]
    given = [part for word in words for part in word.split(",") if part]
    return kernel.new_mount(fstype, [f"source={source}", *own, *given], attributes)


def existing_mode(root: int, target: str) -> int | None:
    """Return the permission bits of a directory of the image, None where there is none."""
    try:
        fd = paths.open_inside(root, target)
    except OSError:
        return None
    mode = os.fstat(fd).st_mode & 0o7777
    os.close(fd)
    return mode


def bind(root: int, mount: Mount, bundle_path: str) -> None:
    """Bind the source on the target, then set what a bind ignores at first: ro, nosuid and such."""
    foreign = mount.tree != -1
    if not foreign:
        open_source(mount, bundle_path)
    put(root, mount.tree, mount.target, directory=os.path.isdir(mount.tree))
    if foreign:  # it still is the peer of a mount of the host
        kernel.mount(None, paths.proc_path(mount.tree), None, kernel.MS_SLAVE | kernel.MS_REC)
    wanted = mount.flags & ~(kernel.MS_BIND | kernel.MS_REC)
    if wanted:
        remount(mount.tree, wanted)


def open_source(mount: Mount, bundle_path: str) -> None:
    """Take a bind's source as a mount that is nowhere yet. Raises ContainerError.

    The runtime does it for an init in a user namespace, whose root may not search the way.
    """
    source = os.path.join(bundle_path, mount.source)
    try:
        mount.tree = kernel.open_tree(source, recursive=bool(mount.flags & kernel.MS_REC))
    except OSError as error:
        raise failed(mount, error) from None


def bind_file(root: int, source: str | int, target: str) -> None:
    """Bind a file of ours, by path or descriptor, on one inside."""
    tree = kernel.open_tree(source)
    put(root, tree, target, directory=False)
    os.close(tree)


def remount(tree: int, flags: int) -> None:
    """Give a mount new flags of its own; those that came locked from another namespace stay."""
    path, flags = paths.proc_path(tree), flags | kernel.MS_BIND | kernel.MS_REMOUNT
    try:
        kernel.mount(None, path, None, flags)
    except PermissionError:
        kernel.mount(None, path, None, flags | mount_flags(tree))


def mount_flags(fd: int) -> int:
    """Return the MS_* flags that the mount below `fd` has. Source: statvfs(3), f_flag."""
    found = os.fstatvfs(fd).f_flag
    same = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    flags = found & (same | kernel.MS_NOATIME | kernel.MS_NODIRATIME)
    return flags | (kernel.MS_RELATIME if found & 4096 else 0)


def open_covered(root: int, mounts: list[Mount], path: str) -> int | None:
    """Open a path that is to be covered, None where there is none.

    What lies in a file system of the kernel's own is looked up from that mount itself: it is
    covered even when somebody moves the mount aside and puts a directory of theirs in its place.
    """
    path = paths.clean(path)
    above = (m for m in reversed(mounts) if f"{path}/".startswith(m.target.rstrip("/") + "/"))
    mount = next(above, None)
    if mount and mount.fstype in KERNELS_OWN:
        root, path = mount.tree, path[len(mount.target) :] or "/"
    try:
        return paths.open_inside(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def seal(mount: Mount) -> None:
    """Let go of a mount; make a tmpfs read-only that was asked to be, now that it is filled."""
    if mount.fstype == "tmpfs" and mount.flags & kernel.MS_RDONLY:
        remount(mount.tree, mount.flags)
    os.close(mount.tree)
