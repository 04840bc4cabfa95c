"""What a daemon does about the life of an earlier one, and of an earlier containerd.

Rule: what runs is taken up, what has ended meanwhile is finished, what was begun and
cut off is undone, what no record tells of is ended; afterwards the records say what is so.
"""

from __future__ import annotations

import contextlib
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from startkit import steps
from startkit.daemon import call, cgroup, describe, io, store
from startkit.daemon.errors import ApiError
from startkit.daemon.start import HERE, Start
from startkit.daemon.types import Config, HostConfig, Record, State

if TYPE_CHECKING:
    from startkit.daemon.engine import Daemon
    from startkit.daemon.store import Container

UNKNOWN_STATUS = 255  # of an end that nobody has seen


async def settle(daemon: Daemon) -> None:
    """Settle the starts that an earlier daemon's death has cut off.

    One that containerd went on with is recorded as running, even where it has ended.
    """
    living = await daemon.containerd.living_when(lambda pids: 0 not in pids.values())
    exits = await daemon.containerd.last_exits()
    for container in daemon.store:
        if container.running:
            continue
        start, ended = Start(daemon, container), exits.get(container.id)
        finished = describe.seconds(container.record.state.finished_at)
        if container.id in living or (ended and ended.timestamp.ToNanoseconds() / 1e9 > finished):
            start.pid = living.get(container.id, 0)
            try:
                store.record_running(start)
            except OSError as error:
                daemon.warn(f"container {container.id[:12]} runs and is not recorded: {error}")
        else:
            container.cgroups = cgroup.directories(start)
            steps.undo(HERE, start)


async def reconcile(daemon: Daemon) -> None:
    """Compare what is recorded as running with what containerd has."""
    living, exits = await daemon.containerd.living(), await daemon.containerd.last_exits()
    for container in daemon.store:
        if not container.running:
            continue
        rejoin(daemon, container)
        if container.id not in living:
            ended = exits.get(container.id)
            daemon.on_exit(container.id, ended.status if ended else UNKNOWN_STATUS)


def rejoin(daemon: Daemon, container: Container) -> None:
    """Take up a container that an earlier daemon started: its tree, cgroups and streams."""
    if container.streams.ends:
        return
    container.cgroups = cgroup.directories(Start(daemon, container))
    try:
        container.rootfs = daemon.driver.mount(container.record.mount_id)
        container.streams.open()
        if io.is_mute(container):
            container.streams.close_stdin()
    except (OSError, ApiError) as error:
        daemon.warn(f"container {container.id[:12]}: its rootfs or streams are lost: {error}")
    container.streams.pump()


async def end_lost(daemon: Daemon) -> None:
    """End what containerd has, or a bundle is there of, and no record: it was set aside.

    Its layers stay, as its directory does.
    """
    bundles = {path.name for path in daemon.store.bundles.iterdir()}
    begun = (await daemon.containerd.living()).keys() | set(filter(store.HEX.fullmatch, bundles))
    for container_id in begun - daemon.store.containers.keys():
        try:
            container = lost(daemon, container_id)
            start = Start(daemon, container)
            container.cgroups = cgroup.directories(start)
            container.streams.open()
            with contextlib.suppress(ApiError):  # a paused one would not die
                await daemon.containerd.pause(container, paused=False)
            await call.kill(start)
            await container.streams.drained()
            steps.undo(HERE, start)
            container.streams.finish()
            daemon.warn(f"container {container_id[:12]} has no record: ended and cleared away")
        except (OSError, ApiError, LookupError, TypeError, ValueError) as error:
            daemon.warn(f"container {container_id[:12]} has no record, and is not ended: {error}")


def lost(daemon: Daemon, container_id: str) -> Container:
    """Return a container without a record, as its bundle's config.json tells of it.

    Raises OSError, LookupError, TypeError, ValueError: that is unreadable, too, or not ours.
    """
    bundle = daemon.store.bundles / container_id
    document: dict[str, Any] = msgspec.json.decode((bundle / "config.json").read_bytes())
    rootfs, tty = Path(document["root"]["path"]), document["process"]["terminal"]
    [mount_id] = filter(store.HEX.fullmatch, rootfs.relative_to(daemon.config.root).parts)
    record = Record(
        state=State(), id=container_id, created="", path="", args=[], name="", image="",
        config=Config(tty=tty), driver=daemon.driver.name, log_path="",
        mount_id=mount_id,
    )  # fmt: skip
    host = HostConfig(cgroup_parent=posixpath.dirname(document["linux"]["cgroupsPath"]))
    directory = daemon.store.root / f"{container_id}.broken"
    streams = io.Streams(directory, bundle, container_id, tty)
    return store.Container(directory, bundle, record, host, streams)
