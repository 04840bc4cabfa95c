"""Broken OCI runtimes: our own behind a command line that breaks one thing.

`python broken_runtime.py NAME WORDS...` is called like a runtime. What it breaks is said by
the command, and by what is done instead of it or after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import time

REAL = os.path.join(os.path.dirname(sys.executable), "startkit-runc")
WORDS = sys.argv[2:]
ODD = '{"pid":true,"status":{},"id":"\\ud800","n":' + "9" * 4000 + "}"
NESTED = "[" * 200_000 + "]" * 200_000


def option(name):
    return WORDS[WORDS.index(name) + 1] if name in WORDS else ""


def real(*words):
    """Call the runtime; return its exit status."""
    return subprocess.run([REAL, *(words or WORDS)], check=False).returncode


def hang():
    time.sleep(1000)


def said(text):
    """Return what prints a text and is done."""
    return lambda: os.write(1, text.encode()) and 0


def chatter():
    while True:
        os.write(1, b"x" * (1 << 20))


def child():
    """Leave a process in a session of its own that keeps what it inherited open."""
    if os.fork() == 0:
        os.setsid()
        os.fork() and os._exit(0)
        os.execvp("sleep", ["sleep", "1000"])
    os.wait()


def stays():
    """Do it, and leave a process."""
    status = real()
    child()
    return status


def version_stays():
    child()
    return real()


def bomb():
    """Do it, and leave a process that forks without end in a pids cgroup of its own."""
    status = real()
    top = next(path for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if os.path.isdir(path))
    group = f"{top}/{os.environ['STARTKIT_BROKEN_PARENT'][1:]}-forks"
    os.mkdir(group)
    for name, text in (("pids.max", "40"), ("cgroup.procs", str(os.getpid()))):
        with open(f"{group}/{name}", "w") as file:
            file.write(text)
    if os.fork() == 0:
        os.setsid()
        while True:
            with contextlib.suppress(OSError):
                os.fork()
    time.sleep(0.2)
    os._exit(status)


def pid_file(text):
    """Do it, and write this into the pid file."""

    def do():
        status = real()
        with open(option("--pid-file"), "w") as file:
            file.write(str(text() if callable(text) else text))
        return status

    return do


def pid_fifo():
    status = real()
    os.unlink(option("--pid-file"))
    os.mkfifo(option("--pid-file"))
    return status


def told_pid(pid):
    """Tell a state with another pid."""

    def do():
        done = subprocess.run([REAL, *WORDS], capture_output=True, text=True, check=False)
        state = json.loads(done.stdout) if done.returncode == 0 else {}
        if state.get("pid"):
            state["pid"] = pid()
        os.write(1, json.dumps(state).encode())
        return done.returncode

    return do


def other_root():
    """Keep everything in a place of its own."""
    words = list(WORDS)
    if "--root" in words:
        words[words.index("--root") + 1] = "/run/startkit-broken"
    return real(*words)


def mounts():
    """Do it, and leave a directory of the host mounted in the bundle."""
    status = real()
    os.mkdir(f"{option('--bundle')}/host")
    host = os.environ["STARTKIT_BROKEN_HOST"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(host.encode(), f"{option('--bundle')}/host".encode(), None, 4096, None)
    return status


def console(send):
    """Do nothing but give the terminal's other end, or what is told instead of it."""

    def do():
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(option("--console-socket"))
            send(there)
        with open(option("--pid-file"), "w") as file:
            file.write(str(keeper()))
        return 0

    return do


def keeper():
    """Leave a process, return its pid."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.write(writer, str(os.getpid()).encode())
        os.execvp("sleep", ["sleep", "1000"])
    return int(os.read(reader, 20))


def waits(there):
    """Keep the connection open and send nothing."""
    os.set_inheritable(there.fileno(), True)


def zeroes(there):
    socket.send_fds(there, [b"x"], [os.open("/dev/zero", os.O_RDWR)])


def end_of_file(there):
    socket.send_fds(there, [b"x"], [os.open("/dev/null", os.O_RDWR)])


def nothing(there):
    there.send(b"x")


def suite():
    return os.getppid()


# name: (the command, what is done for it); "" is every command but --version
RUNTIMES = {
    "version-hangs": ("--version", hang),
    "version-is-endless": ("--version", chatter),
    "version-is-garbage": ("--version", said("\x00\x01")),
    "version-leaves-a-process": ("--version", version_stays),
    "create-hangs": ("create", hang),
    "start-hangs": ("start", hang),
    "state-hangs": ("state", hang),
    "kill-hangs": ("kill", hang),
    "delete-hangs": ("delete", hang),
    "create-is-endless": ("create", chatter),
    "state-is-endless": ("state", chatter),
    "state-is-garbage": ("state", said("\x00{")),
    "state-is-nested": ("state", said(NESTED)),
    "state-is-odd": ("state", said(ODD)),
    "state-tells-pid-1": ("state", told_pid(lambda: 1)),
    "state-tells-the-suites-pid": ("state", told_pid(suite)),
    "does-nothing": ("", lambda: 0),
    "pid-file-says-1": ("create", pid_file("1")),
    "pid-file-says-minus-1": ("create", pid_file("-1")),
    "pid-file-says-the-suites": ("create", pid_file(suite)),
    "pid-file-says-nothing": ("create", pid_file("")),
    "pid-file-is-a-fifo": ("create", pid_fifo),
    "leaves-a-process": ("create", stays),
    "forks": ("create", bomb),
    "ignores-root": ("", other_root),
    "delete-does-nothing": ("delete", lambda: 0),
    "leaves-a-mount": ("create", mounts),
    "console-waits": ("create", console(waits)),
    "console-is-zeroes": ("create", console(zeroes)),
    "console-is-at-its-end": ("create", console(end_of_file)),
    "console-is-nothing": ("create", console(nothing)),
}  # fmt: skip


def main():
    command, do = RUNTIMES[sys.argv[1]]
    if (command in WORDS) if command else ("--version" not in WORDS):
        return do()
    return real()


if __name__ == "__main__":
    sys.exit(main())
