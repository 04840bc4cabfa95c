"""Tar archives of image layers, unpacked as root without trusting them.

Rule: every path is resolved beneath the layer's directory by the kernel (openat2),
never by comparing strings, so a symlink that an earlier member left behind leads
to where it would lead inside the container, and nowhere else. A symlink's *target*
is content and stays as it is.

A member named twice: the last one wins. Whiteouts (`.wh.x`, `.wh..wh..opq`) are
translated to the graph driver's dialect; aufs' own metadata (`.wh..wh.*`) is no content.
Source: OCI image-spec, layer.md; era.md section 2, whiteouts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tarfile
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from startkit import kernel
from startkit.daemon.tarstream import BadArchive, Budget, Forward, archive_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

WHITEOUT, METADATA, OPAQUE = ".wh.", ".wh..wh.", ".wh..wh..opq"
XATTR = "SCHILY.xattr."
# A layer that brings its own overlay attributes could redirect a directory out of the layer.
FOREIGN_XATTRS = ("trusted.overlay.", "user.overlay.")
NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC


class Dialect(Protocol):
    """How a graph driver writes down that something of the layers below is gone."""

    def hide(self, parent: int, name: str, path: str, own: set[str]) -> None:
        """Hide `name` of lower layers in the directory `parent`; `own` are this layer's paths."""

    def opaque(self, parent: int, path: str, own: set[str]) -> None:
        """Hide everything that lower layers have in the directory `parent`."""


class Member(tarfile.TarInfo):
    """A header. Unlike tarfile, a header that is cut or wrong is an error, not the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Member:
        """Read one header. Raises BadArchive."""
        try:
            return super().fromtarfile(tarfile)
        except EndOfArchive:
            raise
        except HeaderError as error:
            raise BadArchive(f"unexpected EOF or bad header: {error}") from None


HeaderError = tarfile.HeaderError
EndOfArchive = tarfile.EOFHeaderError  # type: ignore[attr-defined]


def unpack(source: BinaryIO, root: str, dialect: Dialect | None = None) -> int:
    """Unpack the uncompressed tar `source` into the directory `root`; return its content's bytes.

    Without a dialect whiteouts are left as the files they are (aufs). `source` is read
    to its very end. Raises BadParameter for an archive that is cut, wrong or unsafe,
    ServerError where the disk is full; what was unpacked until then is left to the caller.
    """
    with archive_errors():
        stream = Forward(source)
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        unpacker = Unpacker(fd, stream, dialect, Budget(root))
        try:
            for member in members(stream):
                unpacker.take(member)
            unpacker.finish()
        finally:
            unpacker.close()
        stream.drain()
    return unpacker.size


def members(stream: Forward) -> Iterator[tarfile.TarInfo]:
    """Go through the headers of a tar, without keeping them. Raises BadArchive."""
    try:
        archive = tarfile.open(fileobj=stream, mode="r:", tarinfo=Member)  # noqa: SIM115
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]
            yield member
    except (tarfile.TarError, ValueError) as error:
        raise BadArchive(f"not a tar archive, or a cut one: {error}") from None


def clean(name: str) -> str:
    """Return a member's path relative to the layer: `./etc//x` and `/etc/x` are `etc/x`.

    The root itself is the empty string. Raises BadArchive for `..` and NUL.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise BadArchive(f"path {name!r} leads out of the layer")
    return "/".join(parts)


