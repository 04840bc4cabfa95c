"""The daemon: what it has, and what can be asked of it.

Rule: each call is a line or two that leads to the room that does it; `api` calls
nothing else. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from startkit.daemon import create, describe, io, layers, logs, restore, shutdown, start, stop
from startkit.daemon.call import Containerd
from startkit.daemon.errors import BadParameter, Conflict
from startkit.daemon.events import Events
from startkit.daemon.graph import open_driver
from startkit.daemon.images import Images
from startkit.daemon.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from startkit.daemon.logs import LogOptions
    from startkit.daemon.store import Container
    from startkit.daemon.types import AttachOptions

EMBEDDED = "docker-runc"
log = logging.getLogger("dockerd")


@dataclass(frozen=True)
class Config:
    """The daemon's command line. `runtimes`: name -> program, beside the embedded one."""

    root: Path
    exec_root: Path
    driver_name: str = "overlay2"
    default_runtime: str = "runc"
    runtimes: dict[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    log_level: str = "info"
    pidfile: Path | None = None
    hosts: list[str] = field(default_factory=list)


class Daemon:
    """One daemon.

    Raises ApiError where the storage driver cannot be had, or a runtime is unknown.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.runtimes = {"runc": EMBEDDED} | config.runtimes
        if config.default_runtime not in self.runtimes:
            known = ", ".join(sorted(self.runtimes))
            raise BadParameter(
                f"unknown default runtime {config.default_runtime!r} (known: {known})"
            )
        own = [config.root / name for name in ("containers", "image", config.driver_name)]
        for directory in (config.root, *own, config.exec_root):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.driver = open_driver(config.driver_name, config.root / config.driver_name)
        self.images = Images(config.root, self.driver)
        self.store = Store(config.root / "containers", config.exec_root / "libcontainerd")
        self.events = Events()
        self.containerd = Containerd(config.exec_root / "libcontainerd", config.log_level)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.following: asyncio.Task[Any] | None = None  # the one task that does not end by itself
        self.closing = False  # then nothing is started any more

    async def open(self) -> None:
        """Read the containers back, and find again those that run."""
        for found in self.store.load():
            self.store.add(create.adopt(self, *found))
        await self.containerd.open()
        await restore.settle(self)
        connected = asyncio.Event()

        async def on_connect() -> None:
            await restore.reconcile(self)
            connected.set()

        self.following = self.later(self.containerd.follow(on_connect, self.on_exit))
        await connected.wait()
        await restore.end_lost(self)

    async def close(self, hurry: asyncio.Event) -> None:
        """Stop every container, then containerd; give them no more time once there is a hurry."""
        await shutdown.shut_down(self, hurry)

    def on_exit(self, container_id: str, status: int) -> None:
        """Note an end that containerd has told of."""
        container = self.store.containers.get(container_id)
        if container:
            self.later(stop.finish(self, container, status))

    def later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the requests; an error goes to the log."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.settle)
        return task

    def settle(self, task: asyncio.Task[Any]) -> None:
        """Forget a finished task, but not its error."""
        self.tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.warn(f"{task.get_coro()!r}: {task.exception()!r}")

    def warn(self, text: str) -> None:
        """Write one line to the daemon's own log."""
        log.warning(text)

    def publish(self, container: Container, action: str, **more: str) -> None:
        """Tell `docker events` about a container."""
        record = container.record
        labels = record.config.labels or {}
        attributes = {**labels, "image": record.config.image, "name": container.name, **more}
        self.events.publish("container", action, container.id, attributes)

    def runtime_of(self, container: Container) -> str:
        """Return the program that runs a container; `docker-runc` is the embedded one."""
        return self.runtimes.get(container.host.runtime, EMBEDDED)

    def find(self, ref: str) -> Container:
        """Return a container by id, prefix or name. Raises NotFound."""
        return self.store.find(ref)

    def create(self, name: str | None, body: bytes) -> dict[str, object]:
        """Make a container. Raises ApiError."""
        return create.create(self, name, body)

    async def start(self, container: Container) -> None:
        """Start it. Raises NotModified where it runs."""
        await start.start(self, container)

    async def stop(self, container: Container, timeout: int | None) -> None:
        """Stop it. Raises NotModified where it does not run."""
        await stop.stop(self, container, timeout)

    async def restart(self, container: Container, timeout: int | None) -> None:
        """Stop it if it runs, then start it."""
        if container.running:
            await stop.stop(self, container, timeout)
        await start.start(self, container)
        self.publish(container, "restart")

    async def kill(self, container: Container, word: str | None) -> None:
        """Send a signal."""
        await stop.kill(self, container, word)

    async def pause(self, container: Container, *, paused: bool) -> None:
        """Let it stand still, or go on. Raises Conflict where it does already."""
        await stop.pause(self, container, paused=paused)

    async def wait(self, container: Container, condition: str) -> dict[str, object]:
        """Wait for `not-running`, `next-exit` or `removed`."""
        return await stop.wait(container, condition)

    def rename(self, container: Container, name: str) -> None:
        """Give another name. Raises BadParameter, Conflict."""
        if not name:
            raise BadParameter("Neither old nor new names may be empty")
        old = container.name
        new = self.store.free_name(name)
        container.record.name = f"/{new}"
        try:
            container.save_record()
        except OSError:
            container.record.name = f"/{old}"
            raise
        del self.store.names[old]
        self.store.names[new] = container.id
        self.publish(container, "rename", oldName=f"/{old}")

    async def remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        """Remove it from disk and memory. `volumes`: there are none here.

        Raises Conflict where it runs and `force` is not given.
        """
        async with container.lock:
            pass  # a start that is under way comes to its end first
        if container.running and not force:
            state, todo = describe.status_of(container), "Stop the container"
            todo = "Unpause and then stop the container" if state == "paused" else todo
            raise Conflict(
                f"You cannot remove a {state} container {container.id}. {todo} "
                "before attempting removal or force remove"
            )
        if container.running:
            await stop.kill(self, container, "SIGKILL")
        async with container.lock:
            if container.removed:
                return
            if container.running:
                raise Conflict(f"container {container.id} could not be killed")
            container.record.state.removal_in_progress = True
            layers.remove(self.driver, container.record.mount_id)
            shutil.rmtree(container.dir)
            container.removed = True
        self.store.forget(container)
        container.record.state.error = ""  # who waits for `removed` is told of no error
        container.streams.finish()
        self.publish(container, "destroy")
        await container.announce()

    def remove_later(self, container: Container) -> None:
        """Remove it once the current change of state is over: `--rm`."""
        self.later(self.remove(container, force=True, volumes=True))

    async def resize(self, container: Container, height: int, width: int) -> None:
        """Set the terminal's size. Raises Conflict where it does not run."""
        if not container.running:
            raise Conflict(f"Container {container.id} is not running")
        await self.containerd.resize(container, height, width)
        self.publish(container, "resize", height=str(height), width=str(width))

    def logs(self, container: Container, options: LogOptions) -> AsyncIterator[bytes]:
        """Return the log, framed as `docker logs` wants it."""
        tty = container.record.config.tty
        return logs.read(container.streams.log, options, tty, lambda: container.running)

    async def attach(
        self,
        container: Container,
        options: AttachOptions,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Join a client to the streams until one of the two ends."""
        if options.logs:
            past = logs.LogOptions(stdout=options.stdout, stderr=options.stderr)
            async for block in self.logs(container, past):
                writer.write(block)
                await writer.drain()
        if options.stream:
            self.publish(container, "attach")
            await io.attach(container, options, reader, writer, self.containerd.close_stdin)

    def list(
        self, *, all: bool, limit: int | None, size: bool, filters: dict[str, list[str]]
    ) -> list[dict[str, Any]]:
        """Return the rows of `docker ps`, the newest first."""
        return describe.rows(self, everything=all, limit=limit, size=size, filters=filters)

    def inspect(self, container: Container) -> dict[str, Any]:
        """Return `docker inspect`."""
        return describe.document(self, container)

    def info(self) -> dict[str, Any]:
        """Return `docker info`."""
        return describe.info(self)
