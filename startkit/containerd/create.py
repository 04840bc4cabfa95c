"""CreateContainer: from a request to a running program, as named steps."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from startkit import steps
from startkit.containerd import shims
from startkit.containerd.state import Process
from startkit.steps import Step

if TYPE_CHECKING:
    from startkit.containerd.container import Container


def write_state(container: Container) -> None:
    """Write the state directory: what is asked for, before anything is done."""
    container.load_program()
    wanted = container.state
    process = Process(
        id=container.id,
        bundle=wanted.bundle,
        terminal=container.program.terminal,
        stdin=wanted.stdin,
        stdout=wanted.stdout,
        stderr=wanted.stderr,
        runtime=wanted.runtime,
        runtime_args=wanted.runtime_args,
        no_pivot_root=wanted.no_pivot_root,
    )
    container.directory.write(wanted, process)


def remove_state(container: Container) -> None:
    """Remove the state directory."""
    container.directory.remove()


def open_pipes(container: Container) -> None:
    """Open `exit` and `control` before the shim does, which then cannot find them unread."""
    container.open_pipes()


def close_pipes(container: Container) -> None:
    """Close `exit` and `control`."""
    container.close_pipes()


def spawn_shim(container: Container) -> None:
    """Start the shim; the next step waits for it."""
    container.shim = shims.spawn(container.directory.init, *container.words())


async def await_report(container: Container) -> None:
    """Wait until the user's program runs. A shim that fails has undone its work.

    Raises ShimError; what a dead shim could not undo has been cleaned up.
    """
    assert container.shim
    try:
        await shims.hear(container.shim)
    except BaseException as error:
        if isinstance(error, CancelledError):  # we end; the shim would live as long as its program
            shims.kill_group(container.shim)
        await shims.reap(container.shim)
        if container.shim.returncode != 1:  # it did not end by itself
            shims.kill_group(container.shim)
            await shims.clean_up(container.directory.init, *container.words())
        raise


CREATE = (
    Step("write-state", write_state, remove_state, says="state.json, process.json, two FIFOs"),
    Step("open-pipes", open_pipes, close_pipes, says="exit from the shim, control to it"),
    Step("spawn-shim", spawn_shim, says="one small process a container, in its own group"),
    Step("await-report", await_report, says="the shim says init's pid, or what failed"),
)


async def create(container: Container) -> None:
    """Do all the steps, or none. Raises OSError, MsgspecError, ShimError."""
    await steps.run_async(CREATE, container)
