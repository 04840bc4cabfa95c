"""A container's state directory: what is in it, and how it gets there.

    ID/state.json            what dockerd asked for
    ID/init/process.json     the same, for the shim
    ID/init/exit, control    FIFOs, from and to the shim
    ID/init/pid, starttime   who init is; from the runtime, and from the shim once the program runs
    ID/init/shim-log.json, log.json, exitStatus

Rule: files are written whole or not at all, and not synced: what is below an exec root
does not outlive the machine. Directories are 0700. Source: era 6.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import msgspec

SAFE_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class State(msgspec.Struct, rename="camel"):
    """state.json: one CreateContainer request, and the program that serves it."""

    bundle: str
    labels: list[str] = []
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    runtime: str = ""
    runtime_args: list[str] = []
    shim: str = "docker-containerd-shim"
    no_pivot_root: bool = False


class Process(msgspec.Struct, rename="camel"):
    """process.json: what the shim has to know."""

    id: str
    bundle: str
    terminal: bool
    stdin: str
    stdout: str
    stderr: str
    runtime: str
    runtime_args: list[str]
    no_pivot_root: bool


class User(msgspec.Struct, rename="camel"):
    """The user of config.json."""

    uid: int = 0
    gid: int = 0
    additional_gids: list[int] = []


class Program(msgspec.Struct):
    """The part of config.json's `process` that containerd tells about."""

    args: list[str] = []
    env: list[str] = []
    cwd: str = "/"
    terminal: bool = False
    user: User = msgspec.field(default_factory=User)


class Config(msgspec.Struct):
    """config.json, as far as containerd reads it."""

    process: Program = msgspec.field(default_factory=Program)


def read_program(bundle: str) -> Program:
    """Return a bundle's program. Raises OSError, msgspec.MsgspecError."""
    return msgspec.json.decode(Path(bundle, "config.json").read_bytes(), type=Config).process


class StateDirectory:
    """One container's directory below `root`. Raises ValueError for an id that is no file name."""

    def __init__(self, root: Path, container: str) -> None:
        if not SAFE_ID.fullmatch(container):
            raise ValueError(f"containerd: invalid container id {container!r}")
        self.id = container
        self.path = root / container
        self.init = self.path / "init"

    def write(self, state: State, process: Process) -> None:
        """Make the directory with all that the shim needs. Raises FileExistsError."""
        self.path.mkdir(mode=0o700)
        try:
            self.init.mkdir(mode=0o700)
            write_whole(self.path / "state.json", msgspec.json.encode(state))
            write_whole(self.init / "process.json", msgspec.json.encode(process))
            for name in ("exit", "control"):
                os.mkfifo(self.init / name, 0o700)
        except BaseException:
            self.remove()
            raise

    def read(self) -> State:
        """Return state.json, or where that is garbled what process.json has of it.

        Raises OSError, msgspec.MsgspecError where neither can be read.
        """
        try:
            return msgspec.json.decode((self.path / "state.json").read_bytes(), type=State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode((self.init / "process.json").read_bytes(), type=State)

    def number(self, name: str) -> int | None:
        """Return the number in one of the small files; None while it is not there."""
        try:
            return int((self.init / name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def write_number(self, name: str, value: int) -> None:
        """Write one of the small files: a decimal number without newline."""
        write_whole(self.init / name, str(value).encode())

    def remove(self) -> None:
        """Remove the directory and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file 0600 so that a reader sees the old content or the new, never half."""
    new = path.with_name(path.name + ".new")
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    new.rename(path)
