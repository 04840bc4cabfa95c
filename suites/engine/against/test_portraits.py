"""One container of ours without a terminal and one with, as golden/snapshots/ keeps them.

What is kept is the portrait that is put beside a real dockerd's (`test_against_docker`):
once as the article shows it, once in the words of Docker 20.10. `tox -e bless` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from portrait import script
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from today import translate

SNAPSHOTS = Path(__file__).parents[3] / "golden" / "snapshots"
SCENES = {"plain": {}, "tty": {"Tty": True, "OpenStdin": True}}
WORDS = {"article": lambda portrait, recipe: portrait, "docker-20.10": translate}
PARTS = ("config", "mounts", "directory", "bundle", "fifos", "ends", "processes", "stdio")
MACHINES = dict.fromkeys(("fstype", "source", "options", "super"), "the machine's")
pytestmark = pytest.mark.snapshot


class JsonExtension(SingleFileSnapshotExtension):
    """One JSON file a test, below golden/snapshots/."""

    file_extension = "json"
    _write_mode = WriteMode.TEXT

    @classmethod
    def dirname(cls, *, test_location):
        return str(SNAPSHOTS / test_location.basename)

    def serialize(self, data, **_):
        return json.dumps(data, indent=1, sort_keys=True) + "\n"


def kept(portrait):
    """Return what does not depend on the machine: its hierarchies and what its /proc has do."""
    found = {part: portrait[part] for part in PARTS}
    found["config"]["process"]["args"] = ["sh", "-c", "$SCRIPT"]
    found["mounts"] = [
        row | (MACHINES if is_file(row) else {})
        for row in portrait["mounts"]
        if not row["target"].startswith(("/proc/", "/sys/"))
    ]
    return found


def is_file(row):
    """Say whether a mount is one file of the container's directory."""
    return row["root"].startswith("<ROOT>")


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_container_of_ours_is_seen_as_it_was(ours, snapshot, scene, words):
    host = {"NetworkMode": "none", "Binds": [], "Tmpfs": {}}
    recipe = {"Cmd": ["sh", "-c", script(7)], **SCENES[scene], "HostConfig": host}
    portrait = WORDS[words](ours.portray(recipe), recipe)
    assert kept(portrait) == snapshot(extension_class=JsonExtension)
