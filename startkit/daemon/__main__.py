"""Our dockerd: `startkit-dockerd`, in the foreground, with dockerd's own flag names.

One line on stdout when it is ready, one on stderr when it cannot be. SIGTERM and SIGINT
end it cleanly, a second one without patience. The data root is locked: a second daemon
on it is refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from startkit import __version__, kernel
from startkit.daemon.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAM = "startkit-dockerd"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
DEFAULT_RUNTIME = "runc"  # the embedded one, unless --add-runtime says otherwise


class StartError(Exception):
    """Why the daemon cannot start, in one line."""


def parser() -> argparse.ArgumentParser:
    """Return the command line: dockerd's names, those that startkit has."""
    made = argparse.ArgumentParser(
        prog=PROGRAM, description="A compact dockerd that tells the story of docker start."
    )
    add = made.add_argument
    add("--data-root", type=Path, default=Path("/var/lib/docker"), metavar="DIR")
    add("--exec-root", type=Path, default=Path("/var/run/docker"), metavar="DIR")
    add(
        "-H", "--host", action="append", metavar="unix://SOCKET", help="may be given more than once"
    )
    add("-p", "--pidfile", type=Path, default=Path("/var/run/docker.pid"), metavar="FILE")
    add("-s", "--storage-driver", default="overlay2", choices=("overlay2", "aufs", "vfs"))
    add("--default-runtime", default=DEFAULT_RUNTIME, metavar="NAME")
    add("--add-runtime", action="append", default=[], metavar="NAME=PATH")
    add("--cgroup-parent", default="", metavar="PARENT")
    add("-l", "--log-level", default="info", choices=LOG_LEVELS)
    add("-v", "--version", action="version", version=f"{PROGRAM} {__version__}")
    return made


def socket_paths(hosts: Sequence[str]) -> list[str]:
    """Return the paths of `unix://` hosts. Raises StartError for any other kind."""
    paths = [host.removeprefix("unix://") for host in hosts]
    for host, path in zip(hosts, paths, strict=True):
        if not host.startswith("unix://") or not path.startswith("/"):
            raise StartError(f"cannot listen on {host!r}: only unix:///PATH")
    return paths


def runtimes(words: Sequence[str]) -> dict[str, str]:
    """Return NAME=PATH words as a dict. Raises StartError."""
    found = {}
    for word in words:
        name, _, path = word.partition("=")
        if not name or not path:
            raise StartError(f"--add-runtime {word!r}: want NAME=PATH")
        found[name] = path
    return found


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the data root. Raises StartError where another daemon does.

    A lock, not a pid: it goes with its process, however that ends.
    """
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    fd = os.open(root / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 20).decode("ascii", "replace").strip() or "unknown"
            raise StartError(
                f"the data root {root} is in use by another daemon (pid {holder})"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def pidfile(path: Path) -> Iterator[None]:
    """Keep our pid in a file. Raises StartError where a living daemon's stands there."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text())
        if pid != os.getpid() and Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            raise StartError(f"pid file {path} names a daemon that runs (pid {pid})")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(os.getpid()))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in one line what the machine refuses, such as a descriptor for one more client."""
    error = context.get("exception")
    if isinstance(error, OSError):
        logging.getLogger("dockerd").warning("%s: %s", context["message"], error)
    else:
        loop.default_exception_handler(context)


async def serve(options: argparse.Namespace, hosts: list[str]) -> None:
    """Run until a signal says so."""
    from startkit.daemon.api import Api
    from startkit.daemon.engine import Config, Daemon
    from startkit.daemon.listen import Server

    stopping, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if stopping.is_set() else stopping).set())
    loop.set_exception_handler(tell)
    daemon = Daemon(
        Config(
            root=options.data_root,
            exec_root=options.exec_root,
            driver_name=options.storage_driver,
            default_runtime=options.default_runtime,
            runtimes=runtimes(options.add_runtime),
            cgroup_parent=options.cgroup_parent,
            log_level=options.log_level,
            pidfile=options.pidfile,
            hosts=hosts,
        )
    )
    await daemon.open()
    server = Server(Api(daemon))
    try:
        for path in socket_paths(hosts):
            await server.listen(path)
        print(f"{PROGRAM} {__version__} ready on {' '.join(hosts)}", flush=True)
        await stopping.wait()
        server.stop_listening()
    finally:
        await daemon.close(hurry)
        await server.close()
        # a further signal, once the loop has gone, would kill us before the pid file is removed
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; return its exit status: 0 after a signal, 1 where it cannot run."""
    options = parser().parse_args(argv)
    hosts = options.host or ["unix:///var/run/docker.sock"]
    try:
        socket_paths(hosts)
        runtimes(options.add_runtime)
        if os.geteuid() != 0:
            raise StartError("needs to be run as root: mounts, cgroups and namespaces")
        logging.basicConfig(
            level=options.log_level.upper(),
            format='time="%(asctime)s" level=%(levelname)s msg="%(message)s"',
        )
        kernel.set_title(["dockerd", *(sys.argv[1:] if argv is None else argv)])
        os.umask(0o022)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        options.data_root, options.exec_root, options.pidfile = (
            path.absolute() for path in (options.data_root, options.exec_root, options.pidfile)
        )
        with locked(options.data_root), pidfile(options.pidfile):
            asyncio.run(serve(options, hosts))
    except (StartError, ApiError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
