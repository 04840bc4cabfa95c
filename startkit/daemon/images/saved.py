"""A `docker save` archive: manifest.json, configurations, layers.

The archive is a file on disk (a spooled body), read at random and never unpacked as
a whole. Links between its entries are followed inside the archive only.
Source: Docker image-spec v1.2, combined image and filesystem changeset format.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from startkit.daemon.archive import Member
from startkit.daemon.errors import BadParameter
from startkit.daemon.tarstream import HEADER_MAX, BadArchive

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG_MAX = 16 * 1024 * 1024
LINKS_MAX = 10


class Entry(msgspec.Struct, rename="pascal"):
    """One image of manifest.json."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class Bounded(io.RawIOBase):
    """A file of which no header makes us read more than HEADER_MAX bytes at once."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file = file

    def read(self, size: int = -1) -> bytes:
        """Read. Raises BadArchive for a huge header."""
        if not 0 <= size <= HEADER_MAX:
            raise BadArchive(f"header of {size} bytes")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek in the file."""
        return self.file.seek(offset, whence)

    def seekable(self) -> bool:
        """Say yes: tarfile's readers ask."""
        return True

    def tell(self) -> int:
        """Return where the file stands."""
        return self.file.tell()


class Saved:
    """The entries of an archive, by name; the last one of a name wins."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self.archive = tarfile.open(  # noqa: SIM115 -- the file is the caller's to close
                fileobj=Bounded(file), mode="r:", tarinfo=Member
            )
            self.members = {posixpath.normpath(m.name): m for m in self.archive}
        except (tarfile.TarError, ValueError) as error:
            raise BadArchive(f"not a tar archive, or a cut one: {error}") from None

    def entries(self) -> list[Entry]:
        """Return the images of manifest.json. Raises BadParameter where there is none."""
        if "manifest.json" not in self.members:
            raise BadParameter("no manifest.json in the archive: not made by docker save")
        try:
            return msgspec.json.decode(self.read("manifest.json"), type=list[Entry])
        except msgspec.DecodeError as error:
            raise BadParameter(f"invalid manifest.json: {error}") from None

    def member(self, name: str) -> tarfile.TarInfo:
        """Return a file of the archive, following links. Raises BadParameter."""
        path = posixpath.normpath(name)
        for _ in range(LINKS_MAX):
            found = self.members.get(path)
            if found is None:
                break
            if found.issym():
                path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.linkname))
            elif found.islnk():
                path = posixpath.normpath(found.linkname)
            elif found.isreg():
                return found
            else:
                break
        raise BadParameter(f"invalid archive: no file {name!r}")

    def open(self, name: str) -> BinaryIO:
        """Return a file of the archive for reading."""
        return cast("BinaryIO", self.archive.extractfile(self.member(name)))

    def read(self, name: str) -> bytes:
        """Return a document of the archive. Raises BadParameter where it is too large."""
        if self.member(name).size > CONFIG_MAX:
            raise BadParameter(f"invalid archive: {name!r} is too large")
        with self.open(name) as file:
            return b"".join(blocks(file))


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """Go through a file. Raises BadArchive where the archive ends in the middle of it."""
    try:
        while block := file.read(64 * 1024):
            yield block
    except tarfile.ReadError as error:
        raise BadArchive(str(error)) from None
