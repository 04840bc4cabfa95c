"""Processes, as /proc shows them from outside.

Rule: whatever /proc refuses (a process that ended, another user's) is an empty value
or None, never an exception: what is missing is said one floor up, in `collect`.

Source: proc(5).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
from typing import TYPE_CHECKING

from startkit import kernel
from startkit.observe.evidence import Mount, Process

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACES = ("mnt", "net", "uts", "pid", "ipc", "cgroup", "user")


def read(path: str, limit: int = 1 << 20) -> str:
    """Return the text of a /proc file, or "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def link(path: str) -> str:
    """Return what a symlink of /proc says, or ""."""
    try:
        return printable(os.readlink(path))
    except OSError:
        return ""


def printable(name: str) -> str:
    """Return a file's name as text that can be written down, whatever bytes it has."""
    return os.fsencode(name).decode(errors="replace")


def words(path: str) -> list[str]:
    """Return the NUL-separated words of a file such as cmdline."""
    # a process that set its title pads the rest of the old one with NULs
    text = read(path).rstrip("\0")
    return text.split("\0") if text else []


def process(pid: int) -> Process | None:
    """Return what is known of a process, or None when there is no such process."""
    stat = read(f"/proc/{pid}/stat")
    if not stat:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        comm=name,
        argv=words(f"/proc/{pid}/cmdline"),
        cwd=link(f"/proc/{pid}/cwd"),
        exe=link(f"/proc/{pid}/exe"),
        pgid=int(fields[2]),
        sid=int(fields[3]),
        namespaces=namespaces(pid),
        status=status(pid),
        cgroups=read(f"/proc/{pid}/cgroup").splitlines(),
        limits=limits(pid),
        oom_score_adj=oom_score_adj(pid),
    )


def namespaces(pid: int | str) -> dict[str, str]:
    """Return the namespaces of a process: `mnt` -> `mnt:[4026531841]`."""
    found = {name: link(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}
    return {name: text for name, text in found.items() if text}


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status; the words of a value stand one space apart."""
    lines = (line.partition(":") for line in read(f"/proc/{pid}/status").splitlines())
    return {key: " ".join(value.split()) for key, _, value in lines}


def limits(pid: int) -> dict[str, tuple[str, str]]:
    """Return /proc/PID/limits: `Max open files` -> (soft, hard)."""
    rows = (re.split(r"\s{2,}", line) for line in read(f"/proc/{pid}/limits").splitlines()[1:])
    return {row[0]: (row[1], row[2]) for row in rows if len(row) > 2}


def oom_score_adj(pid: int) -> int | None:
    """Return /proc/PID/oom_score_adj."""
    text = read(f"/proc/{pid}/oom_score_adj").strip()
    return int(text) if text else None


def ancestors(first: Process) -> list[Process]:
    """Return the parents of a process, nearest first, up to pid 1 or what we cannot see."""
    found: list[Process] = []
    pid = first.ppid
    while pid and len(found) < 64 and (parent := process(pid)):
        found.append(parent)
        pid = parent.ppid
    return found


def children(pid: int) -> list[int]:
    """Return the pids of the children of all threads of a process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    texts = (read(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    return [int(word) for text in texts for word in text.split()]


def hostname(pid: int) -> str | None:
    """Return the host name in a process's uts namespace, seen from a thread that enters it.

    Source: setns(2); a uts namespace may be entered by one thread alone.
    """
    found: list[str] = []

    def enter() -> None:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/ns/uts", "rb") as namespace:
                kernel.setns(namespace.fileno(), kernel.CLONE_NEWUTS)
            found.append(socket.gethostname())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0] if found else None


def option(argv: list[str], name: str) -> str | None:
    """Return the value of a command line's option, written `NAME VALUE` or `NAME=VALUE`."""
    for place, word in enumerate(argv):
        key, equals, value = word.partition("=")
        if key == name:
            return value if equals else "".join(argv[place + 1 : place + 2])
    return None


def pids() -> Iterator[int]:
    """Yield every pid there is."""
    yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def naming(text: str) -> list[int]:
    """Return the pids of processes with `text` in an argument, but for ourselves and our parent."""
    own = {os.getpid(), os.getppid()}
    return [
        pid for pid in pids() if pid not in own and text in "\0".join(words(f"/proc/{pid}/cmdline"))
    ]


def listener(path: str) -> int | None:
    """Return the pid that listens on a unix socket, as the kernel noted it at listen(2).

    Source: unix(7), SO_PEERCRED.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        try:
            sock.connect(path)
            peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            return None
    return int(struct.unpack("3i", peer)[0]) or None


def unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo: space, tab, newline, backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def parse_mount(line: str) -> Mount:
    """Return one line of mountinfo. Raises ValueError when it is none."""
    left, _, right = line.partition(" - ")
    fields, (fstype, source, super_options) = left.split(" "), right.split(" ", 2)
    return Mount(
        root=unescape(fields[3]),
        target=unescape(fields[4]),
        fstype=fstype,
        source=unescape(source),
        options=fields[5].split(","),
        super_options=[unescape(word) for word in super_options.split(",")],
        propagation=" ".join(word.split(":")[0] for word in fields[6:]),
    )


def mounts(pid: int | str = "self") -> list[Mount]:
    """Return the mounts that a process sees, in the kernel's order."""
    found = []
    for line in read(f"/proc/{pid}/mountinfo", 1 << 24).splitlines():
        with contextlib.suppress(ValueError, IndexError):
            found.append(parse_mount(line))
    return found
