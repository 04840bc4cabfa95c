"""Images as `docker images`, `docker image inspect` and `docker history` show them.

Source: Docker Engine API 1.41, ImageSummary, Image, HistoryResponseItem.
"""

from __future__ import annotations

import fnmatch
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.daemon.errors import BadParameter
from startkit.daemon.types import Config

if TYPE_CHECKING:
    from startkit.daemon.images.images import Images
    from startkit.daemon.images.model import Image

OMITTED = ("ExposedPorts", "StopSignal", "StopTimeout")  # shown only where there is one
FILTERS = ("before", "dangling", "label", "reference", "since")


def seconds(created: str | None) -> int:
    """Return an RFC 3339 time in seconds since 1970; 0 where there is none."""
    try:
        whole, _, fraction = (created or "").replace("Z", "").partition(".")
        zone = fraction.lstrip("0123456789") if fraction else ""
        return int(datetime.fromisoformat(f"{whole}{zone or '+00:00'}").timestamp())
    except ValueError:
        return 0


def summaries(images: Images, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return one summary an image, newest first."""
    for key in filters:
        if key not in FILTERS:
            raise BadParameter(f"Invalid filter '{key}'")
    shown = [image for image in images.images.values() if fits(images, image, filters)]
    shown.sort(key=lambda image: (seconds(image.config.created), image.id), reverse=True)
    return [summary(images, image) for image in shown]


def summary(images: Images, image: Image) -> dict[str, Any]:
    """Return one line of `docker images`."""
    tags = images.tags(image)
    return {
        "Containers": -1,
        "Created": seconds(image.config.created),
        "Id": image.id,
        "Labels": image.config.config.labels if image.config.config else None,
        "ParentId": "",
        "RepoDigests": None if tags else ["<none>@<none>"],
        "RepoTags": tags or ["<none>:<none>"],
        "SharedSize": -1,
        "Size": image.size,
        "VirtualSize": image.size,
    }


def fits(images: Images, image: Image, filters: dict[str, list[str]]) -> bool:
    """Whether an image passes every filter. Raises BadParameter or NotFound for a bad value."""
    tags = images.tags(image)
    labels = (image.config.config.labels if image.config.config else None) or {}
    for value in filters.get("dangling", []):
        if value.lower() not in ("true", "false", "1", "0"):
            raise BadParameter(f"Invalid filter 'dangling={value}'")
        if (not tags) != (value.lower() in ("true", "1")):
            return False
    for wanted in filters.get("label", []):
        key, sign, value = wanted.partition("=")
        if key not in labels or (sign and labels[key] != value):
            return False
    patterns = filters.get("reference", [])
    if patterns and not any(matches(tag, pattern) for tag in tags for pattern in patterns):
        return False
    created = seconds(image.config.created)
    for ref in filters.get("before", []):
        if created >= seconds(images.get(ref).config.created):
            return False
    return all(
        created > seconds(images.get(ref).config.created) for ref in filters.get("since", [])
    )


def matches(tag: str, pattern: str) -> bool:
    """Whether a name fits a shell pattern, with or without its tag."""
    return fnmatch.fnmatchcase(tag, pattern) or fnmatch.fnmatchcase(tag.rpartition(":")[0], pattern)


def details(images: Images, image: Image) -> dict[str, Any]:
    """Return everything known of an image."""
    document = image.document()
    empty = {k: v for k, v in msgspec.to_builtins(Config()).items() if k not in OMITTED}
    return {
        "Id": image.id,
        "RepoTags": images.tags(image),
        "RepoDigests": [],
        "Parent": "",
        "Comment": image.config.comment,
        "Created": image.config.created or "0001-01-01T00:00:00Z",
        "Container": image.config.container,
        "ContainerConfig": empty | (document.get("container_config") or {}),
        "DockerVersion": image.config.docker_version,
        "Author": image.config.author,
        "Config": empty | (document.get("config") or {}),
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {
            "Name": images.driver.name,
            "Data": images.driver.metadata(image.top_layer) if image.top_layer else None,
        },
        "RootFS": {"Type": "layers", "Layers": image.config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    }


def history(images: Images, image: Image) -> list[dict[str, Any]]:
    """Return `docker history`: one entry a step, the newest first, which carries id and names."""
    sizes = iter([images.layers.layers[chain_id].size for chain_id in image.chain_ids])
    steps: list[dict[str, Any]] = [
        {
            "Id": "<missing>",
            "Created": seconds(step.created),
            "CreatedBy": step.created_by,
            "Tags": None,
            "Size": 0 if step.empty_layer else next(sizes, 0),
            "Comment": step.comment,
        }
        for step in image.config.history or []
    ]
    if steps:
        steps[-1] |= {"Id": image.id, "Tags": images.tags(image)}
    return steps[::-1]
