"""A real dockerd beside our engine, one of each a worker: the same request to both.

Rule: what this room needs and the machine has not is a skip by its name.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from portrait import Sitter
from served import alone

from startkit.targets.target import find_target


@contextlib.contextmanager
def sitting(name):
    """Keep a target running, with the suites' image and a directory of the host to bind."""
    target = find_target(name)
    if os.geteuid() != 0 or target.missing():
        pytest.skip(f"needs root and {', '.join(target.missing()) or name}")
    with tempfile.TemporaryDirectory(prefix="startkit-against-") as place:
        root = Path(place).resolve()
        with alone(name, root) as target, target.running(root) as socket:
            yield Sitter(socket, root)


@pytest.fixture(scope="session")
def ours():
    """Run our engine."""
    with sitting("startkit") as engine:
        yield engine


@pytest.fixture(scope="session")
def pair(ours):
    """Run a real dockerd beside it."""
    with sitting("docker") as theirs:
        yield ours, theirs
