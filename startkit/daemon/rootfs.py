"""The container's root file system: its layers, merged.

Rule: how layers are merged is the graph driver's affair; here only that they are.
Source: article, heading on the rootfs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from startkit.daemon.start import Start


def mount(start: Start) -> None:
    """Step: merge the container's layers into one tree. Raises ServerError, OSError."""
    container = start.container
    container.rootfs = start.daemon.driver.mount(container.record.mount_id)


def unmount(start: Start) -> None:
    """Undo of `mount`: the layers stay, the merged tree goes."""
    start.daemon.driver.unmount(start.container.record.mount_id)
    start.container.rootfs = None
