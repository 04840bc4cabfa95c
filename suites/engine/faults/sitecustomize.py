"""Faults in the engine's own steps, by name: what `STARTKIT_FAULT`, a file, asks for, once.

The file's lines are `PROGRAM STEP KIND`, in the order in which they come to pass; the step
of an undo is `undo:STEP`. Python imports this module by itself in dockerd and
containerd, as it stands in PYTHONPATH; it is also the program of the shims there, which
look for no such module, and in whose forks the runtime and the container's init are.

Rule: the engine knows nothing of it: the one seam is the class `Step`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys

ROOT = __file__.rpartition("/suites/")[0]
SHIMS = ("shim", "runtime", "init")
FILLER = os.path.join(os.path.dirname(os.environ["STARTKIT_FAULT"]), "filler")
wanted = ""  # in a shim: what was asked for when it began


def ask(programs: tuple[str, ...], step: str = "") -> str:
    """Return what the file's first line asks of one of these programs, having removed it, or ""."""
    with contextlib.suppress(FileNotFoundError), open(os.environ["STARTKIT_FAULT"]) as file:
        text, *later = file.readlines()
        program, name, _ = text.split()
        if program in programs and step in ("", name):
            os.unlink(file.name)
            if later:
                with open(file.name, "w") as rest:
                    rest.writelines(later)
            return text
    return ""


def kind_for(program: str, step: str) -> str:
    """Return which fault to make at this step; "" for none. In a shim it is made once, too."""
    global wanted
    text = wanted if program in SHIMS else ask((program,), step)
    if text.split()[:2] != [program, step]:
        return ""
    wanted = ""
    return text.split()[2]


def die() -> None:
    """Die at once; a namespace's first process cannot kill itself."""
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)


@contextlib.contextmanager
def short_of(kind: str):
    """Make a resource really scarce meanwhile: `descriptors-N` leaves N, `space` none."""
    if kind.startswith("descriptors-"):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + int(kind[-1]), limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    elif kind == "space":
        with contextlib.suppress(OSError), open(FILLER, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            os.unlink(FILLER)
    else:
        yield


async def awaited(result, kind):
    """Go on with a step that waits."""
    with short_of(kind):
        result = await result
    return die() if kind == "kill-after" else result


def faulty(program, step, do):
    """Return `do` with the faults that are asked for."""

    def done(subject):
        kind = kind_for(program, step)
        if kind == "kill-before":
            die()
        if kind in errno.errorcode.values():
            number = getattr(errno, kind)
            raise OSError(number, os.strerror(number))
        with short_of(kind):
            result = do(subject)
        if hasattr(result, "__await__"):
            return awaited(result, kind)
        return die() if kind == "kill-after" else result

    return done


def program_of(do) -> str:
    """Return whose step a function is, in the words of `startkit.story`."""
    room, module = do.__module__.split(".")[1:3]
    return {"daemon": "dockerd", "runtime": module.replace("create", "runtime")}.get(room, room)


def install() -> None:
    """Put the faults into every step that is made from now on."""
    from startkit import steps

    plain = steps.Step.__init__

    def made(self, name, do, undo=None, says=""):
        program = program_of(do)
        undo = undo and faulty(program, f"undo:{name}", undo)
        plain(self, name, faulty(program, name, do), undo, says)

    steps.Step.__init__ = made


def main() -> int:
    """Be a shim."""
    global wanted
    sys.path.insert(0, ROOT)
    install()
    wanted = "" if sys.argv[4:] else ask(SHIMS)
    from startkit.shim.shim import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    os._exit(main())
else:
    install()
    from startkit.containerd import shims

    shims.PROGRAM = __file__
