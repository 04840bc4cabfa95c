"""An engine that is stopped and started again over the same place."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import msgspec

from startkit import image
from startkit.observe import cgroups
from startkit.observe.collect import Collector
from startkit.targets import process
from startkit.targets.target import find_target, which


@contextlib.contextmanager
def alone(name, place):
    """Give a target a cgroup of its own above its containers, called after its place.

    An engine that ends takes `docker` away, and another one is about to use it.
    """
    target = find_target(name)
    words = ("--cgroup-parent", f"/{place.name}")
    try:
        yield msgspec.structs.replace(target, start=[*target.start, *words])
    finally:
        for top in cgroups.hierarchies().values():
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(top, place.name))


class Served:
    """One target. `outlived`: its containers live on when the daemon is killed."""

    def __init__(self, name):
        self.root = Path(tempfile.mkdtemp(prefix="startkit-served-")).resolve()
        self.stack = contextlib.ExitStack()
        self.target = self.stack.enter_context(alone(name, self.root))
        self.socket = self.target.ready.format(root=self.root)
        self.outlived = name == "startkit"
        self.child = self.collector = None

    def up(self):
        """Start the daemon and meet it anew."""
        argv = [word.format(root=self.root) for word in self.target.start]
        with (self.root / "log").open("ab") as log:
            self.child = subprocess.Popen([which(argv[0]), *argv[1:]], stdout=log, stderr=log)
        assert process.answers(self.child, self.socket), (self.root / "log").read_text()
        self.collector = Collector(self.socket)
        self.collector.load_image(iter([image.base()[1]]))
        return self

    def down(self):
        """Ask it to end: it stops its containers."""
        process.end(self.child, signal.SIGTERM)

    def crash(self):
        """Kill the daemon alone."""
        self.child.kill()
        self.child.wait()

    def close(self):
        """End it; return what had to be swept up."""
        self.down()
        left = process.sweep(str(self.root))
        self.stack.close()
        return left

    @property
    def api(self):
        return self.collector.api
