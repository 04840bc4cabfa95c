"""Who holds which end of which named pipe.

Rule: of each FIFO the shim keeps four descriptors, two handles (O_PATH) and beside
each the real end that was opened through it:

    handle  write   so that a reader never sees end of file because the other left
    handle  read    so that a writer never gets SIGPIPE for that reason

So dockerd may go away and come back: the bytes in between stay in the pipe.
Source: IO files, listing of lsof; era 5.
"""

from __future__ import annotations

import fcntl
import os
import stat

FIONREAD = 0x541B  # ioctl_tty(2); the termios module is not worth loading for one number


class Fifo:
    """One FIFO, all four descriptors open, none of them blocking or inherited.

    Raises OSError where `path` cannot be opened, ValueError where it is no FIFO.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.handles = [os.open(path, os.O_PATH | os.O_CLOEXEC)]
        try:
            if not stat.S_ISFIFO(os.fstat(self.handles[0]).st_mode):
                raise ValueError(f"{path} is not a FIFO")
            guard = self.reopen(os.O_RDONLY)  # a FIFO without a reader cannot be opened to write
            self.write = self.reopen(os.O_WRONLY)
            self.handles.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
            self.read = self.reopen(os.O_RDONLY)
            os.close(guard)
        except BaseException:
            os.close(self.handles[0])
            raise

    def reopen(self, flags: int) -> int:
        """Open the FIFO behind the newest handle, whatever its path means by now."""
        way = f"/proc/self/fd/{self.handles[-1]}"
        return os.open(way, flags | os.O_NONBLOCK | os.O_CLOEXEC)

    def unread(self) -> int:
        """Return how many bytes wait in the pipe."""
        count = fcntl.ioctl(self.read, FIONREAD, b"\0\0\0\0")
        return int.from_bytes(count, "little")

    def is_linked(self) -> bool:
        """Tell whether the FIFO still has its name: without one nobody can come back to read."""
        return os.fstat(self.read).st_nlink > 0

    def close(self) -> None:
        """Close all four."""
        for fd in (*self.handles, self.read, self.write):
            os.close(fd)
