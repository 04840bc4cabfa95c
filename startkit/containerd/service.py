"""The gRPC service types.API.

Rule: each call is parse, do, answer; errors are gRPC statuses whose message is fit
for the client of dockerd. Source: era 6.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import msgspec
from grpclib import GRPCError, Status

from startkit.containerd import container as containers
from startkit.containerd import create, monitor, shims
from startkit.containerd.container import Container
from startkit.containerd.proto import api_grpc, api_pb2
from startkit.containerd.shims import ShimError
from startkit.containerd.state import State, StateDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from startkit.containerd.events import Events

VERSION = (0, 2, 9)  # whose calls these are
INIT = "init"
START = "start-container"


class Service(api_grpc.APIBase):  # type: ignore[misc]  # generated, without types
    """All containers below one state directory."""

    def __init__(self, root: Path, runtime: str, events: Events) -> None:
        self.root, self.runtime, self.events = root, runtime, events
        self.containers: dict[str, Container] = {}
        self.monitor = monitor.Monitor(self.announce, self.gone)
        self.starts: set[asyncio.Task[None]] = set()

    def restore(self) -> None:
        """Take up the containers that are in the state directory."""
        for container in monitor.find_containers(self.root):
            self.containers[container.id] = container
            container.announced = self.events.last(container.id) == START
            self.announce(container)
            self.monitor.watch(container)

    def announce(self, container: Container) -> None:
        """Tell of a start, once. A shim goes on with it when containerd dies."""
        if container.pid and not container.announced:
            container.announced = True
            self.events.publish(START, container.id)

    def gone(self, container: Container, status: int) -> None:
        """Forget a container and tell the world, if it was told of the start."""
        del self.containers[container.id]
        if container.announced:
            self.events.publish("exit", container.id, status, INIT)

    def find(self, container: str, process: str = INIT) -> Container:
        """Return a container. Raises GRPCError NOT_FOUND, for its only process's name too."""
        if container not in self.containers:
            raise GRPCError(Status.NOT_FOUND, "containerd: container not found")
        if process != INIT:
            raise GRPCError(Status.NOT_FOUND, "containerd: process not found for container")
        return self.containers[container]

    async def GetServerVersion(self, stream: Any) -> None:  # noqa: N802
        """Answer with the version of containerd whose service this is."""
        await stream.recv_message()
        major, minor, patch = VERSION
        answer = api_pb2.GetServerVersionResponse(major=major, minor=minor, patch=patch)
        await stream.send_message(answer)

    async def CreateContainer(self, stream: Any) -> None:  # noqa: N802
        """Start a container; answer once the user's program runs."""
        container = self.wanted(await stream.recv_message())
        self.containers[container.id] = container
        start = asyncio.create_task(self.start(container))
        self.starts.add(start)
        start.add_done_callback(self.starts.discard)
        await asyncio.shield(start)  # a caller that leaves does not stop a start half-way
        answer = api_pb2.CreateContainerResponse(container=message(container))
        await stream.send_message(answer)

    def wanted(self, request: Any) -> Container:
        """Return the container that a request describes. Raises GRPCError."""
        try:
            directory = StateDirectory(self.root, request.id)
        except ValueError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None
        if request.id in self.containers:
            raise GRPCError(Status.ALREADY_EXISTS, "containerd: container already exists")
        if request.checkpoint:
            raise GRPCError(Status.UNIMPLEMENTED, "containerd: no checkpoints")
        state = State(
            bundle=request.bundlePath,
            labels=list(request.labels),
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
            runtime=request.runtime or self.runtime,
            runtime_args=list(request.runtimeArgs),
            no_pivot_root=request.noPivotRoot,
        )
        return Container(directory, state)

    async def start(self, container: Container) -> None:
        """Create and start. Raises GRPCError with the runtime's words; then nothing is left."""
        try:
            await create.create(container)
        except (OSError, msgspec.MsgspecError, ShimError) as error:
            del self.containers[container.id]
            raise GRPCError(Status.UNKNOWN, str(error)) from error
        self.announce(container)
        self.monitor.watch(container)

    async def Signal(self, stream: Any) -> None:  # noqa: N802
        """Send a signal to init."""
        request = await stream.recv_message()
        container = self.find(request.id, request.pid or INIT)
        try:
            container.signal(request.signal)
        except ProcessLookupError as error:
            raise GRPCError(Status.NOT_FOUND, f"containerd: no such process: {error}") from None
        except (OSError, ValueError) as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"containerd: signal: {error}") from None
        await stream.send_message(api_pb2.SignalResponse())

    async def UpdateProcess(self, stream: Any) -> None:  # noqa: N802
        """Close stdin, or set the size of the terminal."""
        request = await stream.recv_message()
        container = self.find(request.id, request.pid or INIT)
        if request.closeStdin:
            container.order(containers.CLOSE_STDIN)
        if request.width or request.height:
            container.order(containers.RESIZE, request.width, request.height)
        await stream.send_message(api_pb2.UpdateProcessResponse())

    async def UpdateContainer(self, stream: Any) -> None:  # noqa: N802
        """Pause, or let go on; answer once the runtime has. Raises GRPCError with its words."""
        request = await stream.recv_message()
        container = self.find(request.id)
        command = {"paused": "pause", "running": "resume"}.get(request.status)
        if command is None:
            raise GRPCError(Status.INVALID_ARGUMENT, f"containerd: status {request.status!r}")
        try:
            await shims.command(container.directory.init, *container.words(), command)
        except ShimError as error:
            raise GRPCError(Status.UNKNOWN, str(error)) from None
        await stream.send_message(api_pb2.UpdateContainerResponse())

    async def State(self, stream: Any) -> None:  # noqa: N802
        """Tell about one container, or all."""
        request = await stream.recv_message()
        told = [self.find(request.id)] if request.id else list(self.containers.values())
        answer = api_pb2.StateResponse(containers=[message(c) for c in told], machine=machine())
        await stream.send_message(answer)

    async def Events(self, stream: Any) -> None:  # noqa: N802
        """Stream events; the header goes out at once and says that none is missed from here on."""
        request = await stream.recv_message()
        since = request.timestamp if request.HasField("timestamp") else None
        events = self.events.listen(since, request.id, stored_only=request.storedOnly)
        await stream.send_initial_metadata()
        async for event in events:
            await stream.send_message(event)


def message(container: Container) -> api_pb2.Container:
    """Return what the wire says of a container and its init."""
    state, program = container.state, container.program
    user = api_pb2.User(
        uid=program.user.uid, gid=program.user.gid, additionalGids=program.user.additional_gids
    )
    process = api_pb2.Process(
        pid=INIT,
        terminal=program.terminal,
        user=user,
        args=program.args,
        env=program.env,
        cwd=program.cwd,
        systemPid=container.pid,
        stdin=state.stdin,
        stdout=state.stdout,
        stderr=state.stderr,
    )
    return api_pb2.Container(
        id=container.id,
        bundlePath=state.bundle,
        processes=[process],
        status=container.status,
        labels=state.labels,
        pids=[container.pid],
        runtime=state.runtime,
    )


def machine() -> api_pb2.Machine:
    """Return the host's size; memory in MiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return api_pb2.Machine(cpus=os.cpu_count() or 1, memory=memory)
