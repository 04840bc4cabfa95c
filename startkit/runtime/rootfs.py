"""From the bundle's rootfs to the container's `/`.

Rule: everything that needs a path of the host or a /proc that can be trusted happens
before `enter`; afterwards the runtime touches no path but `/` and those it has open.

Source: pivot_root(2), mount_namespaces(7), OCI config-linux.md Rootfs Mount Propagation.
"""

from __future__ import annotations

import os
import stat
from _codecs import escape_decode

from startkit import kernel
from startkit.runtime import devices, mounts, paths
from startkit.runtime.text import ContainerError

SLAVE = kernel.MS_SLAVE | kernel.MS_REC
PRIVATE = kernel.MS_PRIVATE | kernel.MS_REC


def open_rootfs(path: str, propagation: str) -> int:
    """Cut the mount namespace off from the host's, make the rootfs a mount, open it.

    By default the host's mounts still come in and none of ours goes out (rslave).
    """
    kernel.mount(None, "/", None, mounts.PROPAGATION[propagation] if propagation else SLAVE)
    make_parent_private(path)
    kernel.mount(path, path, None, kernel.MS_BIND | kernel.MS_REC)
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def make_parent_private(path: str) -> None:
    """Make the mount that holds the rootfs private: pivot_root(2) refuses a shared one.

    A path that is no mount point answers EINVAL, then its parent is tried.
    """
    while True:
        try:
            kernel.mount(None, path, None, kernel.MS_PRIVATE)
        except OSError as error:
            if error.errno != 22 or path == "/":
                raise
            path = os.path.dirname(path)
        else:
            return


def mask(root: int, found: list[mounts.Mount], targets: list[str]) -> None:
    """Cover each path that exists: a file with /dev/null, a directory with an empty tmpfs."""
    null = -1
    for target in targets:
        fd = mounts.open_covered(root, found, target)
        if fd is None:
            continue
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            kernel.mount("tmpfs", paths.proc_path(fd), "tmpfs", kernel.MS_RDONLY)
        else:
            null = devices.open_null(root) if null == -1 else null
            kernel.mount(paths.proc_path(null), paths.proc_path(fd), None, kernel.MS_BIND)
        os.close(fd)


def make_read_only(root: int, found: list[mounts.Mount], targets: list[str]) -> None:
    """Bind each path that exists on itself, read-only, keeping the flags it has."""
    for target in targets:
        fd = mounts.open_covered(root, found, target)
        if fd is None:
            continue
        tree = kernel.open_tree(fd, recursive=True)
        kernel.move_mount(tree, fd)
        mounts.remount(tree, mounts.mount_flags(fd) | kernel.MS_RDONLY)
        os.close(tree)
        os.close(fd)


def enter(root: int, *, pivot: bool = True) -> None:
    """Make the rootfs `/` and let go of the host's mounts."""
    os.fchdir(root)
    if pivot:
        old = os.open("/", os.O_PATH | os.O_DIRECTORY)
        # The old root is stacked on the new one: no directory for it is needed.
        kernel.pivot_root(".", ".")
        os.fchdir(old)
        kernel.mount(None, ".", None, SLAVE)  # so that unmounting does not reach the host
        kernel.umount(".", kernel.MNT_DETACH)
        os.close(old)
    else:
        hide_kernel_mounts(os.readlink(paths.proc_path(root)))
        kernel.mount(".", "/", None, kernel.MS_MOVE)
        os.chroot(".")
    os.chdir("/")


def hide_kernel_mounts(rootfs: str) -> None:
    """Take away the host's proc and sysfs, which stay mounted below a root that is only moved.

    The kernel lets a user namespace mount either anew as long as it finds one that nothing
    masks. Where they cannot be unmounted, because a user namespace holds them, they are covered.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        found = [line.partition(b" - ") for line in file]
    for before, _, after in found:
        target = os.fsdecode(escape_decode(before.split(b" ")[4])[0])
        if after.startswith((b"proc ", b"sysfs ")) and not target.startswith(rootfs + "/"):
            try:
                kernel.mount(None, target, None, SLAVE)  # so that the host keeps its own
                kernel.umount(target, kernel.MNT_DETACH)
            except FileNotFoundError:
                continue  # it went with the one that it was mounted on
            except OSError:
                kernel.mount("tmpfs", target, "tmpfs", kernel.MS_RDONLY)


def finish_root(propagation: str, *, readonly: bool) -> None:
    """Set the propagation and the read-only flag that the config asks for on the new `/`."""
    if propagation:
        kernel.mount(None, "/", None, mounts.PROPAGATION[propagation])
    if readonly:
        fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
        flags = mounts.mount_flags(fd) | kernel.MS_RDONLY
        kernel.mount(None, "/", None, kernel.MS_BIND | kernel.MS_REMOUNT | flags)
        os.close(fd)


def write_sysctl(name: str, value: str) -> None:
    """Set a kernel parameter of our own namespaces, through the host's /proc."""
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise ContainerError(f"sysctl {name}: {error.strerror}") from None
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise ContainerError(f"sysctl {name}={value}: {error.strerror}") from None
    finally:
        os.close(fd)


def make_cwd(root: int, path: str) -> None:
    """Make the working directory where the image has none."""
    os.close(paths.make_inside(root, path, directory=True))
