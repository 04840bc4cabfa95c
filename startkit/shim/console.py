"""The terminal of a container: its socket, its size, its end of file.

The runtime opens the pseudo terminal, in the container's own /dev/pts, and sends
the master over a socket that the shim listens on. Source: runc, docs/terminals.md.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import sys
import termios

from startkit.shim.stdio import NULL
from startkit.shim.streams import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from startkit.shim.fifos import Fifo

NAME = "console.sock"


class ConsoleSocket:
    """A listening unix socket in the current directory.

    `path` leads there by way of /proc: a socket's path holds 107 bytes, a state
    directory's may be longer, and the runtime changes its own directory.
    """

    def __init__(self) -> None:
        self.path = f"/proc/{os.getpid()}/cwd/{NAME}"
        self.listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self.listener.bind(NAME)
        self.listener.listen(1)
        self.listener.setblocking(False)

    def receive(self) -> int:
        """Return the master that the runtime has sent before it left, non-blocking.

        Raises BlockingIOError where it sent none.
        """
        fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # what socket.accept calls
        sender = _socket.socket(fileno=fd)
        flags = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT
        _, ancillary, _, _ = sender.recvmsg(4096, _socket.CMSG_SPACE(4), flags)
        sender.close()
        for level, kind, data in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                master = int.from_bytes(data[:4], sys.byteorder)
                os.set_blocking(master, False)
                return master
        raise ValueError("the runtime sent no terminal")

    def close(self) -> None:
        """Close the socket and remove its name, once."""
        if self.listener.fileno() >= 0:
            self.listener.close()
            os.unlink(NAME)


class Terminal:
    """A pseudo terminal, whose master arrives over the console socket."""

    stdio = (NULL, NULL, NULL)

    def __init__(self, fifos: dict[str, Fifo]) -> None:
        self.fifos = fifos
        self.socket = ConsoleSocket()
        self.options = ("--console-socket", self.socket.path)
        self.master = -1

    def connect(self) -> list[Stream]:
        """Return the streams of the terminal; there is one output, stdout."""
        self.master = master = self.socket.receive()
        self.close()
        streams = []
        if "stdin" in self.fifos:
            at_end = lambda: send_end_of_file(master)  # noqa: E731
            streams.append(Stream(self.fifos["stdin"].read, master, at_end))
        if "stdout" in self.fifos:
            streams.append(Stream(master, self.fifos["stdout"].write))
        return streams

    def resize(self, width: int, height: int) -> None:
        """Set the size in characters."""
        resize(self.master, width, height)

    def close(self) -> None:
        """Remove the socket, which one terminal came through."""
        self.socket.close()


def resize(master: int, width: int, height: int) -> None:
    """Set the size in characters; the kernel tells the foreground group with SIGWINCH."""
    size = b"".join(n.to_bytes(2, sys.byteorder) for n in (height, width, 0, 0))
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)


def send_end_of_file(master: int) -> None:
    """Type the end-of-file character, where the terminal is in the mode that knows one."""
    local_flags, characters = termios.tcgetattr(master)[3], termios.tcgetattr(master)[6]
    if local_flags & termios.ICANON:
        os.write(master, characters[termios.VEOF])
