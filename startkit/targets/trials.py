"""A runtime to be judged: which one it is, how it has to be called here, its trials.

Rule: nobody's fault is guessed. A runtime that cannot use the host's cgroups is tried
once more without the v2 hierarchy of a hybrid host, and whoever reads is told.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from startkit.observe import cgroups
from startkit.observe.trials.attempt import Attempt, Recipe, Runtime, load_bundles
from startkit.targets.target import TargetError, swept, which

if TYPE_CHECKING:
    import os

    from startkit.observe.evidence import Trial

SMOKE = "ends"
WITHOUT_V2 = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$0" "$@"')


class Trials:
    """All trials of one runtime. `smoke` comes first: until then nothing is known of it."""

    def __init__(self, program: str, golden: os.PathLike[str]) -> None:
        place = Path(golden)
        self.bundles: dict[str, Recipe] = load_bundles(place)
        self.base = json.loads((place / "bundle.json").read_text())
        self.done: dict[str, Trial] = {}
        self.note: str | None = None
        self.runtime = Runtime(program=program)
        self.name, self.version = Path(program).name, ""

    def introduce(self) -> None:
        """Find out who it is. Raises TargetError for a program that is no runtime."""
        found = which(self.runtime.program)
        if found is None:
            raise TargetError(f"{self.runtime.program}: not here")
        self.runtime = Runtime(program=found)
        try:
            self.name, self.version = self.runtime.version()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise TargetError(str(error)) from None

    def smoke(self) -> None:
        """See one container through; find out how the runtime has to be called.

        Raises TargetError where nothing comes of it.
        """
        self.introduce()
        first = self.attempt(SMOKE)
        if first.broken:
            raise TargetError(f"{self.name}: {first.broken}")
        created = first.calls.get("create")
        if created and created.status and cgroups.version() == "hybrid":
            self.runtime = Runtime(program=self.runtime.program, around=WITHOUT_V2)
            again = self.attempt(SMOKE)
            if "create" in again.calls and not again.calls["create"].status:
                said = created.said.strip()[:100]
                self.note = f"{self.name} is run without the host's cgroup v2 hierarchy: {said}"
                first = again
        self.done[SMOKE] = first

    def trial(self, name: str) -> Trial:
        """Return a trial, made now if nobody has asked for it yet."""
        if name not in self.done:
            self.done[name] = self.attempt(name)
        return self.done[name]

    def attempt(self, name: str) -> Trial:
        """Make one trial in a directory of its own."""
        with tempfile.TemporaryDirectory(prefix="startkit-trial-") as root, swept(Path(root)):
            return Attempt(self.runtime, self.bundles[name], self.base, Path(root)).run()
