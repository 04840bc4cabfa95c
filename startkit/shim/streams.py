"""Bytes from one descriptor to another, in order, none lost.

Rule: a stream holds one chunk at most. While its sink takes nothing its source is
not read, so the pressure goes back to whoever writes: the container, or dockerd.
"""

from __future__ import annotations

import errno
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 65536


class Stream:
    """One direction. Both descriptors are non-blocking and belong to the caller.

    `at_end` is called once, when the source has ended and every byte is delivered,
    or when the sink is gone.
    """

    def __init__(self, source: int, sink: int, at_end: Callable[[], object] | None = None) -> None:
        self.source, self.sink, self.at_end = source, sink, at_end
        self.pending = b""
        self.is_open = True  # the source may yield more
        self.is_closing = False  # it ends once it is empty

    def wants(self) -> tuple[int, int] | None:
        """Return the descriptor and poll(2) event to wait for; None when nothing is left to do."""
        if self.pending:
            return self.sink, select.POLLOUT
        return (self.source, select.POLLIN) if self.is_open else None

    def step(self) -> None:
        """Move what can be moved now: one chunk, or all of it when the stream is closing."""
        again = self.wants() is not None
        while again:
            if not self.pending:
                self.fill()
            if self.pending:
                self.flush()
            again = self.is_closing and self.is_open and not self.pending
        if self.at_end and self.wants() is None:
            end, self.at_end = self.at_end, None
            end()

    def close_when_empty(self) -> None:
        """Let the stream end once everything that waits in the source is delivered."""
        self.is_closing = True
        self.step()

    def fill(self) -> None:
        """Read a chunk. A terminal without a slave says EIO: its end of file."""
        try:
            self.pending = os.read(self.source, CHUNK)
            self.is_open = bool(self.pending)
        except BlockingIOError:
            self.is_open = not self.is_closing
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.is_open = False

    def flush(self) -> None:
        """Write what fits. A sink without a reader ends the stream."""
        try:
            self.pending = self.pending[os.write(self.sink, self.pending) :]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.pending, self.is_open = b"", False


def wait(streams: list[Stream], others: list[int], timeout_ms: int | None = None) -> set[int]:
    """Return the descriptors that are ready: what the streams want, and `others` to read."""
    masks = dict.fromkeys(others, select.POLLIN)
    for stream in streams:
        if want := stream.wants():
            masks[want[0]] = masks.get(want[0], 0) | want[1]
    poll = select.poll()
    for fd, mask in masks.items():
        poll.register(fd, mask)
    return {fd for fd, _ in poll.poll(timeout_ms)}


def step_ready(streams: list[Stream], ready: set[int]) -> None:
    """Move what can be moved."""
    for stream in streams:
        want = stream.wants()
        if want and want[0] in ready:
            stream.step()
