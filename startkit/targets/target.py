"""A target: what must be there to run it, and how it is started and stopped.

Rule: what a target starts, it ends, by pid; what lies below its root, it removes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from startkit import kernel
from startkit.observe.trials import strays
from startkit.targets import process

if TYPE_CHECKING:
    from collections.abc import Iterator

SAID = 300  # characters of it that are told
TAIL = 4096  # bytes of an engine's log in which its last line is looked for
RECIPES = Path(__file__).parent


class TargetError(Exception):
    """A target that is not there or does not come up; one line, the target's own log included."""


class Target(Protocol):
    """What is judged."""

    @property
    def name(self) -> str:
        """The recipe's name, or `socket`."""
        ...

    @property
    def runtime(self) -> str:
        """The OCI runtime that is judged with it, "" for none."""
        ...

    def missing(self) -> list[str]:
        """Return what must be installed first; nothing when it can run."""
        ...

    def running(self, root: Path) -> contextlib.AbstractContextManager[str]:
        """Keep it running with everything below `root`; the path of its API socket."""
        ...


class Engine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe: an engine that is started by a command line, `{root}` being its place."""

    name: str
    start: list[str]
    ready: str  # the socket
    files: dict[str, str] = {}  # name -> text, written below the root before the start
    needs: list[str] = []  # programs on PATH
    runtime: str = ""  # the OCI runtime that is judged with it

    def missing(self) -> list[str]:
        """Return the programs that are not on PATH nor beside this Python."""
        return [name for name in self.needs if not which(name)]

    @contextlib.contextmanager
    def running(self, root: Path) -> Iterator[str]:
        """Start it, wait for its socket, and leave nothing of it behind. Raises TargetError."""
        argv = [word.format(root=root) for word in self.start]
        argv[0] = which(argv[0]) or argv[0]
        ready = self.ready.format(root=root)
        for name, text in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        log = root / "log"
        with swept(root), strays.adopted():
            with log.open("wb") as output:
                child = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True, preexec_fn=die_with_us,
                )  # fmt: skip
            try:
                if why := process.silence(child, ready):
                    raise TargetError(f"{self.name} did not come up: {why}: {last_line(log)}")
                yield ready
            finally:
                process.end(child, signal.SIGTERM)


@contextlib.contextmanager
def swept(root: Path) -> Iterator[None]:
    """Leave nothing below `root`, nor that itself."""
    try:
        yield
    finally:
        process.sweep(str(root))


def die_with_us() -> None:
    """Have the engine told to end when whoever judges it is killed."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)


class Socket:
    """An engine that runs already; nothing is started, nothing is stopped."""

    runtime = ""

    def __init__(self, path: str) -> None:
        self.name = "socket"
        self.path = path.removeprefix("unix://")

    def missing(self) -> list[str]:
        """Return the socket when nothing stands there."""
        return [] if os.path.exists(self.path) else [self.path]

    @contextlib.contextmanager
    def running(self, root: Path) -> Iterator[str]:
        """Give the socket's path."""
        del root
        yield self.path


def which(program: str) -> str | None:
    """Return the program on PATH, or beside the Python that runs us."""
    return shutil.which(program) or shutil.which(program, path=os.path.dirname(sys.executable))


def last_line(log: Path) -> str:
    """Return the last line that a target wrote."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        lines = file.read(TAIL).decode(errors="replace").split("\n")
    return next(
        (line.strip()[:SAID] for line in reversed(lines) if line.strip()), "it wrote nothing"
    )


def is_runtime(word: str) -> bool:
    """Say whether a word names an OCI runtime alone: no socket, no recipe's name or file."""
    name = word.partition("@")[0]
    recipe = name.endswith(".toml") or (RECIPES / f"{name}.toml").exists()
    return not recipe and not name.startswith("unix://")


def find_target(word: str) -> Target:
    """Return the target that a person named: unix:///PATH, a recipe's name, or a recipe's file.

    Raises TargetError.
    """
    if word.startswith(("unix://", "/")) and not word.endswith(".toml"):
        return Socket(word)
    path = Path(word) if word.endswith(".toml") else RECIPES / f"{word}.toml"
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Engine)
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise TargetError(f"no target {word!r}: unix:///PATH, or one of {known}") from None
    except (ValueError, OSError) as error:
        raise TargetError(f"{path}: {error}") from None