class Unpacker:
    """Puts one member after the other below the directory `root` (an O_PATH descriptor)."""

    def __init__(self, root: int, stream: Forward, dialect: Dialect | None, budget: Budget) -> None:
        self.root, self.stream, self.dialect, self.budget = root, stream, dialect, budget
        self.own: set[str] = set()  # paths of this layer: whiteouts do not hide them
        self.directories: dict[str, int] = {}  # path -> mtime in ns, set when all is in place
        self.parent_path, self.parent = "", os.dup(root)
        self.size = 0

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.parent)
        os.close(self.root)

    def take(self, member: tarfile.TarInfo) -> None:
        """Put one member in its place. Raises BadArchive with the member's name, or OSError."""
        path = clean(member.name)
        try:
            if not path:
                self.take_root(member)
                return
            above, _, name = path.rpartition("/")
            self.enter(above)
            if self.dialect is not None and name.startswith(WHITEOUT):
                self.whiteout(name, above)
                return
            if self.dialect is None and name.startswith(METADATA) and name != OPAQUE:
                return
            self.place(member, path, name)
            self.own.add(path)
        except OverflowError:
            raise BadArchive(f"{member.name!r}: a number is out of range") from None
        except OSError as error:
            error.filename = member.name
            raise

    def take_root(self, member: tarfile.TarInfo) -> None:
        """Give the layer's own directory the owner, mode and time of the member `./`."""
        if not member.isdir():
            raise BadArchive("the root of the layer is not a directory")
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | NOFOLLOW, dir_fd=self.root)
        try:
            dress(fd, member)
        finally:
            os.close(fd)
        self.directories[""] = nanoseconds(member)

    def enter(self, path: str) -> None:
        """Make `parent` the directory at `path`, as the container would resolve it."""
        if path == self.parent_path:
            return
        try:
            fd = self.open(path)
        except FileNotFoundError:
            fd = self.make_directories(path)
        os.close(self.parent)
        self.parent_path, self.parent = path, fd

    def open(self, path: str) -> int:
        """Return an O_PATH descriptor of a directory below the root. Raises OSError."""
        return kernel.openat2(self.root, path or ".", os.O_PATH | os.O_DIRECTORY)

    def make_directories(self, path: str) -> int:
        """Make the directories that an archive without entries for them takes for granted."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            at = self.open("/".join(parts[: depth - 1]))
            try:
                os.mkdir(parts[depth - 1], 0o755, dir_fd=at)
                os.chmod(parts[depth - 1], 0o755, dir_fd=at)
                self.own.add("/".join(parts[:depth]))
            except FileExistsError:
                pass
            finally:
                os.close(at)
        return self.open(path)

    def whiteout(self, name: str, above: str) -> None:
        """Translate one whiteout."""
        assert self.dialect is not None
        if name == OPAQUE:
            self.dialect.opaque(self.parent, above, self.own)
        elif not name.startswith(METADATA):
            hidden = name.removeprefix(WHITEOUT)
            if hidden in ("", ".", ".."):
                raise BadArchive(f"whiteout {name!r} hides nothing")
            path = f"{above}/{hidden}" if above else hidden
            self.dialect.hide(self.parent, hidden, path, self.own)

    def place(self, member: tarfile.TarInfo, path: str, name: str) -> None:
        """Make the file, directory, link or device `name` in the parent directory."""
        self.budget.take(member.size if member.isreg() else 0)
        if member.islnk() and clean(member.linkname) == path:
            return
        self.clear_way(name, keep_directory=member.isdir())
        if member.isdir():
            self.place_directory(member, path, name)
        elif member.islnk():
            self.place_link(member, name)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=self.parent)
            self.dress_path(member, name)
        elif member.ischr() or member.isblk() or member.isfifo():
            self.place_device(member, name)
        elif member.type in tarfile.REGULAR_TYPES:
            self.place_file(member, name)
        else:
            raise BadArchive(f"{member.name!r}: unknown kind of member {member.type!r}")

    def clear_way(self, name: str, *, keep_directory: bool) -> None:
        """Remove what stands at `name`: the last member of a name wins."""
        try:
            mode = os.lstat(name, dir_fd=self.parent).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            os.unlink(name, dir_fd=self.parent)
        elif not keep_directory:
            shutil.rmtree(name, dir_fd=self.parent)

    def place_directory(self, member: tarfile.TarInfo, path: str, name: str) -> None:
        """Make a directory, or dress the one that is there."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.parent)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | NOFOLLOW, dir_fd=self.parent)
        try:
            dress(fd, member)
        finally:
            os.close(fd)
        self.directories[path] = nanoseconds(member)

    def place_file(self, member: tarfile.TarInfo, name: str) -> None:
        """Write a regular file and give it its owner, mode, attributes and time, in that order."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW
        fd = os.open(name, flags, 0o600, dir_fd=self.parent)
        try:
            if member.issparse():
                self.write_sparse(fd, member)
            else:
                self.stream.copy_to(fd, member.offset_data, member.size)
            self.size += member.size
            dress(fd, member)
            os.utime(fd, ns=(nanoseconds(member),) * 2)
        finally:
            os.close(fd)

    def write_sparse(self, fd: int, member: tarfile.TarInfo) -> None:
        """Write the parts of a sparse file that are there, and leave the holes."""
        at = member.offset_data
        for offset, size in cast("list[tuple[int, int]]", member.sparse):
            os.lseek(fd, offset, os.SEEK_SET)
            self.stream.copy_to(fd, at, size)
            at += size
        os.ftruncate(fd, member.size)

    def place_link(self, member: tarfile.TarInfo, name: str) -> None:
        """Make a hard link to another file of the same layer."""
        above, _, target = clean(member.linkname).rpartition("/")
        if not target:
            raise BadArchive(f"{member.name!r} is a hard link to nothing")
        at = self.open(above)
        try:
            os.link(target, name, src_dir_fd=at, dst_dir_fd=self.parent, follow_symlinks=False)
        finally:
            os.close(at)

    def place_device(self, member: tarfile.TarInfo, name: str) -> None:
        """Make a device node or a FIFO."""
        kind = stat.S_IFIFO
        if not member.isfifo():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        device = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
        os.mknod(name, kind | 0o600, device, dir_fd=self.parent)
        self.dress_path(member, name)
        os.chmod(name, stat.S_IMODE(member.mode), dir_fd=self.parent)

    def dress_path(self, member: tarfile.TarInfo, name: str) -> None:
        """Give owner and time to what cannot be opened."""
        times = (nanoseconds(member),) * 2
        os.chown(name, member.uid, member.gid, dir_fd=self.parent, follow_symlinks=False)
        os.utime(name, ns=times, dir_fd=self.parent, follow_symlinks=False)

    def finish(self) -> None:
        """Set the times of directories, which filling them has changed."""
        for path, mtime in self.directories.items():
            try:
                fd = kernel.openat2(self.root, path or ".", os.O_RDONLY | os.O_DIRECTORY | NOFOLLOW)
            except OSError:
                continue  # a later member has taken its place
            try:
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)


def dress(fd: int, member: tarfile.TarInfo) -> None:
    """Give an open file its owner, mode and extended attributes.

    The order matters: chown clears setuid and security.capability.
    """
    os.fchown(fd, member.uid, member.gid)
    os.fchmod(fd, stat.S_IMODE(member.mode))
    for key, value in member.pax_headers.items():
        name = key.removeprefix(XATTR)
        if name == key or name.startswith(FOREIGN_XATTRS):
            continue
        try:
            os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # the file system has none
                raise


def nanoseconds(member: tarfile.TarInfo) -> int:
    """Return the member's mtime in nanoseconds since 1970."""
    return round(member.mtime * 1_000_000_000)
