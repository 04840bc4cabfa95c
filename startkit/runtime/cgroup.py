"""Control groups: where the container's are, making, joining, emptying, removing them.

Rule: one code path for v1, hybrid and v2. The host is a list of hierarchies as mountinfo
shows them; the container has one directory in each, at `cgroupsPath`. What is written into
their files is `resources.py`'s business.

Source: cgroups(7), Documentation/admin-guide/cgroup-v{1,2}, OCI config-linux.md Control groups.
"""

from __future__ import annotations

import os
import time

from startkit import kernel
from startkit.runtime import mounts, paths, resources, state
from startkit.runtime.text import ContainerError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from startkit.runtime.mounts import Mount

UNIFIED = ""  # the name of the v2 hierarchy, as in /proc/PID/cgroup
ROOT = "/sys/fs/cgroup"


class Cgroups:
    """The container's directories, one in each hierarchy, by the hierarchy's name.

    A name is as in /proc/PID/cgroup: `memory`, `cpu,cpuacct`, `name=systemd`, "" for v2.
    `made` lists what this process created, parents first.
    """

    def __init__(self, directories: dict[str, str], mountpoints: dict[str, str]) -> None:
        self.directories = directories
        self.mountpoints = mountpoints
        self.made: list[str] = []

    @property
    def pure_v2(self) -> bool:
        """Whether the host has the unified hierarchy only."""
        return list(self.directories) == [UNIFIED]


def read_hierarchies() -> dict[str, str]:
    """Return the mount point of each hierarchy that this mount namespace shows, by name."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fstype, _, options = after.split(" ", 2)
            if not fstype.startswith("cgroup"):
                continue
            mountpoint = before.split(" ")[4]
            name = UNIFIED if fstype == "cgroup2" else v1_name(options.strip().split(","))
            if mountpoint == ROOT:  # a unified hierarchy hides what was mounted before it
                found = {name: mountpoint}
            elif mountpoint.startswith(ROOT):
                found[name] = mountpoint
    return found


def v1_name(options: list[str]) -> str:
    """Return the controllers among a v1 mount's options, or its `name=`."""
    other = {"rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode"}
    words = [o for o in options if o not in other and not o.startswith("release_agent")]
    return ",".join(words)


def find_cgroups(cgroups_path: str, container_id: str) -> Cgroups:
    """Return where the container's cgroups are to be; nothing is made yet.

    An absolute `cgroupsPath` starts at the hierarchy's root, any other at the runtime's
    own cgroup. `..` never leads out of either. Raises ContainerError for a path that is all of
    one: what is written and killed there would be everybody's.
    """
    inner = paths.clean(cgroups_path or container_id)
    if inner == "/":
        raise ContainerError("config.json /linux/cgroupsPath: the root is everybody's cgroup")
    own = {} if cgroups_path.startswith("/") else own_cgroups()
    mountpoints = read_hierarchies()
    directories = {
        name: mountpoint + own.get(name, "/").rstrip("/") + inner
        for name, mountpoint in mountpoints.items()
    }
    return Cgroups(directories, mountpoints)


def check_use(cgroups: Cgroups, *, own_pids: bool) -> str:
    """Return a warning where processes are in the directories already, or "".

    Raises ContainerError where `delete` would kill those as the container's, for want of a pid
    namespace that shows which are, and where a frozen cgroup would stop init before it is ready.
    """
    directories = [one for one in cgroups.directories.values() if os.path.isdir(one)]
    if state.is_frozen(directories):
        raise ContainerError("container's cgroup unexpectedly frozen")
    found = {pid for directory in directories for pid in processes([directory])}
    if found and not own_pids:
        raise ContainerError(f"container's cgroup {directories[0]} is in use")
    return f"container's cgroup is not empty: {len(found)} process(es) found" if found else ""


def own_cgroups() -> dict[str, str]:
    """Return this process's cgroup in each hierarchy."""
    found = {}
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, name, path = line.rstrip("\n").split(":", 2)
            found[name] = path
    return found


def by_hierarchy(directories: list[str]) -> dict[str, str]:
    """Return the directories of a container's record by the name of their hierarchy."""
    mounted = read_hierarchies().items()
    return {name: d for name, at in mounted for d in directories if d.startswith(at + "/")}


def make(cgroups: Cgroups, wanted: dict[str, Any]) -> None:
    """Make the directories and write the limits. Raises ContainerError, leaving none behind.

    A directory that exists already is used as it is.
    """
    try:
        for name, directory in cgroups.directories.items():
            make_directory(cgroups, name, directory)
        resources.apply(cgroups.directories, wanted)
    except OSError as error:
        remove(cgroups.made)
        raise ContainerError(f"cgroup {reason(error)}") from None
    except BaseException:
        remove(cgroups.made)
        raise


