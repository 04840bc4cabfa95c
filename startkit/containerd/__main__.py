"""The front door of containerd: command line, socket, signals.

`startkit-containerd -l unix://SOCKET --state-dir DIR [--runtime NAME]`. Containers
outlive it: SIGTERM ends containerd alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from grpclib.server import Server

from startkit import __version__, kernel
from startkit.containerd.events import Events
from startkit.containerd.service import Service

log = logging.getLogger("containerd")


def parser() -> argparse.ArgumentParser:
    """Return the command line, with containerd 0.2's flag names."""
    parser = argparse.ArgumentParser(prog="startkit-containerd", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("-l", "--listen", required=True, metavar="unix://SOCKET")
    parser.add_argument("--state-dir", required=True, type=Path, metavar="DIR")
    parser.add_argument("--runtime", default="docker-runc", metavar="NAME")
    parser.add_argument("--log-level", default="info", metavar="LEVEL")
    return parser


def listening_socket(address: str) -> socket.socket:
    """Return a listening unix socket, 0660. It has its name only once it can be connected to.

    Raises OSError, ValueError for an address of another kind.
    """
    scheme, _, path = address.rpartition("unix://")
    if scheme or not path.startswith("/"):
        raise ValueError(f"{address}: not unix:///an/absolute/path")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(new)
    os.chmod(new, 0o660)
    listener.listen(128)
    os.rename(new, path)
    return listener


async def serve(service: Service, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; containers go on without us, starts under way are undone."""
    service.restore()
    server = Server([service])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start(sock=listener)
    log.info("listening; %d containers found again", len(service.containers))
    await stop.wait()
    for start in service.starts:
        start.cancel()
    await asyncio.gather(*service.starts, return_exceptions=True)  # before the callers hear of it
    server.close()
    await server.wait_closed()


def set_title(words: list[str]) -> None:
    """Show as docker-containerd in ps, where there is room for the words."""
    with suppress(ValueError):
        kernel.set_title(["docker-containerd", *words])


def open_events(root: Path) -> Events:
    """Open the log of a state directory. Raises ValueError where another containerd has it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return Events(root / "events.log")
    except BlockingIOError:
        raise ValueError(f"{root} is in use by another containerd") from None


def main(argv: list[str] | None = None) -> int:
    """Run containerd; return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = parser().parse_args(words)
    try:
        logging.basicConfig(
            level=options.log_level.upper(),
            format='time="%(asctime)s" level=%(levelname)s msg="%(message)s"',
        )
        if os.geteuid() != 0:
            raise ValueError("needs to be run as root, as its shims and runtime do")
        events = open_events(options.state_dir)
        listener = listening_socket(options.listen)
    except (OSError, ValueError) as error:
        print(f"startkit-containerd: {error}", file=sys.stderr)
        return 1
    set_title(words)
    service = Service(options.state_dir.resolve(), options.runtime, events)
    asyncio.run(serve(service, listener))
    os.unlink(options.listen.removeprefix("unix://"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
