"""`run`: create, start, and stay until the container ends.

Rule: the caller's terminal is put back as it was, whatever happens; the container's exit
code is ours, 128 and the number for a signal.

Source: runc-run(8).
"""

from __future__ import annotations

import os
import struct

from startkit.runtime import create, lifecycle, signals
from startkit.runtime.text import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORWARDED = (1, 2, 3, 10, 12, 15, 18)  # HUP INT QUIT USR1 USR2 TERM CONT
SIGWINCH = 28


def run(creation: create.Creation, *, detach: bool, keep: bool) -> int:
    """Run a container to its end; return its exit code, or 0 at once when detached."""
    receiver = None if detach or creation.console_socket else own_console(creation)
    container = create.create(creation)
    try:
        lifecycle.start(container, creation.log)
        if detach:
            return 0
        code = stay(creation.pid, receiver)
    except BaseException:
        lifecycle.delete(container, creation.log, force=True)
        raise
    if not keep:
        lifecycle.delete(container, creation.log, force=True)
    return code


def own_console(creation: create.Creation) -> Any:
    """Give the creation a console socket whose other end is ours, if it has a terminal."""
    if not creation.bundle.process.get("terminal"):
        return None
    import _socket

    creation.console, receiver = _socket.socketpair()
    return receiver


def stay(pid: int, receiver: Any) -> int:
    """Pass signals and terminal bytes on until init has ended; return its exit code."""
    for number in FORWARDED:
        signals.on(number, lambda number, _: send(pid, number))
    if receiver is not None:
        with RawTerminal(receive_master(receiver)) as terminal:
            terminal.copy()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def send(pid: int, number: int) -> None:
    """Send a signal to init, which we have not reaped yet."""
    os.kill(pid, number)


def receive_master(receiver: Any) -> int:
    """Take the pty's master off our console socket."""
    _, ancillary, _, _ = receiver.recvmsg(64, 64)
    if not ancillary:
        raise ContainerError("the container sent no terminal")
    master: int = struct.unpack("=i", ancillary[0][2][:4])[0]
    return master


class RawTerminal:
    """Our own stdin, raw for as long as the container's pty is connected to it."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.saved: Any = None

    def __enter__(self) -> RawTerminal:
        import termios

        if os.isatty(0):
            import tty

            self.saved = termios.tcgetattr(0)
            tty.setraw(0)
            self.resize()
            signals.on(SIGWINCH, lambda *_: self.resize())
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        if self.saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
        os.close(self.master)

    def resize(self) -> None:
        """Give the pty our terminal's size."""
        columns, lines = os.get_terminal_size(0)
        from startkit.runtime import console

        console.set_size(self.master, lines, columns)

    def copy(self) -> None:
        """Copy both ways until the container has closed the slave (EIO) and all is read.

        Input is taken only as fast as the pty takes it, or a program that writes while
        we write would wait for us and we for it.
        """
        import select

        os.set_blocking(self.master, False)
        poll, pending = select.poll(), b""
        poll.register(self.master, select.POLLIN)
        poll.register(0, select.POLLIN)
        while True:
            for fd, events in poll.poll():
                if fd == 0:
                    pending = os.read(0, 4096)
                    poll.unregister(0)  # until this is written; for good at its end
                elif events & select.POLLOUT:
                    pending = pending[os.write(self.master, pending) :]
                    if not pending:
                        poll.register(0, select.POLLIN)
                elif not self.show():
                    return
            poll.modify(self.master, select.POLLIN | (select.POLLOUT if pending else 0))

    def show(self) -> bool:
        """Write what the container said to our stdout; False once it has hung up."""
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        write_all(1, data)
        return bool(data)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`; a reader that is gone loses it."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except OSError:
            return
