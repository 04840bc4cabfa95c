"""Which layers there are: `layerdb/sha256/<chain id>/{diff,cache-id,size,parent}`.

`cache-id` is the graph driver's name of the layer. While a layer is being unpacked
its driver name stands in `layerdb/tmp`: what a killed daemon left there is removed
at the next start, so no half layer stays.
Source: era.md section 2; Docker's own layout on disk.
"""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from startkit.daemon.errors import BadParameter
from startkit.daemon.graph import LAYER, MAX_IMAGE_LAYERS
from startkit.daemon.images.model import chain_ids
from startkit.daemon.store import set_aside
from startkit.daemon.tarstream import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from startkit.daemon.graph import Driver


class Layer(NamedTuple):
    """One layer in its place. `size` is its content's bytes."""

    chain_id: str
    diff_id: str
    cache_id: str
    size: int
    parent: str | None


class LayerDb:
    """All layers of images, by chain id."""

    def __init__(self, root: Path, driver: Driver) -> None:
        self.root, self.driver = root / "sha256", driver
        self.pending = root / "tmp"
        for directory in (self.root, self.pending):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self.pending.iterdir():
            self.driver.remove(leftover.name)
            leftover.unlink()
        self.layers: dict[str, Layer] = {}
        for directory in sorted(self.root.glob("?" * 64)):
            try:
                layer = read(directory)
                self.layers[layer.chain_id] = layer
            except (OSError, ValueError) as error:
                set_aside(directory, error)

    def register(self, tar: BinaryIO, below: list[str], diff_id: str = "") -> Layer:
        """Unpack a layer's tar on top of the layers with the diff ids `below`; return the layer.

        A layer that is there already is returned as it is. Raises BadParameter where the
        content's digest is not the `diff_id` expected, and what `Driver.apply` raises;
        then nothing of it is left.
        """
        if len(below) + 1 > MAX_IMAGE_LAYERS:
            raise BadParameter(f"max depth exceeded: more than {MAX_IMAGE_LAYERS} layers")
        parent = chain_ids(below)[-1] if below else None
        if diff_id and (known := self.layers.get(chain_ids([*below, diff_id])[-1])):
            return known
        cache_id = secrets.token_hex(32)
        (self.pending / cache_id).touch()
        kept = False
        try:
            self.driver.create(cache_id, self.layers[parent].cache_id if parent else None)
            content = Digest(tar)
            size = self.driver.apply(cache_id, cast("BinaryIO", content))
            if diff_id and content.name != diff_id:
                raise BadParameter(
                    f"invalid diffID for layer {len(below)}: "
                    f'expected "{diff_id}", got "{content.name}"'
                )
            chain_id = chain_ids([*below, content.name])[-1]
            layer = Layer(chain_id, content.name, cache_id, size, parent)
            kept = chain_id not in self.layers
            if kept:
                write(self.root, layer)
                self.layers[chain_id] = layer
            return self.layers[chain_id]
        except BaseException:
            kept = False
            raise
        finally:
            if not kept:
                self.driver.remove(cache_id)
            (self.pending / cache_id).unlink(missing_ok=True)

    def remove(self, chain_id: str) -> None:
        """Remove a layer. Whoever calls knows that no image and no layer stands on it."""
        layer = self.layers.pop(chain_id, None)
        if layer is not None:
            shutil.rmtree(self.root / digits(chain_id), ignore_errors=True)
            self.driver.remove(layer.cache_id)


def digits(digest: str) -> str:
    """Return a digest without `sha256:`: a file's name."""
    return digest.removeprefix("sha256:")


def read(directory: Path) -> Layer:
    """Return the layer that a directory tells of. Raises OSError or ValueError."""
    parent = directory / "parent"
    layer = Layer(
        chain_id=f"sha256:{directory.name}",
        diff_id=(directory / "diff").read_text(),
        cache_id=(directory / "cache-id").read_text(),
        size=int((directory / "size").read_text()),
        parent=parent.read_text() if parent.exists() else None,
    )
    below = [layer.parent] if layer.parent else []
    if chain_ids([*below, layer.diff_id])[-1] != layer.chain_id:
        raise ValueError("its content or its parent is another")
    if not LAYER.fullmatch(layer.cache_id):
        raise ValueError(f"its cache id is {layer.cache_id!r}")
    return layer


def write(root: Path, layer: Layer) -> None:
    """Write a layer's directory, whole or not at all."""
    fresh = root.parent / "tmp" / f"{layer.cache_id}.db"
    fresh.mkdir()
    try:
        values = {"diff": layer.diff_id, "cache-id": layer.cache_id, "size": str(layer.size)}
        if layer.parent:
            values["parent"] = layer.parent
        for name, value in values.items():
            (fresh / name).write_text(value)
        os.rename(fresh, root / digits(layer.chain_id))
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
