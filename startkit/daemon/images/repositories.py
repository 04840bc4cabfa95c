"""Names of images: `repositories.json`, in Docker's shape.

`{"Repositories": {"busybox": {"busybox:latest": "sha256:..."}}}`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from startkit.daemon.store import set_aside, sweep, write

if TYPE_CHECKING:
    from pathlib import Path

    from startkit.daemon.images.reference import Reference


class Repositories:
    """Name to id. Every change is written at once; a garbled file is set aside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, dict[str, str]] = {}
        sweep(path.parent)
        if path.exists():
            Names = dict[str, dict[str, dict[str, str]]]  # noqa: N806 -- a type
            try:
                self.names = msgspec.json.decode(path.read_bytes(), type=Names)["Repositories"]
            except (ValueError, LookupError, RecursionError) as error:
                set_aside(path, error)

    def find(self, reference: Reference) -> str | None:
        """Return the id that a name means."""
        tag = reference.tag or "latest"
        return self.names.get(reference.name, {}).get(f"{reference.name}:{tag}")

    def of(self, image_id: str) -> list[str]:
        """Return the names of an image, sorted."""
        return sorted(
            name for tags in self.names.values() for name, id_ in tags.items() if id_ == image_id
        )

    def set(self, reference: Reference, image_id: str) -> None:
        """Let a name with a tag mean an image from now on."""
        self.names.setdefault(reference.name, {})[str(reference)] = image_id
        self.save()

    def remove(self, reference: Reference) -> None:
        """Take a name with a tag away."""
        tags = self.names.get(reference.name, {})
        tags.pop(str(reference), None)
        if not tags:
            self.names.pop(reference.name, None)
        self.save()

    def save(self) -> None:
        """Write the file."""
        write(self.path, msgspec.json.encode({"Repositories": self.names}))
