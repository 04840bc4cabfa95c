"""A daemon in a cage: all that it writes outside of its own roots is seen, and goes with it."""

from __future__ import annotations

import collections
import os
import re
import sys
import time
from pathlib import Path

import pytest

from startkit import image as image_of_suites

sys.path.insert(0, str(Path(__file__).parent))

from cage import CAGE

DISK = "96m"
BOUND = "startkit-bound"  # what drawn requests bind: dockerd makes a source that is absent
SETTLE_S = 10


def outside(root):
    """Return what was written below `/` other than in `root`, but what Python compiled."""
    up = Path(root, "cage/up")
    ends = [p for p in up.rglob("*") if not p.is_dir() or p.is_symlink() or not any(p.iterdir())]
    return [str(p.relative_to(up)) for p in ends if "__pycache__" not in p.parts]


class Fuzzed:
    """A caged daemon, what it has answered so far, and what it must be after each example."""

    def __init__(self, engine):
        self.engine, self.answers = engine, collections.Counter()
        self.heard = os.path.getsize(engine.root / "log")
        self.again()

    def again(self):
        """Note what is there now as what has to be there after each example."""
        self.images, self.before = self.named(), self.look()

    def named(self):
        """Return the images with their names."""
        return {i["Id"]: i["RepoTags"] for i in self.engine.api.get("/images/json").json()}

    def look(self):
        """Return what containers and images are made of, by its names."""
        data, run = self.engine.root / "data", self.engine.root / "exec"
        places = ("*", "containers/*", "overlay2/*", "overlay2/l/*", "tmp/*", "image/overlay2/**/*")
        kept = [path for place in places for path in data.glob(place)]
        for place in ("libcontainerd/*", "libcontainerd/containerd/*", "runtime-runc/*"):
            kept += run.glob(place)
        return {*map(str, kept), *self.engine.cgroups()}

    def said(self):
        """Return what the daemon and containerd have written since that nobody should read."""
        with (self.engine.root / "log").open() as log:
            log.seek(self.heard)
            new = log.read()
            self.heard = log.tell()
        return [new] if re.search(r"Traceback|Error\b|never", new) else []

    def settle(self):
        """Take away what an example has made; return what is left of it, and what is wrong."""
        if self.engine.daemon.poll() is not None:
            return [f"the daemon ended with {self.engine.daemon.returncode}"]
        wrong = []
        for row in self.engine.api.get("/containers/json", all=True).json():
            reply = self.engine.api.delete(f"/containers/{row['Id']}", force=True)
            wrong += [] if reply.status == 204 else [(row, reply)]
        for image in self.named().keys() - self.images.keys():
            self.engine.api.delete(f"/images/{image}", force=True)
        end = time.monotonic() + SETTLE_S
        while (gone := self.named() != self.images) or (now := self.look()) != self.before:
            if gone:
                self.renew()
            if time.monotonic() > end:
                break
            time.sleep(0.01)
        wrong += [f"{'left' if p in now else 'lost'}: {p}" for p in now ^ self.before]
        found = [p for p in outside(self.engine.root) if not p.startswith(BOUND)]
        return wrong + [f"outside: {p}" for p in found] + self.said()

    def renew(self):
        """Have the suites' image alone again, under its one name."""
        for image in self.named():
            self.engine.api.delete(f"/images/{image}", force=True)
        assert self.engine.api.post("/images/load", image_of_suites.base()[1]).status == 200
        self.again()


@pytest.fixture
def fuzzed(make_on_disk):
    """Run a caged daemon on a small disk; print at the end what it has answered."""
    engine = make_on_disk(DISK)
    cage = engine.root / "cage"
    cage.mkdir()
    engine.command[3:3] = ["unshare", "-m", "sh", "-c", CAGE, "cage", str(cage), str(engine.root)]
    made = Fuzzed(engine.up())
    yield made
    told = f"{made.answers.total()} asked, answered: {dict(sorted(made.answers.items(), key=str))}"
    print(told)  # noqa: T201 -- with -s
