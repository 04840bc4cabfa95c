"""What an image is: its configuration document, and the layers that it names.

An image's id is the digest of the configuration's bytes, so those bytes are kept as
they came. A layer's content is named by its `diff id` (digest of its tar), a layer in
its place on others by its `chain id`.
Source: OCI image-spec, config.md.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import msgspec

from startkit.daemon.errors import BadParameter
from startkit.daemon.images.reference import DIGEST
from startkit.daemon.types import Config  # noqa: TC001 -- msgspec reads it

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Rootfs(msgspec.Struct):
    """The layers' contents, base first."""

    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct):
    """How one layer came about, or a change that made none."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct):
    """The configuration document. Keys that nobody here reads are left in its bytes."""

    architecture: str = ""
    os: str = ""
    created: str | None = None
    author: str = ""
    comment: str = ""
    container: str = ""
    docker_version: str = ""
    config: Config | None = None
    rootfs: Rootfs = msgspec.field(default_factory=Rootfs)
    history: list[History] | None = None


@dataclass(frozen=True)
class Image:
    """One image. `top_layer` is the graph driver's name of its uppermost layer."""

    id: str
    raw: bytes
    config: ImageConfig
    top_layer: str | None
    size: int

    @property
    def chain_ids(self) -> list[str]:
        """The layers, base first."""
        return chain_ids(self.config.rootfs.diff_ids)

    def document(self) -> dict[str, Any]:
        """Return the configuration with the keys that only its bytes have."""
        document: dict[str, Any] = msgspec.json.decode(self.raw)
        return document


def parse_config(raw: bytes) -> ImageConfig:
    """Return the configuration behind its bytes. Raises BadParameter with the JSON path."""
    try:
        config = msgspec.json.decode(raw, type=ImageConfig)
    except msgspec.DecodeError as error:
        raise BadParameter(f"invalid image config: {error}") from None
    for diff_id in config.rootfs.diff_ids:
        if not DIGEST.fullmatch(diff_id):
            raise BadParameter(f"invalid image config: diff id {diff_id!r}")
    if config.os not in ("", "linux"):
        raise BadParameter(f"cannot load {config.os} image on linux")
    return config


def image_id(raw: bytes) -> str:
    """Return `sha256:<hex>` of the configuration's bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Return each layer's chain id, base first: digest of `<chain id below> <diff id>`."""
    chain: list[str] = []
    for diff_id in diff_ids:
        text = f"{chain[-1]} {diff_id}" if chain else ""
        chain.append(image_id(text.encode()) if text else diff_id)
    return chain


def architecture() -> str:
    """Return this machine's architecture by Go's name."""
    machine = os.uname().machine
    return MACHINES.get(machine, machine)
