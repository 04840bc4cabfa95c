"""The container's standard input and output without a terminal: three pipes.

Pipes and `console.Terminal` have the same face: `stdio` are the descriptors that the
runtime gets as 0 to 2, `connect` returns the streams towards the FIFOs once the
container exists.
"""

from __future__ import annotations

import os

from startkit.shim.streams import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from startkit.shim.fifos import Fifo

NULL = 0  # the shim's own stdin is /dev/null


class Pipes:
    """A pipe for each of stdin, stdout, stderr that has a FIFO; /dev/null for the others."""

    options: tuple[str, ...] = ()

    def __init__(self, fifos: dict[str, Fifo]) -> None:
        self.fifos = fifos
        self.ours: dict[str, int] = {}
        theirs = {"stdin": NULL, "stdout": NULL, "stderr": NULL}
        for name in fifos:
            read, write = os.pipe2(os.O_CLOEXEC)
            theirs[name], self.ours[name] = (read, write) if name == "stdin" else (write, read)
            os.set_blocking(self.ours[name], False)
        self.stdio = (theirs["stdin"], theirs["stdout"], theirs["stderr"])

    def connect(self) -> list[Stream]:
        """Return one stream a pipe; the container's ends are its own from now on."""
        self.drop_stdio()
        return [self.stream(name, fifo) for name, fifo in self.fifos.items()]

    def stream(self, name: str, fifo: Fifo) -> Stream:
        """Return the stream of one pipe."""
        if name == "stdin":
            return Stream(fifo.read, self.ours[name], at_end=self.close_stdin)
        return Stream(self.ours[name], fifo.write)

    def close_stdin(self) -> None:
        """Close the pipe, and the FIFO that nothing will come through any more."""
        os.close(self.ours["stdin"])
        self.fifos.pop("stdin").close()

    def drop_stdio(self) -> None:
        """Close the container's ends: only so its last exit shows as end of file."""
        for fd in self.stdio:
            if fd != NULL:
                os.close(fd)
        self.stdio = (NULL, NULL, NULL)

    def resize(self, width: int, height: int) -> None:
        """Do nothing: a pipe has no size."""

    def close(self) -> None:
        """Close what a failed start leaves; a process's end closes the rest."""
        self.drop_stdio()
