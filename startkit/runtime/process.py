"""The container's process: from root's interpreter to the user's program.

Rule: everything here runs in init, after the rootfs has been entered; no module may be
imported any more and no path but the container's own is opened.

Source: OCI config.md Process, credentials(7), execve(2).
"""

from __future__ import annotations

import ctypes
import os
import stat

from startkit import kernel
from startkit.runtime import caps, signals, trampoline
from startkit.runtime.text import ContainerError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from startkit.runtime.enter import Visit
    from startkit.runtime.init import Init

SYS_CLOSE_RANGE, CLOSE_RANGE_CLOEXEC = 436, 4
SYS_GETCWD = {"x86_64": 79, "aarch64": 17}[os.uname().machine]
START_ERROR = "unable to start container process: "
RLIMITS = ("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
           "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME")  # fmt: skip


class Identity:
    """Who the process is to be: ids, groups, umask and capabilities, read before root is left."""

    def __init__(self, process: dict[str, Any], sets: caps.Sets, held: int) -> None:
        user = process.get("user") or {}
        self.uid: int = user.get("uid", 0)
        self.gid: int = user.get("gid", 0)
        self.groups: list[int] = user.get("additionalGids") or []
        self.umask: int = user.get("umask", 0o022)
        self.sets, self.held = sets, held


def set_rlimits(wanted: list[dict[str, Any]]) -> None:
    """Set resource limits. Raises ContainerError naming the one that the kernel refuses."""
    if not wanted:
        return
    import resource

    for index, entry in enumerate(wanted):
        name, path = entry["type"], f"config.json /process/rlimits/{index}"
        if name.removeprefix("RLIMIT_") not in RLIMITS or not name.startswith("RLIMIT_"):
            raise ContainerError(f"{path}/type: {name} is not a limit that Linux has")
        number = RLIMITS.index(name.removeprefix("RLIMIT_"))
        soft, hard = (signed(entry[key]) for key in ("soft", "hard"))
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            now = resource.getrlimit(number)[1]
            raise ContainerError(
                f"{path}: setting {name} to {entry['soft']}:{entry['hard']}: {error}"
                f" (the hard limit is {now}; raising it takes CAP_SYS_RESOURCE)"
            ) from None


def signed(value: int) -> int:
    """Return an unsigned 64-bit limit as `resource` takes it: all ones are -1, no limit."""
    return value - 2**64 if value >= 2**63 else value


def home_of(uid: int) -> str:
    """Return the home directory that the container's own passwd file gives a user, or `/`."""
    try:
        fd = open_plain("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return "/"
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "/"
        for line in file.read(1 << 20).split(b"\n"):
            fields = line.split(b":")
            if len(fields) > 5 and fields[2] == b"%d" % uid and fields[5]:
                return os.fsdecode(fields[5])
    return "/"


def open_plain(path: str, flags: int) -> int:
    """Open a path of the container's, but through no link of /proc: it may lead to what we hold."""
    return kernel.openat2(kernel.AT_FDCWD, path, flags, 0, kernel.RESOLVE_NO_MAGICLINKS)


def become(identity: Identity, *, no_new_privileges: bool) -> None:
    """Give up root for the config's user, groups and capabilities."""
    caps.limit(identity.sets, identity.held)
    os.umask(identity.umask)
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    # setuid(2) sets this to fs.suid_dumpable, which need not be 0.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    caps.apply(identity.sets)
    if no_new_privileges:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def own_stdio(uid: int) -> None:
    """Give the stdio descriptors to the user, so that /dev/stdout can be opened anew.

    Left alone: the group, a terminal's is `tty`; the null device, which is everybody's; and
    what refuses to change owner.
    """
    for fd in (0, 1, 2):
        try:
            found = os.fstat(fd)
            if found.st_uid != uid and found.st_rdev != os.makedev(1, 3):
                os.fchown(fd, uid, -1)
        except OSError:
            continue


def enter_cwd(path: str, *, last: bool = True) -> bool:
    """Enter the working directory, and make sure that it lies inside the root.

    Return False where permission is denied and it is not the `last` try: root may enter what
    the user may not, and the user what root may not without its capabilities.
    Source: CVE-2024-21626; getcwd(2): what cannot be reached from the root has no `/` in front.
    """
    words = f'{START_ERROR}chdir to cwd ("{path}") set in config.json failed: '
    try:
        os.fchdir(open_plain(path, os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        if isinstance(error, PermissionError) and not last:
            return False
        raise ContainerError(words + (error.strerror or "").lower()) from None
    # Not os.getcwd: the C library would search a directory that is unreachable for its name.
    found = ctypes.create_string_buffer(4096)
    kernel.check(kernel.libc.syscall(SYS_GETCWD, found, 4096), "getcwd")
    if not found.value.startswith(b"/"):
        raise ContainerError(words + "it lies outside of the container")
    return True


def find_program(name: str, environment: dict[str, str]) -> str:
    """Return the path to execute, found as a shell would in the container's own PATH.

    Raises ContainerError in the words that engines look for.
    """
    if "/" in name:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            words = (error.strerror or "").lower()
            raise ContainerError(f'{START_ERROR}exec: "{name}": stat {name}: {words}') from None
        if stat.S_ISDIR(mode) or not mode & 0o111:
            raise ContainerError(f'{START_ERROR}exec: "{name}": permission denied')
        return name
    for directory in environment.get("PATH", "").split(":"):
        path = os.path.join(directory or ".", name)
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if name and not stat.S_ISDIR(mode) and mode & 0o111:
            return path
    raise ContainerError(f'{START_ERROR}exec: "{name}": executable file not found in $PATH')


def execute(init: Init | Visit) -> None:
    """Become the user's program, or tell on `report` why not. Raises ContainerError."""
    signals.restore_defaults()
    words = [init.program, *init.process["args"]]
    try:
        trampoline.jump(init.hop, init.report, words, init.environment)
    except OSError as error:
        raise ContainerError(
            f"{START_ERROR}{reason(error)} (a seccomp profile without noNewPrivileges"
            " has to allow this call)"
        ) from None


def close_on_exec(first: int) -> None:
    """Let no descriptor from `first` on reach the user's program."""
    libc = kernel.libc
    result = libc.syscall(SYS_CLOSE_RANGE, first, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
    kernel.check(result, "close_range")
