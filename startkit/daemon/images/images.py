"""Import, load, tag, delete; the rest of the images' room serves these.

What a client asks to see of images is in `listing`.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import msgspec

from startkit import __version__
from startkit.daemon.errors import ApiError, BadParameter, Conflict, NotFound
from startkit.daemon.images import changes, listing, model
from startkit.daemon.images import reference as references
from startkit.daemon.images.layerdb import LayerDb, digits
from startkit.daemon.images.model import Image
from startkit.daemon.images.repositories import Repositories
from startkit.daemon.images.saved import Entry, Saved
from startkit.daemon.store import now, set_aside, sweep, write
from startkit.daemon.tarstream import archive_errors, decompressed, disk_error

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from startkit.daemon.graph import Driver

    Read = Callable[[], Awaitable[bytes]]
    UsedBy = Callable[[str], list[str]]


class Images:
    """All images. `root` is the daemon's data root."""

    def __init__(self, root: Path, driver: Driver) -> None:
        self.driver = driver
        self.tmp = root / "tmp"
        home = root / "image" / driver.name
        self.contents = home / "imagedb" / "content" / "sha256"
        for directory in (self.tmp, self.contents):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.layers = LayerDb(home / "layerdb", driver)
        self.names = Repositories(home / "repositories.json")
        self.images: dict[str, Image] = {}
        self.lock = asyncio.Lock()
        self.unfinished: set[asyncio.Task[Any]] = set()
        sweep(self.contents)
        for path in sorted(self.contents.glob("?" * 64)):
            self.read_back(path)

    def get(self, ref: str) -> Image:
        """Return the image of a name, an id or a unique id prefix.

        Raises NotFound, or BadParameter for what can be neither.
        """
        key = digits(ref)
        if references.HEX_ID.fullmatch(key) and f"sha256:{key}" in self.images:
            return self.images[f"sha256:{key}"]
        if not references.HEX_ID.fullmatch(key):
            reference = references.parse(ref)
            found = self.names.find(reference)
            if found and (not reference.digest or reference.digest == found):
                return self.images[found]
        fits = [i for i in self.images if key and digits(i).startswith(key)]
        if len(fits) != 1:
            tagged = ref if ":" in ref.rpartition("/")[2] or "@" in ref else f"{ref}:latest"
            raise NotFound(f"No such image: {tagged}")
        return self.images[fits[0]]

    def tags(self, image: Image) -> list[str]:
        """Return the names of an image."""
        return self.names.of(image.id)

    async def import_tar(
        self, read: Read, ref: str = "", lines: list[str] | None = None, message: str = ""
    ) -> Image:
        """Make an image of one layer from the tar that `read` gives piece by piece.

        Raises BadParameter or ServerError, and then leaves nothing.
        """
        name = references.parse_tagged(ref) if ref else None
        config = changes.apply(empty_config(), lines or [])
        body = await self.spool(read)
        return await self.finish(self.import_body(body, name, config, message))

    async def import_body(
        self,
        body: BinaryIO,
        name: references.Reference | None,
        config: dict[str, Any],
        message: str,
    ) -> Image:
        """Unpack the spooled body, then make and name the image."""
        with body:
            diff_id = await self.unpack(functools.partial(self.import_layer, body))
        image = self.keep(import_config(config, diff_id, message or "Imported from -"))
        if name:
            self.names.set(name, image.id)
        return image

    def import_layer(self, body: BinaryIO) -> str:
        """Unpack the body as a base layer; return its diff id. Runs in a thread."""
        with archive_errors():
            return self.layers.register(decompressed(body), []).diff_id

    async def load(self, read: Read) -> tuple[list[str], list[str]]:
        """Take in every image of a `docker save` archive.

        Returns the images' ids, and the lines to tell the client.
        Raises BadParameter or ServerError; images that were whole before that stay.
        """
        return await self.finish(self.load_body(await self.spool(read)))

    async def load_body(self, body: BinaryIO) -> tuple[list[str], list[str]]:
        """Unpack the spooled archive, then take in and name its images."""
        with body:
            loaded = await self.unpack(functools.partial(self.load_layers, body))
        ids, told = [], []
        for raw, tags in loaded:
            image = self.keep(raw)
            ids.append(image.id)
            told += [self.rename(tag, image) for tag in tags]
            if not tags:
                told.append(f"Loaded image ID: {image.id}\n")
        return ids, told

    def load_layers(self, body: BinaryIO) -> list[tuple[bytes, list[references.Reference]]]:
        """Unpack every layer of the archive; return (configuration, names). Runs in a thread."""
        with archive_errors():
            plain = decompressed(body)
            if plain is not body:
                plain = self.to_disk(plain)
            saved = Saved(plain)
            entries = [(self.checked(saved, entry), entry) for entry in saved.entries()]
            before = set(self.layers.layers)
            try:
                for (raw, _), entry in entries:
                    diff_ids = model.parse_config(raw).rootfs.diff_ids
                    for depth, name in enumerate(entry.layers):
                        with saved.open(name) as tar:
                            self.layers.register(
                                decompressed(tar), diff_ids[:depth], diff_ids[depth]
                            )
            except BaseException:
                for chain_id in [c for c in self.layers.layers if c not in before][::-1]:
                    self.layers.remove(chain_id)
                raise
        return [found for found, _ in entries]

    def checked(self, saved: Saved, entry: Entry) -> tuple[bytes, list[references.Reference]]:
        """Return an entry's configuration and names, once both are known to be good."""
        raw = saved.read(entry.config)
        wanted = len(model.parse_config(raw).rootfs.diff_ids)
        if wanted != len(entry.layers):
            raise BadParameter(
                f"invalid manifest, layers length mismatch: expected {wanted}, "
                f"got {len(entry.layers)}"
            )
        return raw, [references.parse_tagged(tag) for tag in entry.repo_tags or []]

    def rename(self, name: references.Reference, image: Image) -> str:
        """Give a loaded image its name; return what to tell."""
        old = self.names.find(name)
        self.names.set(name, image.id)
        told = f"Loaded image: {name}\n"
        if old and old != image.id:
            told = (
                f"The image {name} already exists, renaming the old one with ID {old} "
                f"to empty string\n{told}"
            )
        return told

    def tag(self, ref: str, repo: str, tag: str) -> tuple[Image, str]:
        """Give an image one more name; return both. Raises NotFound or BadParameter."""
        image = self.get(ref)
        name = references.parse_tagged(f"{repo}:{tag}" if tag else repo)
        self.names.set(name, image.id)
        return image, str(name)

    async def delete(
        self, ref: str, used_by: UsedBy, *, force: bool = False
    ) -> list[dict[str, str]]:
        """Untag, and delete what nothing names any more; return Docker's records of both.

        Raises NotFound, or Conflict where a container uses the image.
        """
        image = self.get(ref)
        name = self.name_meant(ref, image)
        names = self.tags(image)
        users = used_by(image.id)
        if name is not None and (len(names) > 1 or (users and force)):
            return [self.untag(str(name if name.tag else name._replace(tag="latest")))]
        short = digits(image.id)[:12]
        if users and name is not None:
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - '
                f"container {users[0][:12]} is using its referenced image {short}"
            )
        if users:
            raise Conflict(
                f"conflict: unable to delete {short} (cannot be forced) - "
                f"image is being used by container {users[0][:12]}"
            )
        if name is None and len(names) > 1 and not force:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - "
                "image is referenced in multiple repositories"
            )
        records = [self.untag(name) for name in names]
        return records + await self.finish(self.remove(image))

    def name_meant(self, ref: str, image: Image) -> references.Reference | None:
        """Return the name by which `ref` means the image; None where it is an id."""
        if references.HEX_ID.fullmatch(digits(ref)):
            return None
        reference = references.parse(ref)
        return reference if self.names.find(reference) == image.id else None

    def untag(self, name: str) -> dict[str, str]:
        """Take a name away; return its record."""
        self.names.remove(references.parse(name))
        return {"Untagged": name}

    async def remove(self, image: Image) -> list[dict[str, str]]:
        """Remove an image and the layers that are no other image's; return the records."""
        del self.images[image.id]
        (self.contents / digits(image.id)).unlink(missing_ok=True)
        records = [{"Deleted": image.id}]
        async with self.lock:
            kept = {chain for other in self.images.values() for chain in other.chain_ids}
            for chain_id in [c for c in reversed(image.chain_ids) if c not in kept]:
                await asyncio.to_thread(self.layers.remove, chain_id)
                records.append({"Deleted": chain_id})
        return records

    def list(self, filters: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
        """Return `docker images`, newest first. Raises BadParameter for an unknown filter."""
        return listing.summaries(self, filters or {})

    def inspect(self, ref: str) -> dict[str, Any]:
        """Return `docker image inspect`. Raises NotFound."""
        return listing.details(self, self.get(ref))

    def keep(self, raw: bytes) -> Image:
        """Write a configuration whose layers are all there, and take it in."""
        write(self.contents / digits(model.image_id(raw)), raw)
        return self.take_in(raw)

    def take_in(self, raw: bytes) -> Image:
        """Return the image of a configuration, known from now on."""
        config = model.parse_config(raw)
        layers = [self.layers.layers[c] for c in model.chain_ids(config.rootfs.diff_ids)]
        top = layers[-1].cache_id if layers else None
        size = sum(layer.size for layer in layers)
        image = Image(model.image_id(raw), raw, config, top, size)
        self.images[image.id] = image
        return image

    def read_back(self, path: Path) -> None:
        """Take in an image of an earlier daemon; one that is not whole is set aside."""
        try:
            raw = path.read_bytes()
            if digits(model.image_id(raw)) != path.name:
                raise ValueError("its digest is another")
            self.take_in(raw)
        except (ApiError, OSError, ValueError, LookupError, RecursionError) as error:
            set_aside(path, error)

    async def unpack(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread, one at a time."""
        async with self.lock:
            return await asyncio.to_thread(work)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which goes on when the client that asked for it vanishes."""
        task = asyncio.ensure_future(work)
        self.unfinished.add(task)
        task.add_done_callback(self.settle)
        return await asyncio.shield(task)

    def settle(self, task: asyncio.Task[Any]) -> None:
        """Forget a task; its error, if nobody is left to be told, is not an error of the loop."""
        self.unfinished.discard(task)
        if not task.cancelled():
            task.exception()

    async def spool(self, read: Read) -> BinaryIO:
        """Write a body to a file without a name, and return it at its start.

        Raises ServerError where the disk is full.
        """
        file = cast("BinaryIO", tempfile.TemporaryFile(dir=self.tmp))  # noqa: SIM115
        try:
            while block := await read():
                file.write(block)
            file.seek(0)
        except BaseException as error:
            file.close()
            if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                raise disk_error(error) from None
            raise
        return file

    def to_disk(self, stream: BinaryIO) -> BinaryIO:
        """Write a decompressed stream to a file without a name, and return it at its start."""
        file = cast("BinaryIO", tempfile.TemporaryFile(dir=self.tmp))  # noqa: SIM115
        while block := stream.read(1 << 18):
            file.write(block)
        file.seek(0)
        return file


def empty_config() -> dict[str, Any]:
    """Return the config object of an image that says nothing."""
    config: dict[str, Any] = {
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False,
        "AttachStdout": False, "AttachStderr": False, "Tty": False, "OpenStdin": False,
        "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
        "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None,
    }  # fmt: skip
    return config


def import_config(config: dict[str, Any], diff_id: str, message: str) -> bytes:
    """Return the configuration document of an imported image."""
    created = now()
    document = {
        "architecture": model.architecture(),
        "comment": message,
        "config": config,
        "container_config": empty_config(),
        "created": created,
        "docker_version": __version__,
        "history": [{"comment": message, "created": created}],
        "os": "linux",
        "rootfs": {"diff_ids": [diff_id], "type": "layers"},
    }
    return msgspec.json.encode(document)
