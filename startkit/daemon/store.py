"""Containers: in memory, and as `containers/ID/{config.v2.json,hostconfig.json}`.

Rule: a file is written whole or not at all (temporary file, fsync, rename). What a
start makes beside them belongs to `files`, `bundle` and `io`.
Source: article, heading on the files inside the container; era.md section 3.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from startkit.daemon import names
from startkit.daemon.errors import BadParameter, Conflict, NotFound
from startkit.daemon.types import HostConfig, Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from startkit.daemon.io import Streams
    from startkit.daemon.start import Start

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
HEX = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger("dockerd")


def now() -> str:
    """Return the time as RFC 3339 with nanoseconds, in UTC."""
    return rfc3339(datetime.now(UTC))


def rfc3339(moment: datetime) -> str:
    """Return a UTC time in Go's RFC3339Nano: trailing zeros of the fraction are cut."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


class Container:
    """One container. `record` and `host` are what the disk holds, the rest is of this run.

    `dir` is its directory under the data root, `bundle` the one under the exec root.
    `lock` keeps start, stop and remove apart; `changed` wakes whoever waits for a state.
    """

    def __init__(
        self, directory: Path, bundle: Path, record: Record, host: HostConfig, streams: Streams
    ) -> None:
        self.dir, self.bundle, self.streams = directory, bundle, streams
        self.record, self.host = record, host
        self.rootfs: Path | None = None
        self.cgroups: list[Path] = []
        self.lock = asyncio.Lock()
        self.changed = asyncio.Condition()
        self.runs = 0  # how often it has ended since the daemon came up: what `next-exit` counts
        self.removed = False

    @property
    def id(self) -> str:
        """The 64 hexadecimal digits."""
        return self.record.id

    @property
    def name(self) -> str:
        """The name, without Docker's leading slash."""
        return self.record.name.removeprefix("/")

    @property
    def running(self) -> bool:
        """Whether its init is alive, as far as the daemon has been told."""
        return self.record.state.running

    @property
    def hostname(self) -> str:
        """The short host name: `-h`, or the id's first twelve digits."""
        return self.record.config.hostname

    def save(self) -> None:
        """Write both files. Raises OSError, with the old files still whole."""
        write(self.dir / "hostconfig.json", msgspec.json.encode(self.host), mode=0o644)
        self.save_record()

    def save_record(self) -> None:
        """Write config.v2.json alone: a HostConfig does not change after create."""
        write(self.dir / "config.v2.json", msgspec.json.encode(self.record))

    async def announce(self) -> None:
        """Wake everyone who waits for a change of state."""
        async with self.changed:
            self.changed.notify_all()


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` with `data` atomically. Raises OSError, and leaves no temporary file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sweep(directory: Path) -> None:
    """Remove the temporary files of a daemon that was killed while it wrote."""
    for temporary in directory.glob(".*.????????"):
        temporary.unlink(missing_ok=True)


def set_aside(path: Path, error: Exception) -> None:
    """Rename what is unreadable to `NAME.broken`, to be looked at; log one line."""
    aside = path.with_name(f"{path.name}.broken")
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    log.warning("%s set aside as %s: %s", path.name[:12], aside, error)


def check_own(record: Record, directory: str) -> None:
    """Raise ValueError for a record that leads elsewhere than to its own directory and layers."""
    if record.id != directory or not HEX.fullmatch(record.mount_id):
        raise ValueError(f"the record is of {record.id[:12]!r} on {record.mount_id[:12]!r}")


def record_running(start: Start) -> None:
    """Step: write down that the container runs. Raises OSError, and then it does not say so."""
    container, before = start.container, start.container.record
    state = msgspec.structs.replace(before.state, running=True, pid=start.pid, started_at=now())
    container.record = msgspec.structs.replace(
        before, state=state, has_been_started_before=True, has_been_manually_stopped=False
    )
    try:
        container.save_record()
    except OSError:
        container.record = before
        raise


class Store:
    """All containers of one daemon, found by id, id prefix or name."""

    def __init__(self, root: Path, bundles: Path) -> None:
        self.root, self.bundles = root, bundles
        self.containers: dict[str, Container] = {}
        self.names: dict[str, str] = {}

    def __iter__(self) -> Iterator[Container]:
        """Go through a copy: callers remove containers on the way."""
        return iter(list(self.containers.values()))

    def load(self) -> Iterator[tuple[Record, HostConfig]]:
        """Read every container back from disk.

        An unreadable one is set aside as `ID.broken`, so that its files can be looked at.
        """
        for directory in sorted(self.root.iterdir()):
            if not HEX.fullmatch(directory.name):
                continue
            sweep(directory)
            try:
                record = msgspec.json.decode(
                    (directory / "config.v2.json").read_bytes(), type=Record
                )
                host = msgspec.json.decode(
                    (directory / "hostconfig.json").read_bytes(), type=HostConfig
                )
                check_own(record, directory.name)
            except (OSError, ValueError, RecursionError) as error:  # msgspec's are ValueErrors
                set_aside(directory, error)
                continue
            yield record, host

    def add(self, container: Container) -> None:
        """Take a container in under its id and its name."""
        self.containers[container.id] = container
        self.names[container.name] = container.id

    def forget(self, container: Container) -> None:
        """Drop a container from memory."""
        self.containers.pop(container.id, None)
        self.names.pop(container.name, None)

    def find(self, ref: str) -> Container:
        """Return the container of an id, a name or a unique id prefix.

        Raises NotFound, or BadParameter where a prefix fits several.
        """
        key = ref.removeprefix("/")
        if key in self.containers:
            return self.containers[key]
        if key in self.names:
            return self.containers[self.names[key]]
        fits = [c for i, c in self.containers.items() if key and i.startswith(key)]
        if len(fits) > 1:
            raise BadParameter(f"Multiple IDs found with provided prefix: {key}")
        if not fits:
            raise NotFound(f"No such container: {ref}")
        return fits[0]

    def free_name(self, wanted: str | None) -> str:
        """Return `wanted`, or a drawn name that nobody has. Raises BadParameter or Conflict."""
        if not wanted:
            return names.draw(taken=self.names)
        name = wanted.removeprefix("/")
        if not NAME.fullmatch(name):
            raise BadParameter(
                f"Invalid container name ({wanted}), "
                f"only {NAME.pattern.replace('+', '')} are allowed"
            )
        if name in self.names:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{self.names[name]}". You have to remove (or rename) that container '
                "to be able to reuse that name."
            )
        return name
