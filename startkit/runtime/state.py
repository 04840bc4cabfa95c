"""A container's state: one directory under the runtime's root, and the init process.

Rule: status is never stored, it is read off the kernel each time: an init that is gone or a
zombie is `stopped`, one that has never executed a program is `created`, any other `running`.
state.json is written whole and renamed into place.

    ROOT/ID/state.json   what `delete` needs, should everything else be gone
    ROOT/ID/exec.fifo    init waits in open(2) on it until `start` does the same

Source: OCI runtime-spec, runtime.md, State.
"""

from __future__ import annotations

import os
import time

from startkit.runtime.text import ContainerError, json_text, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ID_MARKS = frozenset("_+-.")
FORKNOEXEC = 0x40


class Container:
    """One container as it stands in its state directory.

    `record` is state.json: ociVersion id pid bundle rootfs annotations created, `startTime` (of
    init, in clock ticks since boot), `cgroups` (directories, the deepest ones), `ownPids` (whether
    all processes end with init, which has a new pid namespace), `hooks` and, from
    `create`, `pidFile` (absolute; a killed `create` leaves its `.new`).
    """

    def __init__(self, root: str, container_id: str, record: dict[str, Any]) -> None:
        self.id = container_id
        self.directory = os.path.join(root, container_id)
        self.record = record

    @property
    def pid(self) -> int:
        """Init's process id as the host sees it; 0 before it exists."""
        pid: int = self.record["pid"]
        return pid

    @property
    def fifo(self) -> str:
        """The path that `start` opens to let init go."""
        return os.path.join(self.directory, "exec.fifo")

    def status(self) -> str:
        """Return creating, created, running, paused or stopped."""
        if self.pid == 0:
            return "creating"
        if not self.is_alive():
            return "stopped"
        if is_frozen(self.record["cgroups"]):
            return "paused"
        return "created" if look_at(self.pid)[1] else "running"

    def is_alive(self) -> bool:
        """Whether init still is the process that was cloned, and no zombie."""
        started: int = self.record["startTime"]
        return started != 0 and look_at(self.pid)[0] == started

    def describe(self, status: str | None = None) -> dict[str, Any]:
        """Return the OCI state, as `state` prints it and as hooks get it on stdin."""
        status = status or self.status()
        record = self.record
        return {
            "ociVersion": record["ociVersion"],
            "id": self.id,
            "pid": 0 if status == "stopped" else self.pid,
            "status": status,
            "bundle": record["bundle"],
            "rootfs": record["rootfs"],
            "created": record["created"],
            "annotations": record["annotations"],
            "owner": "",
        }

    def save(self) -> None:
        """Write state.json: a reader sees the old file or the new one, never half of one."""
        write_file(os.path.join(self.directory, "state.json"), json_text(self.record))

    def remove(self) -> None:
        """Remove the state directory and the files that the runtime put there."""
        paths = [f"{self.directory}/{name}" for name in ("exec.fifo", "state.json.new")]
        if self.record.get("pidFile"):
            paths.append(self.record["pidFile"] + ".new")
        for path in (*paths, f"{self.directory}/state.json"):
            if os.path.lexists(path):
                os.unlink(path)
        os.rmdir(self.directory)


def write_file(path: str, text: str, mode: int = 0o600) -> None:
    """Write a small file atomically."""
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)


def is_frozen(cgroups: list[str]) -> bool:
    """Whether one of the directories is frozen.

    Not in freezer.py, which imports cgroup.py: `state` must not pay for that.
    """
    words = (("freezer.state", b"F"), ("cgroup.freeze", b"1"))
    return any(has_word(f"{path}/{name}", word) for path in cgroups for name, word in words)


def has_word(path: str, word: bytes) -> bool:
    """Whether a file is there and starts with `word`."""
    try:
        with open(path, "rb", 0) as file:
            return file.read(len(word)) == word
    except OSError:
        return False


def look_at(pid: int) -> tuple[int, bool]:
    """Return a process's start in clock ticks since boot, and whether it never executed a program.

    The start is 0 if it is gone or a zombie; with the pid it names one process for good.
    Source: proc(5), stat fields 22 and 9 (linux/sched.h, PF_FORKNOEXEC).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0, False
    return 0 if fields[0] in b"ZXx" else int(fields[19]), bool(int(fields[6]) & FORKNOEXEC)


def check_id(container_id: str) -> None:
    """Refuse an id that is not a plain file name. Raises ContainerError."""
    plain = container_id.isascii() and all(c.isalnum() or c in ID_MARKS for c in container_id)
    if not plain or container_id in ("", ".", "..") or len(container_id) > 1024:
        raise ContainerError("invalid container ID format")


def new_container(root: str, container_id: str, bundle: Any) -> Container:
    """Make the state directory; what is in it is the caller's.

    Raises ContainerError where the id is in use, having made nothing.
    """
    check_id(container_id)
    os.makedirs(root, 0o700, exist_ok=True)
    record = {
        "ociVersion": bundle.config["ociVersion"],
        "id": container_id,
        "pid": 0,
        "startTime": 0,
        "bundle": bundle.path,
        "rootfs": bundle.rootfs,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "annotations": bundle.config.get("annotations") or {},
        "cgroups": [],
        "ownPids": any(
            entry["type"] == "pid" and not entry.get("path")
            for entry in bundle.linux.get("namespaces") or ()
        ),
        "hooks": {kind: bundle.hooks(kind) for kind in ("poststart", "poststop")},
    }
    container = Container(root, container_id, record)
    try:
        # Passable for others: in a user namespace init is not the host's root, and
        # has to reach the FIFO. The names in there are no secret, state.json is 0600.
        os.mkdir(container.directory, 0o711)
    except FileExistsError:
        raise ContainerError("container with given ID already exists") from None
    return container


def remove_remains(root: str, container_id: str) -> None:
    """Remove the directory of a `create` that was killed before it could write state.json."""
    remains = Container(root, container_id, {})
    if os.path.isdir(remains.directory):
        remains.remove()


def load_container(root: str, container_id: str) -> Container:
    """Return a container that was created before. Raises ContainerError."""
    check_id(container_id)
    path = os.path.join(root, container_id, "state.json")
    try:
        with open(path, encoding="utf-8") as file:
            record = parse_json(file.read())
        if not isinstance(record, dict) or not record.keys() >= {"pid", "startTime", "cgroups"}:
            raise ValueError("is not the record of a container")
        return Container(root, container_id, record)
    except FileNotFoundError:
        raise ContainerError("container does not exist") from None
    except ValueError as error:
        raise ContainerError(f"{path}: {error}") from None


def list_containers(root: str) -> list[Container]:
    """Return all containers under a root, sorted by id."""
    found = []
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        try:
            found.append(load_container(root, name))
        except ContainerError:
            continue  # being created or deleted at this moment
    return found