def make_directory(cgroups: Cgroups, name: str, directory: str) -> None:
    """Make one directory with its parents, each ready for children."""
    try:
        os.mkdir(directory, 0o755)
    except FileNotFoundError:
        make_directory(cgroups, name, os.path.dirname(directory))
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return
    cgroups.made.append(directory)
    if "cpuset" in name.split(","):
        copy_cpuset(directory)
    elif name == UNIFIED:
        enable_controllers(os.path.dirname(directory))


def copy_cpuset(directory: str) -> None:
    """Give a new v1 cpuset its parent's processors and memory nodes: empty, it takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{name}").strip():
            write(f"{directory}/{name}", read(f"{os.path.dirname(directory)}/{name}"))


def enable_controllers(directory: str) -> None:
    """Hand all controllers that a v2 directory has on to its children.

    One that refuses (its domain is busy) is passed over; a limit that needs it then
    finds no file, and says so.
    """
    here = set(read(f"{directory}/cgroup.controllers").split())
    for controller in here - set(read(f"{directory}/cgroup.subtree_control").split()):
        try:
            write(f"{directory}/cgroup.subtree_control", "+" + controller)
        except OSError:
            continue


def read(path: str) -> str:
    """Return a small file's text."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Write to an existing file, at once. Raises OSError naming the path."""
    resources.write_setting(path, text)


def join(cgroups: Cgroups, *, unified: bool) -> None:
    """Move the calling process, which has one thread, into its v1 cgroups.

    `0` to `tasks` moves the caller alone, without the kernel's lock over all thread groups,
    which `cgroup.procs` takes and waits an RCU period for (tens of milliseconds over
    ten hierarchies). `unified`: into the v2 one too, when it was not cloned into it.
    """
    for name, directory in cgroups.directories.items():
        if name != UNIFIED:
            write(f"{directory}/tasks", "0")
        elif unified:
            write(f"{directory}/cgroup.procs", "0")


def open_unified(cgroups: Cgroups) -> int | None:
    """Open the v2 directory for clone3(2), or return None on a host without one."""
    directory = cgroups.directories.get(UNIFIED)
    return None if directory is None else os.open(directory, os.O_RDONLY | os.O_DIRECTORY)


def processes(directories: list[str]) -> list[int]:
    """Return the pids in the directories and below them, sorted."""
    found: set[int] = set()
    for top in directories[:1]:
        for directory, _, _ in os.walk(top):
            try:
                found.update(int(pid) for pid in read(f"{directory}/cgroup.procs").split())
            except OSError:
                continue  # removed at this moment
    return sorted(found)


def signal_all(directories: list[str], number: int) -> None:
    """Signal every process of the container; with SIGKILL until none is left (at most 5 s)."""
    deadline = time.monotonic() + 5
    while True:
        pids = processes(directories)
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        if number != 9 or not pids or time.monotonic() > deadline:
            return
        time.sleep(0.005)


def remove(directories: list[str]) -> None:
    """Remove directories, the last one first, with the children that the container made.

    The kernel answers EBUSY while the last process is on its way out: at most 2 s.
    """
    deadline = time.monotonic() + 2
    for directory in reversed(directories):
        while True:
            try:
                remove_tree(directory)
            except OSError as error:
                if error.errno != 16 or time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
            else:
                break


def remove_tree(directory: str) -> None:
    """Remove one cgroup; only when that fails is it looked into for children."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return
    except OSError:
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
        os.rmdir(directory)


def mount_inside(root: int, mount: Mount, cgroups: Cgroups, *, own_namespace: bool) -> None:
    """Show the container its cgroups: v2 as one file system, v1 as a tmpfs of hierarchies."""
    if cgroups.pure_v2:
        mount.tree = mounts.new_tree("cgroup2", "cgroup", mount.flags, [])
        mounts.put(root, mount.tree, mount.target)
        return
    writable = mount.flags & ~kernel.MS_RDONLY
    mount.tree = mounts.new_tree("tmpfs", "tmpfs", writable, ["mode=755"])
    mounts.put(root, mount.tree, mount.target)
    for name, directory in cgroups.directories.items():
        if name != UNIFIED:
            label = os.path.basename(cgroups.mountpoints[name])
            show_v1(mount, label, name if own_namespace else directory)
            for part in name.split(","):  # cpu -> cpu,cpuacct
                if part != label and "=" not in part:
                    os.symlink(label, part, dir_fd=mount.tree)
    if mount.flags & kernel.MS_RDONLY:
        mounts.remount(mount.tree, mount.flags)


def show_v1(mount: Mount, label: str, source: str) -> None:
    """Show one v1 hierarchy: bind the container's directory, or mount its controllers anew.

    The second only in a cgroup namespace: there a new mount starts at the container's own.
    """
    if source.startswith("/"):
        tree = kernel.open_tree(source, recursive=True)
    else:
        tree = mounts.new_tree("cgroup", "cgroup", mount.flags, source.split(","))
    mounts.put(mount.tree, tree, label)
    if source.startswith("/"):
        mounts.remount(tree, mount.flags)
    os.close(tree)
