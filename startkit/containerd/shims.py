"""Starting shims, and hearing from them.

Rule: a shim is exec'd, by way of vfork, so that containerd's size and state never
matter; everything else that containerd has open closes on exec.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = os.path.realpath(sys.executable)  # not the link of a virtual environment: 1 ms
PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "shim", "__main__.py")


class Report(msgspec.Struct):
    """The one line a shim says: init's pid, or what went wrong."""

    pid: int = 0
    error: str = ""


class ShimError(Exception):
    """The container could not be started; the text is for the client."""


def spawn(directory: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a shim in a state directory, in its own process group; its stdout is the report.

    Its stderr is the write end of `exit`, whose read end we hold: from the first moment
    on its death can be seen by whoever is containerd then. Raises OSError.
    """
    stderr = os.open(directory / "exit", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return subprocess.Popen(
            [PYTHON, "-I", "-S", PROGRAM, *words],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            process_group=0,
        )
    finally:
        os.close(stderr)


async def hear(shim: subprocess.Popen[bytes]) -> int:
    """Return init's pid once the user's program runs. Raises ShimError, in the shim's words."""
    assert shim.stdout
    said = await read_line(shim.stdout.fileno())
    shim.stdout.close()
    if not said.endswith(b"\n"):
        raise ShimError("shim error: the shim died before the container was started")
    report = msgspec.json.decode(said, type=Report)
    if report.error:
        raise ShimError(report.error)
    return report.pid


async def read_line(fd: int) -> bytes:
    """Return what comes out of a pipe up to a newline or its end."""
    said = b""
    while not said.endswith(b"\n"):
        await readable(fd)
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        said += chunk
    return said


async def readable(fd: int) -> None:
    """Wait until a descriptor is readable, at its end, or closed by the other side."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


async def death(pid: int) -> None:
    """Wait until a process, child or not, has ended; returns at once where there is none."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await readable(fd)
    finally:
        os.close(fd)


async def reap(shim: subprocess.Popen[bytes]) -> None:
    """Wait for a shim's end and take its zombie away."""
    await death(shim.pid)
    shim.wait()


async def command(directory: Path, *words: str) -> None:
    """Let a new shim run one command of the runtime, the last of the words. Raises ShimError."""
    shim = spawn(directory, *words)
    try:
        await hear(shim)
    finally:
        await reap(shim)


async def clean_up(directory: Path, *words: str) -> None:
    """Let a new shim delete the container of one that was killed, as far as that goes."""
    with suppress(ShimError):
        await command(directory, *words, "delete")


def kill_group(shim: subprocess.Popen[bytes]) -> None:
    """Kill what a dead shim left in its process group: a runtime at work."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(shim.pid, 9)
