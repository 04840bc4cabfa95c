"""One container, as containerd sees it: a directory, two pipes, a pid."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from startkit.containerd import shims, state

if TYPE_CHECKING:
    import subprocess

    from startkit.containerd.state import State, StateDirectory

CLOSE_STDIN, RESIZE = 0, 1
UNKNOWN_STATUS, KILLED = 255, 137


class Container:
    """A container that is being started, runs, or is being cleaned up."""

    def __init__(self, directory: StateDirectory, wanted: State) -> None:
        self.directory, self.state = directory, wanted
        self.id = directory.id
        self.shim: subprocess.Popen[bytes] | None = None  # None after a restart
        self.exit = self.control = -1
        self.program = state.Program()
        self.announced = False  # whether its start-container event is stored

    @property
    def pid(self) -> int:
        """Init's pid; 0 before the user's program runs, when the shim writes `starttime`."""
        started = self.directory.number("starttime") is not None
        return self.directory.number("pid") or 0 if started else 0

    @property
    def status(self) -> str:
        """What State tells: a stopped container's last output is still on its way."""
        return "running" if self.directory.number("exitStatus") is None else "stopped"

    def words(self) -> tuple[str, str, str]:
        """Return the shim's arguments."""
        return self.id, self.state.bundle, self.state.runtime

    def load_program(self) -> None:
        """Read the bundle's config.json. Raises OSError, msgspec.MsgspecError."""
        self.program = state.read_program(self.state.bundle)

    def open_pipes(self) -> None:
        """Open `exit` to read, and `control` both ways so that it keeps what nobody reads yet."""
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self.exit = os.open(self.directory.init / "exit", os.O_RDONLY | flags)
        self.control = os.open(self.directory.init / "control", os.O_RDWR | flags)

    def touch_exit(self) -> None:
        """Open the write end for a moment: without a shim `exit` then shows end of file.

        A FIFO that never had a writer since it was opened has not ended for poll(2).
        """
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        os.close(os.open(self.directory.init / "exit", flags))

    def close_pipes(self) -> None:
        """Close both."""
        for fd in (self.exit, self.control):
            if fd >= 0:
                os.close(fd)
        self.exit = self.control = -1

    def order(self, kind: int, width: int = 0, height: int = 0) -> None:
        """Write one line to `control`."""
        os.write(self.control, f"{kind} {width} {height}\n".encode())

    def signal(self, number: int) -> None:
        """Send a signal to init, never to another process that got its pid.

        Raises ProcessLookupError where init is gone, OSError for a bad number.
        """
        pid = self.pid
        if not pid:
            raise ProcessLookupError(f"container {self.id} has no process")
        fd = os.pidfd_open(pid)
        try:
            if start_time(pid) != self.directory.number("starttime"):
                raise ProcessLookupError(f"process {pid} is not container {self.id}'s any more")
            signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)

    async def ended(self) -> int:
        """Return the exit status, after a shim's end; what a killed shim left is cleaned up.

        The status of a killed shim's init is 137, or 255 where init was gone already.
        """
        if self.shim:
            await shims.reap(self.shim)
        status = self.directory.number("exitStatus")
        if status is None:
            status, pid = UNKNOWN_STATUS, self.pid
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
                status = KILLED
            self.directory.write_number("exitStatus", status)
            await shims.clean_up(self.directory.init, *self.words())  # lets a paused one die, too
            if pid:
                await shims.death(pid)
        elif self.shim is None or self.shim.returncode:  # it may not have come to its end
            await shims.clean_up(self.directory.init, *self.words())
        return status

    def forget(self) -> None:
        """Close the pipes and remove the state directory."""
        self.close_pipes()
        self.directory.remove()


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot. Source: proc(5), stat field 22.

    Raises ProcessLookupError where there is none, or only its zombie.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except FileNotFoundError:
        fields = [b"X"]
    if fields[0] in b"ZX":
        raise ProcessLookupError(f"no process {pid}")
    return int(fields[19])


def found(directory: StateDirectory) -> Container:
    """Return the container of a directory that an earlier containerd left.

    Raises OSError or msgspec.MsgspecError where it is not whole.
    """
    container = Container(directory, directory.read())
    with suppress(OSError, msgspec.MsgspecError):
        container.load_program()
    container.open_pipes()
    container.touch_exit()
    return container
