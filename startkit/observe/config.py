"""The bundle: found through the shim, then read.

Rule: nothing is assumed about where an engine keeps its bundles. State.Pid's parent
is the shim; its working directory or one of its arguments names the bundle.

Source: era 8, last paragraph; article, headings "准备OCI需要的bundle" and "准备IO文件".
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from startkit.observe import disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from startkit.observe.evidence import Process

LIMIT = 4 << 20


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
            if os.path.isfile(os.path.join(directory, "config.json")):
                return os.path.realpath(directory)
    return None


def read_config(bundle: str) -> dict[str, Any] | None:
    """Return config.json, or None when it is no JSON object of a sane size."""
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            config = json.loads(file.read(LIMIT))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def find_rootfs(bundle: str, config: dict[str, Any]) -> str | None:
    """Return the absolute path that root.path of config.json names."""
    root = config.get("root")
    path = root.get("path") if isinstance(root, dict) else None
    return os.path.join(bundle, path) if isinstance(path, str) else None


def find_state_dir(shim: Process, container: str) -> str | None:
    """Return containerd's directory of the container: the one above the shim named after it."""
    head, found, _ = shim.cwd.partition(f"/{container}")
    return head + found if found and disk.entry(head + found) else None


def bundle_files(bundle: str) -> dict[str, Any]:
    """Return what stands directly in the bundle; a rootfs inside is not walked."""
    names = sorted(os.listdir(bundle)) if os.path.isdir(bundle) else []
    found = {name: disk.entry(os.path.join(bundle, name)) for name in names}
    return {name: seen for name, seen in found.items() if seen}
