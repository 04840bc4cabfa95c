"""config.json as a test reads it: by what it describes, not by its place in the file.

Rule: a document that is not shaped as the OCI says gives None or nothing, no exception.
Source: OCI runtime-spec, config.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple


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
