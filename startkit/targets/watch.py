"""Where evidence comes from: a target that runs now, or a file of last week.

Rule: a target that is absent, does not come up or fails the smoke test gives scenes
whose every fact has `no-evidence` and that one reason. Nothing raises.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from startkit import image
from startkit.observe.collect import Collector, ObserveError, host, require_root
from startkit.observe.evidence import FORMAT, Scene, Seen
from startkit.observe.view import SceneView
from startkit.targets.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from startkit.observe.life import Recipe
    from startkit.targets.target import Target

FAILURES = (TargetError, ObserveError, image.ImageError)


class Source(Protocol):
    """Gives evidence, scene by scene."""

    seen: Seen
    failure: str | None  # why nothing can be seen at all
    lacks: list[str]

    def scene(self, name: str) -> SceneView:
        """Return a scene; the first to ask waits for it."""
        ...


class Live:
    """A running target. Each scene is started once, when somebody asks for it."""

    def __init__(self, target: Target, recipes: Mapping[str, Recipe], tag: str) -> None:
        self.target = target
        self.recipes = recipes
        self.tag = tag
        self.lacks = target.lacks
        self.seen = nothing(target.name)
        self.failure: str | None = None
        self.collector: Collector | None = None
        self.scenes: dict[str, Scene] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[Live]:
        """Keep the target running; afterwards `seen` holds all scenes."""
        with contextlib.ExitStack() as stack:
            try:
                self.begin(stack)
            except FAILURES as error:
                self.failure = " ".join(str(error).split())
            yield self
            self.seen = msgspec.structs.replace(self.seen, scenes=dict(sorted(self.scenes.items())))

    def begin(self, stack: contextlib.ExitStack) -> None:
        """Start the target and see one container through before anything is judged."""
        require_root()
        if absent := self.target.missing():
            raise TargetError(f"{self.target.name}: not here: {', '.join(absent)}")
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="startkit-")))
        socket = stack.enter_context(self.target.running(root))
        collector = Collector(socket, tag=self.tag)
        collector.load_image(iter([image.base()[1]]))
        collector.smoke()
        self.seen, self.collector = collector.seen, collector

    def scene(self, name: str) -> SceneView:
        """Return a scene, started now if nobody has asked for it yet."""
        if name not in self.scenes:
            self.scenes[name] = self.observe(name)
        return SceneView(self.seen, self.scenes[name])

    def observe(self, name: str) -> Scene:
        """Start and watch a scene."""
        recipe = self.recipes.get(name)
        if recipe is None or self.collector is None:
            why = self.failure or f"golden/scenes.toml has no scene {name!r}"
            return Scene(name=name, recipe={}, broken=why)
        return self.collector.scene(recipe)


class Saved:
    """Evidence from a file. What is not in it was not seen."""

    def __init__(self, path: Path) -> None:
        self.failure: str | None = None
        self.lacks: list[str] = []
        self.seen = load_evidence(path)

    def scene(self, name: str) -> SceneView:
        """Return a scene of the file."""
        missing = Scene(name=name, recipe={}, broken=f"the evidence has no scene {name!r}")
        return SceneView(self.seen, self.seen.scenes.get(name, missing))


def load_evidence(path: Path) -> Seen:
    """Return the evidence in a file, or in evidence.json of a directory. Raises ValueError."""
    file = path / "evidence.json" if path.is_dir() else path
    try:
        seen = msgspec.json.decode(file.read_bytes(), type=Seen)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None
    if seen.format != FORMAT:
        raise ValueError(f"{file}: format {seen.format}, this reads format {FORMAT}")
    return seen


def nothing(target: str) -> Seen:
    """Return the evidence of a target of which nothing is known."""
    return Seen(format=FORMAT, target=target, engine=target, version="", info={}, host=host())
