"""Byte streams around an archive: decompressed, hashed, counted, forward only.

Rule: no header makes us read more into memory than HEADER_MAX, no archive makes us
write more than the disk has: what is read was compressed by somebody else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import tarfile
from typing import TYPE_CHECKING, BinaryIO, cast

from startkit.daemon.errors import BadParameter, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 256 * 1024
HEADER_MAX = 1024 * 1024  # a pax header; Go's archive/tar has the same limit
RESERVE = 4 * 1024 * 1024  # bytes that stay free, so that the daemon can still write its own files
FULL = (errno.ENOSPC, errno.EDQUOT)
# The machine's trouble; any other error of a system call is what the archive asked for.
OURS = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.EACCES)
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma", b"\x28\xb5\x2f\xfd": "zstd"}


class BadArchive(BadParameter):
    """The archive is cut, wrong or unsafe."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid tar archive: {reason}")


@contextlib.contextmanager
def archive_errors() -> Iterator[None]:
    """Turn what reading and unpacking can raise into BadArchive or ServerError."""
    import lzma
    import zlib

    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadArchive(f"bad compressed data: {error}") from None
    except tarfile.TarError as error:
        raise BadArchive(str(error)) from None
    except OSError as error:
        raise disk_error(error) from None


def disk_error(error: OSError) -> BadParameter | ServerError:
    """Return the answer to a failed system call: the machine's fault, or the archive's."""
    if error.errno in FULL:
        return ServerError("no space left on device")
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return ServerError(text) if error.errno in OURS else BadArchive(text)


class Budget:
    """What the file system below `path` can still take. Raises OSError ENOSPC beyond it.

    A bomb is refused before it has filled the disk. Each file costs an inode.
    """

    def __init__(self, path: str) -> None:
        room = os.statvfs(path)
        self.bytes = room.f_bavail * room.f_frsize - RESERVE
        self.files = room.f_favail if room.f_files else 1 << 62  # btrfs counts none

    def take(self, size: int) -> None:
        """Count one file of `size` bytes."""
        self.bytes -= size
        self.files -= 1
        if self.bytes < 0 or self.files < 0:
            raise OSError(errno.ENOSPC, "no space left on device")


class Forward(io.RawIOBase):
    """A stream that tarfile can read without holding it: `seek` goes forward only."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self.source, self.position = source, 0

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes, or fewer at the end. Raises BadArchive for a huge header."""
        if not 0 <= size <= HEADER_MAX:
            raise BadArchive(f"header of {size} bytes")
        parts, missing = [], size
        while missing and (part := self.source.read(missing)):
            parts.append(part)
            missing -= len(part)
        self.position += size - missing
        return b"".join(parts)

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Read up to `offset` bytes from the start. Raises BadArchive for a way back."""
        if whence or offset < self.position:
            raise BadArchive("a header points back")
        while self.position < offset:
            if not self.read(min(CHUNK, offset - self.position)):
                break
        return self.position

    def copy_to(self, fd: int, offset: int, size: int) -> None:
        """Write the `size` bytes at `offset` to a file. Raises BadArchive at an early end."""
        self.seek(offset)
        while size:
            block = self.read(min(CHUNK, size))
            if not block:
                raise BadArchive("unexpected EOF")
            size -= len(block)
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]

    def drain(self) -> None:
        """Read the rest, so that a digest is of all bytes."""
        while self.read(CHUNK):
            pass


class Digest(io.RawIOBase):
    """A stream that hashes and counts what is read through it."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self.source, self.sha256, self.size = source, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        """Read from the source."""
        block = self.source.read(size)
        self.sha256.update(block)
        self.size += len(block)
        return block

    @property
    def name(self) -> str:
        """The digest so far, as Docker writes it."""
        return f"sha256:{self.sha256.hexdigest()}"


def decompressed(source: BinaryIO) -> BinaryIO:
    """Return `source`, seekable and at its start, with gzip, bzip2 or xz taken off.

    Raises BadParameter for zstd, which Python 3.11 cannot read.
    """
    start = source.tell()
    head = source.read(6)
    source.seek(start)
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")
    if kind == "zstd":
        raise BadParameter("zstd archives are not supported: use gzip, bzip2, xz or none")
    if kind == "gzip":
        import gzip

        return cast("BinaryIO", gzip.GzipFile(fileobj=source, mode="rb"))
    if kind == "bz2":
        import bz2

        return cast("BinaryIO", bz2.BZ2File(source))
    if kind == "lzma":
        import lzma

        return cast("BinaryIO", lzma.LZMAFile(source))
    return source
