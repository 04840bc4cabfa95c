"""Who waits for containers to end, and finds them again after a restart.

Rule: the end of `exit` is the only news of a container's end, whether the shim
left in order, was killed, or died while no containerd was there to see it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import msgspec

from startkit.containerd import container as containers
from startkit.containerd.state import StateDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from startkit.containerd.container import Container

log = logging.getLogger("containerd")


class Monitor:
    """Watches containers; `on_exit` hears of each end, after the clean-up.

    `on_start` hears of it before: there may be a start that nobody has been told of.
    """

    def __init__(
        self, on_start: Callable[[Container], None], on_exit: Callable[[Container, int], None]
    ) -> None:
        self.on_start, self.on_exit = on_start, on_exit
        self.endings: set[asyncio.Task[None]] = set()

    def watch(self, container: Container) -> None:
        """Wait for the end of a container's `exit`."""
        asyncio.get_running_loop().add_reader(container.exit, self.look, container)

    def look(self, container: Container) -> None:
        """End the container when `exit` has ended; nobody ever writes into it."""
        if os.read(container.exit, 1):
            return
        asyncio.get_running_loop().remove_reader(container.exit)
        ending = asyncio.create_task(self.end(container))
        self.endings.add(ending)
        ending.add_done_callback(self.endings.discard)

    async def end(self, container: Container) -> None:
        """Learn the status, remove the state directory, and tell."""
        status = await container.ended()
        self.on_start(container)
        container.forget()
        log.info("container %s exited with %d", container.id, status)
        self.on_exit(container, status)


def find_containers(root: Path) -> list[Container]:
    """Return the containers that an earlier containerd left in its state directory.

    A directory that is not whole was never answered for: it is removed.
    """
    found = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        directory = StateDirectory(root, path.name)
        try:
            found.append(containers.found(directory))
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s: %s: removed", path.name, error)
            directory.remove()
    return found
