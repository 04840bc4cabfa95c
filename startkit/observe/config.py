"""The bundle: found through the shim, then read.

Rule: nothing is assumed about where an engine keeps its bundles. State.Pid's parent
is the shim; its working directory or one of its arguments names the bundle. A document
that is not shaped as the OCI says gives None or nothing, no exception.

Source: era 8, last paragraph; article, headings "准备OCI需要的bundle" and "准备IO文件";
OCI runtime-spec, config.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from startkit.observe import disk, procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from startkit.observe.evidence import Process

LIMIT = 4 << 20


class MountSpec(NamedTuple):
    """One entry of config.json's mounts; all None where there is none for the destination."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: list[str] | None = None


class Config:
    """config.json of a bundle."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def at(self, pointer: str) -> Any:
        """Return the value at a JSON pointer, or None. Source: RFC 6901."""
        value: Any = self.document
        for word in pointer.split("/")[1:]:
            key = word.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict):
                value = value.get(key)
            else:
                return None
        return value

    @property
    def mounts(self) -> list[MountSpec]:
        """The mounts in order."""
        found = self.at("/mounts")
        rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
        return [
            MountSpec(
                str(row.get("destination")), row.get("type"), row.get("source"), row.get("options")
            )
            for row in rows
        ]

    def mount(self, destination: str) -> MountSpec:
        """Return the last mount on a destination, which is the one that shows."""
        found = [mount for mount in self.mounts if mount.destination == destination]
        return found[-1] if found else MountSpec(destination)

    @property
    def env(self) -> list[str]:
        """The environment in order, `K=V`."""
        return self.at("/process/env") or []

    @property
    def namespaces(self) -> list[str]:
        """The types of the namespaces in order."""
        found = self.at("/linux/namespaces")
        rows = found if isinstance(found, list) else []
        return [str(row.get("type")) for row in rows if isinstance(row, dict)]


def places(shim: Process) -> Iterator[str]:
    """Yield the directories that a shim names: its arguments, then where it stands."""
    for word in shim.argv[1:]:
        value = word.partition("=")[2] if word.startswith("-") else word
        if value.startswith("/"):
            yield value
    if shim.cwd:
        yield shim.cwd


def find_bundle(shim: Process) -> str | None:
    """Return the directory with config.json, real path, or None."""
    for place in places(shim):
        for directory in (place, os.path.dirname(place)):
            if disk.kind_of(os.path.join(directory, "config.json")) == "file":
                return os.path.realpath(directory)
    return None


def read_config(bundle: str) -> dict[str, Any] | None:
    """Return config.json, or None when it is no JSON object of a sane size."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # nor wait, if it is a FIFO by now
        with open(os.open(os.path.join(bundle, "config.json"), flags), "rb") as file:
            config = msgspec.json.decode(file.read(LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def find_rootfs(bundle: str, config: dict[str, Any]) -> str | None:
    """Return the place that root.path of config.json names, as a mount table would."""
    root = config.get("root")
    path = root.get("path") if isinstance(root, dict) else None
    return os.path.realpath(os.path.join(bundle, path)) if isinstance(path, str) else None


def find_state_dir(shim: Process, container: str) -> str | None:
    """Return containerd's directory of the container: the one above the shim named after it."""
    head, found, _ = shim.cwd.partition(f"/{container}")
    return head + found if found and disk.entry(head + found) else None


def bundle_files(bundle: str) -> dict[str, Any]:
    """Return what stands directly in the bundle; a rootfs inside is not walked."""
    names = sorted(os.listdir(bundle)) if os.path.isdir(bundle) else []
    found = {
        procfs.printable(name): disk.entry(os.path.join(bundle, name))
        for name in names[: disk.NAMES_LIMIT]
    }
    return {name: seen for name, seen in found.items() if seen}


def graph_driver_place(inspect: dict[str, Any]) -> str | None:
    """Return GraphDriver.Data.MergedDir of an inspected container."""
    driver = inspect.get("GraphDriver")
    data = driver.get("Data") if isinstance(driver, dict) else None
    place = data.get("MergedDir") if isinstance(data, dict) else None
    return place if isinstance(place, str) else None


def exec_root(daemon: Process | None) -> str:
    """Return the daemon's --exec-root or --runroot, real path; else dockerd's default."""
    argv = daemon.argv if daemon else []
    told = procfs.option(argv, "--exec-root") or procfs.option(argv, "--runroot")
    return os.path.realpath(told) if told else "/run/docker"
