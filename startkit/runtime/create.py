"""`create`: from a bundle to an init that waits for `start`.

Rule: CREATE is the whole of it; each step that leaves something behind has its undo, and a
failure at any point runs them in reverse, so that nothing is left.

Source: OCI runtime.md Lifecycle, steps 1 to 5.
"""

from __future__ import annotations

import os

from startkit import kernel, steps
from startkit.runtime import bundle, cgroup, init, mounts, namespaces, state
from startkit.runtime.text import ContainerError, json_text, parse_json, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from startkit.runtime import seccomp
    from startkit.runtime.text import Log


class Creation:
    """One `create` in progress: what was asked for, and what has been made so far."""

    container: state.Container
    cgroups: cgroup.Cgroups

    def __init__(self, root: str, container_id: str, found: bundle.Bundle, log: Log) -> None:
        self.root, self.id, self.bundle, self.log = root, container_id, found, log
        self.mounts = parse_mounts(found.config.get("mounts") or [])
        self.filter = compile_filter(found.linux.get("seccomp"))
        self.pid_file: str | None = None
        self.console_socket: str | None = None
        self.console: Any = None
        self.pivot = True
        self.new_keyring = True
        self.preserve_fds = 0
        self.pid = 0
        # (read end, write end) towards init and back
        self.down = (-1, -1)
        self.up = (-1, -1)

    def runtime_hooks(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Return the hooks that run outside of the container before its root changes."""
        kinds = ("prestart", "createRuntime")
        return [(kind, self.bundle.hooks(kind)) for kind in kinds if self.bundle.hooks(kind)]

    def tell(self, message: dict[str, Any]) -> None:
        """In init: send one line to the runtime."""
        os.write(self.up[1], json_text(message).encode() + b"\n")

    def wait_for(self, word: str) -> None:
        """In init: wait for the runtime's word; it dying instead is the end."""
        if os.read(self.down[0], 64) != word.encode():
            os._exit(1)


def parse_mounts(entries: list[dict[str, Any]]) -> list[mounts.Mount]:
    """Return the config's mounts. Raises ContainerError naming the entry with the odd option."""
    found = []
    for index, entry in enumerate(entries):
        try:
            found.append(mounts.Mount(entry))
        except ContainerError as error:
            raise ContainerError(f"config.json /mounts/{index}: {error}") from None
    return found


def compile_filter(profile: dict[str, Any] | None) -> seccomp.Filter | None:
    """Translate a seccomp profile while nothing has been made yet. Raises ContainerError."""
    if not profile:
        return None
    from startkit.runtime.seccomp import compile_profile

    return compile_profile(profile)


def create(creation: Creation) -> state.Container:
    """Create a container. Raises ContainerError, with everything undone."""
    try:
        steps.run(CREATE, creation)
    finally:
        if creation.console is not None:
            creation.console.close()  # init has its own copy
    return creation.container


def make_state(creation: Creation) -> None:
    """Claim the id, connect the console socket; both before anything costs something."""
    check_terminal(creation)
    creation.container = state.new_container(creation.root, creation.id, creation.bundle)
    fifo = creation.container.fifo
    linux = creation.bundle.linux
    try:
        os.mkfifo(fifo)
        os.chmod(fifo, 0o622)  # init opens it as the container's user
        if creation.console_socket:
            from startkit.runtime import console

            creation.console = console.connect(creation.console_socket)
        creation.cgroups = cgroup.find_cgroups(linux.get("cgroupsPath") or "", creation.id)
        own_pids = creation.container.record["ownPids"]
        warning = cgroup.check_use(creation.cgroups, own_pids=own_pids)
        if warning:
            creation.log.warning(warning)
        creation.container.record["cgroups"] = list(creation.cgroups.directories.values())
        if creation.pid_file:
            creation.container.record["pidFile"] = os.path.abspath(creation.pid_file)
        creation.container.save()
    except BaseException:
        creation.container.remove()
        raise


def check_terminal(creation: Creation) -> None:
    """Refuse a terminal without somebody to take it, and the other way round."""
    terminal = bool(creation.bundle.process.get("terminal"))
    taken = bool(creation.console_socket) or creation.console is not None
    if terminal and not taken:
        raise ContainerError("cannot allocate tty if we will detach without setting console socket")
    if taken and not terminal:
        raise ContainerError("cannot use console socket if we will not allocate tty")


def remove_state(creation: Creation) -> None:
    """Undo `make_state`."""
    creation.container.remove()


def make_cgroups(creation: Creation) -> None:
    """Make the cgroups with their limits."""
    cgroup.make(creation.cgroups, creation.bundle.linux.get("resources") or {})


def remove_cgroups(creation: Creation) -> None:
    """Undo `make_cgroups`, down to the parents that were made on the way."""
    cgroup.remove(creation.cgroups.made)


def clone_init(creation: Creation) -> None:
    """Clone init into its namespaces and its v2 cgroup; in there this never returns."""
    creation.down, creation.up = os.pipe(), os.pipe()
    unified = cgroup.open_unified(creation.cgroups)
    entries = creation.bundle.linux.get("namespaces") or []
    init.import_late(creation)
    foreign = "user" in creation.bundle.namespace_types()
    binds = [mount for mount in creation.mounts if mount.bind and foreign]
    for mount in binds:
        mounts.open_source(mount, creation.bundle.path)
    # Init is born unreachable, for it may be born among a container's processes.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    creation.log.debug("nsexec container setup: clone into the namespaces")
    pid = namespaces.start_init(entries, unified)
    for mount in binds if pid else ():
        os.close(mount.tree)
    if pid == 0:
        os.close(creation.down[1])
        os.close(creation.up[0])
        if unified is not None:  # of the host: `..` leads anywhere from there, CVE-2024-21626
            os.close(unified)
        init.main(creation)
    os.close(creation.down[0])
    os.close(creation.up[1])
    if unified is not None:
        os.close(unified)
    creation.pid = pid
    creation.container.record["pid"] = pid
    creation.container.record["startTime"] = state.look_at(pid)[0]
    creation.container.save()


def kill_init(creation: Creation) -> None:
    """Undo `clone_init`: kill init and everything that does not end with it."""
    os.kill(creation.pid, 9)  # it cannot be gone: we are its parent and have not reaped it
    os.waitpid(creation.pid, 0)
    if not creation.container.record["ownPids"]:
        cgroup.signal_all(list(creation.cgroups.directories.values()), 9)


def accompany_init(creation: Creation) -> None:
    """Do for init what only the runtime can, until it says that it is ready.

    Raises ContainerError with init's own words.
    """
    with open(creation.up[0], encoding="utf-8") as lines, open(creation.down[1], "wb", 0) as down:
        if creation.bundle.linux.get("uidMappings"):
            namespaces.map_ids(creation.pid, creation.bundle.linux)
            down.write(b"mapped")
        for line in lines:
            message = parse_json(line)
            if "error" in message:
                raise ContainerError(message["error"])
            if "warning" in message:
                creation.log.warning(message["warning"])
            if "listener" in message:
                hand_over_listener(creation, message["listener"])
                down.write(b"heard")
            if "hooks" in message:
                run_runtime_hooks(creation)
                down.write(b"hooked")
            if "ready" in message:
                creation.log.debug("init: closing the pipe to signal completion")
                return
    raise ContainerError("init died before it was ready")


def hand_over_listener(creation: Creation, number: int) -> None:
    """Give the listener of init's seccomp filter to the agent."""
    from startkit.runtime import listener

    container = creation.container
    assert creation.filter is not None
    listener.hand_over(creation.filter, container.describe("creating"), creation.pid, number)


def run_runtime_hooks(creation: Creation) -> None:
    """Run prestart and createRuntime hooks, outside, while init waits with everything mounted."""
    from startkit.runtime import hooks

    for kind, found in creation.runtime_hooks():
        hooks.run_hooks(kind, found, creation.container.describe("creating"))


def write_pid_file(creation: Creation) -> None:
    """Write init's pid to where the caller wants it, atomically."""
    if creation.pid_file:
        try:
            state.write_file(creation.pid_file, str(creation.pid), mode=0o644)
        except OSError as error:
            raise ContainerError(f"pid file {reason(error)}") from None


CREATE = (
    steps.Step("make-state", make_state, remove_state, "claim the id in the state directory"),
    steps.Step("make-cgroups", make_cgroups, remove_cgroups, "a cgroup per hierarchy, with limits"),
    steps.Step("clone-init", clone_init, kill_init, "one clone into all new namespaces"),
    steps.Step("accompany-init", accompany_init, says="map ids, run hooks, wait until it is ready"),
    steps.Step("write-pid-file", write_pid_file, says="tell the caller init's pid"),
)
