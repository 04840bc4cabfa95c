"""dockerd's side of the wire to containerd: the child process, the calls, the events.

Rule: nothing of containerd is known here but its command line and its protocol.
Source: article, the last sentence on the IO files; era.md sections 1 and 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from grpclib import GRPCError, Status
from grpclib.client import Channel
from grpclib.exceptions import StreamTerminatedError

from startkit.containerd.proto import api_grpc, api_pb2
from startkit.daemon.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from startkit.daemon.start import Start
    from startkit.daemon.store import Container

UP_S = 20.0  # an interpreter's start on a busy machine, many times over
END_S = 10.0  # of containerd; it may have to undo starts
POLL_S = 0.005
INIT = "init"
# what a call raises when containerd dies; AttributeError: grpclib's connection forgets its
# transport when it is lost, and a stream that just then begins or ends still asks for it
LOST = (StreamTerminatedError, OSError, AttributeError)


class RuntimeFailure(Exception):
    """The container could not be created; the text is the runtime's own."""


class Containerd:
    """containerd as dockerd sees it. `root` is `R/libcontainerd`."""

    def __init__(self, root: Path, log_level: str) -> None:
        self.root, self.log_level = root, log_level
        self.socket = root / "docker-containerd.sock"
        self.pidfile = root / "docker-containerd.pid"
        self.child: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None
        self.changed = asyncio.Condition()
        self.connections = 0  # streams of events so far
        self.stands = False  # whether the last of them does
        self.closing = False  # then there is no next containerd to wait for

    @property
    def stub(self) -> api_grpc.APIStub:
        """The calls."""
        return api_grpc.APIStub(self.channel)

    async def open(self) -> None:
        """Connect to the containerd of an earlier dockerd, or to one started now.

        Raises ServerError where none comes up.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.answers():
            self.spawn()
            deadline = asyncio.get_running_loop().time() + UP_S
            while not self.answers():
                if self.child and self.child.poll() is not None:
                    raise ServerError(f"containerd ended with status {self.child.returncode}")
                if asyncio.get_running_loop().time() > deadline:
                    raise ServerError(f"containerd does not listen on {self.socket}")
                await asyncio.sleep(0.005)
        # One channel for life, which connects again by itself: a new one would cut off
        # the calls that the old one has begun with the next containerd.
        self.channel = self.channel or Channel(path=os.fspath(self.socket))

    def answers(self) -> bool:
        """Say whether somebody listens on the socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.fspath(self.socket))
            except OSError:
                return False
        return True

    def spawn(self) -> None:
        """Start containerd as our child, in a session of its own: it outlives us."""
        command = [sys.executable, "-m", "startkit.containerd"]
        command += [
            "-l",
            f"unix://{self.socket}",
            "--state-dir",
            os.fspath(self.root / "containerd"),
        ]
        command += ["--runtime", "docker-runc", "--log-level", self.log_level]
        self.child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self.pidfile.write_text(str(self.child.pid))

    async def close(self) -> None:
        """End containerd: ours by its handle, an earlier dockerd's by its pid file.

        It undoes the starts that are under way; who waits for one hears of it.
        """
        self.closing = True
        async with self.changed:
            self.changed.notify_all()
        with contextlib.suppress(OSError, ValueError):
            pid = self.child.pid if self.child else int(self.pidfile.read_text())
            handle = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                await asyncio.wait_for(ended(handle), END_S)
            except TimeoutError:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
        if self.child:
            self.child.wait()
        if self.channel:
            self.channel.close()
        for path in (self.pidfile, self.socket):
            path.unlink(missing_ok=True)

    async def create(self, container: Container, runtime: str, arguments: list[str]) -> int:
        """Have the container started; return its init's pid, 0 where it has ended meanwhile.

        Raises RuntimeFailure with the runtime's words.
        """
        request = request_of(container, runtime, arguments)
        again = functools.partial(self.create_again, since=time.time_ns())
        try:
            pid = await self.asked(self.first_create, again, request)
        except GRPCError as error:
            raise RuntimeFailure(error.message or error.status.name) from None
        except LOST as error:
            raise RuntimeFailure(f"containerd went away: {error!r}") from None
        return int(pid)

    async def first_create(self, request: api_pb2.CreateContainerRequest) -> int:
        """Ask for a container; return init's pid."""
        reply = await self.stub.CreateContainer(request)
        return int(reply.container.processes[0].systemPid)

    async def create_again(self, request: api_pb2.CreateContainerRequest, since: int) -> int:
        """Ask a next containerd for what the first, now dead, may have done; return init's pid.

        A shim goes on without its containerd: its container is then taken as it is, and
        where it has already ended (0) it is not started twice.
        """
        while True:
            if pid := (await self.living()).get(request.id):
                return pid
            if request.id in await self.last_events(since):
                return 0
            try:
                return await self.first_create(request)
            except GRPCError as error:
                if error.status is not Status.ALREADY_EXISTS:
                    raise
            await asyncio.sleep(POLL_S)

    async def asked(
        self,
        call: Callable[[Any], Awaitable[Any]],
        again: Callable[[Any], Awaitable[Any]],
        request: object,
    ) -> Any:
        """Make a call; whenever containerd has died, make the other one once it is back."""
        connection = await self.connected()
        while True:
            try:
                return await call(request)
            except LOST:
                connection = await self.connected(after=connection)
                call = again

    async def connected(self, after: int = 0) -> int:
        """Wait for a stream of events later than `after`; return its number, from 1.

        Raises TimeoutError, an OSError; ConnectionError where there will be none.
        """

        def holds() -> bool:
            return self.closing or (self.stands and self.connections > after)

        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(holds), UP_S)
            if self.closing:
                raise ConnectionError("the daemon ends")
            return self.connections

    async def signal(self, container: Container, number: int) -> None:
        """Send a signal to init; one that has ended meanwhile is no error. Raises ServerError."""
        await self.ask(
            self.stub.Signal, api_pb2.SignalRequest(id=container.id, pid=INIT, signal=number)
        )

    async def pause(self, container: Container, *, paused: bool) -> None:
        """Let all processes stand still, or go on. Raises ServerError."""
        status = "paused" if paused else "running"
        request = api_pb2.UpdateContainerRequest(id=container.id, pid=INIT, status=status)
        await self.ask(self.stub.UpdateContainer, request)

    async def close_stdin(self, container: Container) -> None:
        """Close the container's stdin once it has read what is in the FIFO."""
        request = api_pb2.UpdateProcessRequest(id=container.id, pid=INIT, closeStdin=True)
        await self.ask(self.stub.UpdateProcess, request)

    async def resize(self, container: Container, height: int, width: int) -> None:
        """Set the size of the terminal."""
        request = api_pb2.UpdateProcessRequest(
            id=container.id, pid=INIT, width=width, height=height
        )
        await self.ask(self.stub.UpdateProcess, request)

    async def ask(self, call: Callable[[Any], Awaitable[Any]], request: object) -> None:
        """Make a call about a container that may end at any moment. Raises ServerError."""
        try:
            await self.asked(call, call, request)
        except GRPCError as error:
            if error.status is not Status.NOT_FOUND:
                raise ServerError(error.message or error.status.name) from None
        except LOST as error:
            raise ServerError(f"containerd went away: {error!r}") from None

    async def living(self) -> dict[str, int]:
        """Return the pid of each container that containerd has; 0 while it is being started."""
        reply = await self.stub.State(api_pb2.StateRequest())
        return {container.id: container.processes[0].systemPid for container in reply.containers}

    async def living_when(self, holds: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """Return what lives, once `holds` says yes to it."""
        while not holds(pids := await self.living()):  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(POLL_S)
        return pids

    async def last_exits(self) -> dict[str, api_pb2.Event]:
        """Return the last stored event of each container for which that is its exit."""
        last = await self.last_events()
        return {name: event for name, event in last.items() if event.type == "exit"}

    async def last_events(self, since: int = 1) -> dict[str, api_pb2.Event]:
        """Return each container's last stored event, from a Unix time in nanoseconds on."""
        last: dict[str, api_pb2.Event] = {}
        request = api_pb2.EventsRequest(storedOnly=True)
        request.timestamp.seconds, request.timestamp.nanos = divmod(since, 10**9)
        async with self.stub.Events.open() as stream:
            await stream.send_message(request, end=True)
            async for event in stream:
                last[event.id] = event
        return last

    async def follow(
        self,
        on_connect: Callable[[], object],
        on_exit: Callable[[str, int], object],
    ) -> None:
        """Hear of every exit until cancelled; containerd is started again where it has died.

        `on_connect` runs each time the stream stands, to ask what was missed.
        """
        while True:
            try:
                async with self.stub.Events.open() as stream:
                    await stream.send_message(api_pb2.EventsRequest(), end=True)
                    await stream.recv_initial_metadata()
                    await on_connect()  # type: ignore[misc]
                    async with self.changed:
                        self.connections, self.stands = self.connections + 1, True
                        self.changed.notify_all()
                    async for event in stream:
                        if event.type == "exit":
                            on_exit(event.id, event.status)
            except (GRPCError, *LOST):
                pass
            self.stands = False
            if self.child and self.child.poll() is not None:
                self.child = None
            try:
                await self.open()
            except ServerError:
                await asyncio.sleep(1)


def request_of(container: Container, runtime: str, arguments: list[str]) -> Any:
    """Return the one message that containerd needs: who, which bundle, which pipes and runtime."""
    streams = container.streams
    return api_pb2.CreateContainerRequest(
        id=container.id,
        bundlePath=os.fspath(container.bundle),
        stdin=streams.path("stdin"),
        stdout=streams.path("stdout"),
        stderr=streams.path("stderr"),
        runtime=runtime,
        runtimeArgs=arguments,
    )


async def ended(handle: int) -> None:
    """Wait until the process behind a pidfd has ended."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(handle, wake)
    try:
        await future
    finally:
        loop.remove_reader(handle)


async def call_containerd(start: Start) -> None:
    """Step: have containerd start the container. Raises RuntimeFailure."""
    daemon, root = start.daemon, start.daemon.config.exec_root / "runtime-runc"
    start.pid = await daemon.containerd.create(
        start.container, start.runtime, ["--root", os.fspath(root)]
    )
    if not start.pid:
        exits = await daemon.containerd.last_exits()
        daemon.on_exit(start.container.id, exits[start.container.id].status)


async def kill(start: Start) -> None:
    """Undo of `call_containerd`: what runs does not outlive a failed start, nor does its shim."""
    containerd, container = start.daemon.containerd, start.container
    container.streams.pump()  # a shim stays until its container's last words are read
    await containerd.signal(container, signal.SIGKILL)
    await containerd.living_when(lambda pids: container.id not in pids)
