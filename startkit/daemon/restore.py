"""What a daemon does about the life of an earlier one, and of an earlier containerd.

Rule: what runs is taken up, what has ended meanwhile is finished, what was begun and
cut off is undone; afterwards the records say what is so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from startkit import steps
from startkit.daemon import cgroup, describe, io, store
from startkit.daemon.errors import ApiError
from startkit.daemon.start import HERE, Start

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
