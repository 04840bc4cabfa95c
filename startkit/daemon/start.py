"""`docker start` in dockerd: the article's steps, in the article's order, in one tuple.

Rule: nothing happens in a start that is not a step here; a step that fails has those
before it undone, the last one first.
Source: article, heading on dockerd; era.md sections 2 to 7.
"""

from __future__ import annotations

import asyncio
import errno
import re
from typing import TYPE_CHECKING

from startkit import steps
from startkit.daemon import bundle, call, cgroup, files, io, logs, rootfs, store
from startkit.daemon.call import RuntimeFailure
from startkit.daemon.errors import (
    ApiError,
    BadParameter,
    Conflict,
    NotModified,
    ServerError,
    ShuttingDown,
)
from startkit.steps import Step

if TYPE_CHECKING:
    from startkit.daemon.engine import Daemon
    from startkit.daemon.store import Container

START = (
    Step("mount-rootfs", rootfs.mount, rootfs.unmount, "merge the layers into one tree"),
    Step("write-hostname", files.write_hostname, None, "hostname: -h, or twelve digits of the id"),
    Step("write-hosts", files.write_hosts, None, "hosts: the local names and --add-host"),
    Step("write-resolv-conf", files.write_resolv_conf, None, "resolv.conf, and its hash beside it"),
    Step("mount-shm", files.mount_shm, files.unmount_shm, "shm: a tmpfs for /dev/shm"),
    Step("open-log", logs.open_log, None, "the json log, which goes on over restarts"),
    Step("make-cgroup", cgroup.make, cgroup.remove, "a cgroup directory in every hierarchy"),
    Step("write-config", bundle.write_config, bundle.remove, "config.json, the runtime's world"),
    Step("open-fifos", io.open_fifos, io.close_fifos, "named pipes towards the shim"),
    Step("call-containerd", call.call_containerd, call.kill, "over gRPC, and wait for the pid"),
    Step("record-running", store.record_running, None, "config.v2.json: who runs since when"),
)
HERE = [step for step in START if step.name != "call-containerd"]  # what dockerd itself undoes

TOLD_S = 0.01  # between the answer to who waits and the answer to who started
NOT_FOUND, NOT_EXECUTABLE, NOT_STARTED = 127, 126, 128


class Start:
    """What the steps work on: one start of one container."""

    def __init__(self, daemon: Daemon, container: Container) -> None:
        self.daemon, self.container = daemon, container
        self.cgroup_parent = container.host.cgroup_parent or daemon.config.cgroup_parent
        self.runtime = daemon.runtime_of(container)
        self.pid = 0


async def start(daemon: Daemon, container: Container) -> None:
    """Start a container; on return its program runs.

    Raises NotModified where it runs, Conflict where it is being removed, BadParameter
    where its program cannot be executed, ServerError for all else; then every step is
    undone, and with `--rm` the container is gone.
    """
    try:
        await start_locked(daemon, container)
    except ApiError:
        if container.host.auto_remove and container.record.state.error:
            await daemon.remove(container, force=True, volumes=True)
            # `docker run --rm` waits for the removal and gives up waiting on an error
            await asyncio.sleep(TOLD_S)
        raise


async def start_locked(daemon: Daemon, container: Container) -> None:
    """Go through the steps, alone with the container. Raises as `start` does."""
    async with container.lock:
        if daemon.closing:
            raise ShuttingDown("the daemon is shutting down")
        if container.record.state.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.running:
            raise NotModified
        if container.removed or container.record.state.dead:
            raise Conflict("container is marked for removal and cannot be started")
        state = container.record.state
        state.error, state.exit_code = "", 0
        work = Start(daemon, container)
        try:
            await steps.run_async(START, work)
        except (ApiError, OSError, RuntimeFailure) as error:
            await failed(daemon, container, error)
        container.streams.pump()
    if io.is_mute(container):
        container.streams.close_stdin()
        daemon.later(daemon.containerd.close_stdin(container))
    daemon.publish(container, "start")
    await container.announce()


async def failed(daemon: Daemon, container: Container, error: Exception) -> None:
    """Record why a start failed and raise what the client is told."""
    message = message_of(error)
    state = container.record.state
    state.exit_code, state.error = exit_code(message), message
    try:
        container.save_record()
    except OSError as unsaved:
        message += f" (and its record could not be written: {unsaved.strerror})"
    container.streams.finish()
    daemon.publish(container, "die", exitCode=str(state.exit_code))
    await container.announce()
    if isinstance(error, ApiError):
        raise error
    kind = ServerError if state.exit_code == NOT_STARTED else BadParameter
    raise kind(message) from error


def message_of(error: Exception) -> str:
    """Return one line for an error of any step."""
    if isinstance(error, ApiError):
        return error.message
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"cannot start: no space left on device: {error.filename or ''}".rstrip(": ")
    return str(error)


def exit_code(message: str) -> int:
    """Return 127 for a program that is not there, 126 for one that may not run, else 128.

    Source: era.md section 7.
    """
    if not re.search(r"\bexec(:| |utable)|starting container process", message):
        return NOT_STARTED
    if re.search(
        "executable file not found|no such file or directory|not a directory",
        message,
        re.IGNORECASE,
    ):
        return NOT_FOUND
    if re.search("permission denied|exec format error|is a directory", message, re.IGNORECASE):
        return NOT_EXECUTABLE
    return NOT_STARTED
