"""The daemon's unix sockets: who listens where, and one task a client.

Rule: a socket file that nobody answers on is stale and is replaced; any other file
in the way is somebody's and stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

from startkit.daemon.http import CHUNK, Connection, Hangups

if TYPE_CHECKING:
    from startkit.daemon.http import Handler

SOCKET_MODE = 0o660
BACKLOG = 4096  # clients that may wait to be let in; the kernel's own limit is often less


class Server:
    """Listens on unix sockets and serves each client in a task of its own."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.servers: list[asyncio.Server] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.paths: list[tuple[str, int]] = []
        self.hangups = Hangups()

    async def listen(self, path: str) -> None:
        """Listen on the socket file `path`, mode 0660; a stale file is replaced.

        Raises OSError, EADDRINUSE where somebody answers there or it is no socket.
        """
        listener = bind(path)
        self.paths.append((path, os.stat(path).st_ino))
        # `backlog` here: how many asyncio takes in at a time; out of descriptors it goes on to try.
        server = await asyncio.start_unix_server(self.serve, sock=listener, limit=CHUNK, backlog=1)
        listener.listen(BACKLOG)
        self.servers.append(server)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            connection = Connection(self.handler, (reader, writer))
            with self.hangups.watch(connection.fd, connection.hang_up):
                await connection.run()
        except asyncio.CancelledError:
            pass  # the client has gone, or the daemon ends
        finally:
            self.tasks.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    def stop_listening(self) -> None:
        """Take no more clients; those that are there are served on."""
        for server in self.servers:
            server.close()

    async def close(self) -> None:
        """Stop listening, end every client, remove the socket files that are still ours."""
        self.stop_listening()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5)
        self.hangups.close()
        for path, inode in self.paths:
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)


def bind(path: str) -> socket.socket:
    """Return a listening socket at `path`. Raises OSError.

    The mode comes from the umask of this moment, not from a chmod after it: at no time
    can anybody else connect. The daemon has no second thread yet.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, f"{path} is in the way and not a socket")
        if answers(path):
            raise OSError(errno.EADDRINUSE, f"somebody listens on {path} already")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(path)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(umask)
    listener.setblocking(False)
    return listener


def answers(path: str) -> bool:
    """Whether a process listens on the socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
