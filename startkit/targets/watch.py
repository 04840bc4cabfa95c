"""Where evidence comes from: a target that runs now, or a file of last week.

Rule: a target that is absent, does not come up or fails the smoke test gives scenes
whose every fact has `no-evidence` and that one reason. Nothing raises.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from startkit import image
from startkit.observe import cgroups
from startkit.observe.collect import Collector, ObserveError, host, require_root
from startkit.observe.evidence import FORMAT, Scene, Seen
from startkit.observe.trials.view import TrialView
from startkit.observe.view import NoEvidence, SceneView
from startkit.targets.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from startkit.observe.life import Recipe
    from startkit.targets.target import Target
    from startkit.targets.trials import Trials

FAILURES = (TargetError, ObserveError, image.ImageError)
BEGIN_S = 90.0  # all that comes before the first scene
PATIENCE_S = 120.0  # for scenes and trials that come to nothing; then no more are begun


class Unseen:
    """A scene or a trial that was not seen: whatever is asked of it raises NoEvidence."""

    def __init__(self, seen: Seen, name: str, why: str | None = None) -> None:
        self.seen, self.why = seen, why or f"the evidence has no scene {name!r}"

    def names(self) -> dict[str, str]:
        """Return no token."""
        return {}

    def refusal(self) -> str | None:
        """Return None: nothing was asked."""
        return None

    def __getattr__(self, name: str) -> Any:
        raise NoEvidence(self.why)


View = SceneView | TrialView | Unseen


class Source(Protocol):
    """Gives evidence, scene by scene."""

    seen: Seen

    @property
    def note(self) -> str | None:
        """What a reader must know, such as why nothing can be seen at all."""
        ...

    def scene(self, name: str) -> View:
        """Return a scene or a trial; the first to ask waits for it."""
        ...


class Live:
    """A running target. Each scene and trial is started once, when somebody asks for it.

    `target` is None where a runtime alone is judged, `trials` where an engine alone is.
    """

    def __init__(
        self,
        target: Target | None,
        recipes: Mapping[str, Recipe],
        tag: str,
        trials: Trials | None = None,
    ) -> None:
        self.target, self.trials = target, trials
        self.recipes = recipes
        self.tag = tag
        self.seen = nothing(target.name) if target else alone(trials)
        self.failure: str | None = None
        self.collector: Collector | None = None
        self.scenes: dict[str, Scene] = {}
        self.lost_s = 0.0  # time that went into what came to nothing

    @contextlib.contextmanager
    def watching(self) -> Iterator[Live]:
        """Keep the target running; afterwards `seen` holds all scenes."""
        with contextlib.ExitStack() as stack:
            try:
                require_root()
                if self.target:
                    self.begin(stack, self.target)
                if self.trials:
                    self.trials.smoke()
                    self.seen = self.seen if self.target else alone(self.trials)
            except FAILURES as error:
                self.failure = " ".join(str(error).split())
            yield self
            self.seen = msgspec.structs.replace(
                self.seen,
                scenes=dict(sorted(self.scenes.items())),
                trials=dict(sorted(self.trials.done.items())) if self.trials else {},
                runtime=f"{self.trials.name}-{self.trials.version}" if self.trials else "",
            )

    @property
    def note(self) -> str | None:
        """What a reader must know of how it was watched."""
        return self.failure or (self.trials.note if self.trials else None)

    def begin(self, stack: contextlib.ExitStack, target: Target) -> None:
        """Start the engine and see one container through before anything is judged."""
        if absent := target.missing():
            raise TargetError(f"{target.name}: not here: {', '.join(absent)}")
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="startkit-")))
        stack.callback(self.remove_cgroups)
        socket = stack.enter_context(target.running(root))
        end = time.monotonic() + BEGIN_S
        collector = Collector(socket, tag=self.tag)
        with collector.client.by(end):
            collector.load_image(iter([image.base()[1]]))
            collector.smoke()
        self.seen, self.collector = whole(collector.seen, Seen), collector

    def remove_cgroups(self) -> None:
        """Remove what an engine that has ended left of its containers in the host's cgroups."""
        for scene in self.scenes.values():
            if scene.id:
                cgroups.remove(scene.id)

    def scene(self, name: str) -> View:
        """Return a scene or a trial, started now if nobody has asked for it yet."""
        if self.trials and name in self.trials.bundles:
            if self.failure and name not in self.trials.done:
                return Unseen(self.seen, name, self.failure)
            begin = time.monotonic()
            trial = self.trials.trial(name)
            self.note_loss(trial.broken, begin)
            return TrialView(self.seen, trial)
        if name not in self.scenes:
            begin = time.monotonic()
            self.scenes[name] = self.observe(name)
            self.note_loss(self.scenes[name].broken, begin)
        return SceneView(self.seen, self.scenes[name])

    def note_loss(self, broken: str | None, begin: float) -> None:
        """Give a target up whose scenes have come to nothing for too long."""
        self.lost_s += time.monotonic() - begin if broken else 0
        if self.lost_s > PATIENCE_S and not self.failure:
            self.failure = f"given up after {self.lost_s:.0f} s without evidence: {broken}"

    def observe(self, name: str) -> Scene:
        """Start and watch a scene."""
        recipe = self.recipes.get(name)
        if recipe is None or self.collector is None or self.failure:
            why = self.failure or f"golden/scenes.toml has no scene {name!r}"
            return Scene(name=name, recipe={}, broken=why)
        scene = self.collector.scene(recipe)
        try:
            return whole(scene, Scene)
        except ObserveError as error:
            return Scene(name=name, recipe={}, id=scene.id, broken=str(error))


T = TypeVar("T")


def whole(made: T, kind: type[T]) -> T:
    """Return evidence as a reader of its file finds it. Raises ObserveError where none would."""
    try:
        return msgspec.json.decode(msgspec.json.encode(made), type=kind)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ObserveError(f"what was seen cannot be written down: {error}"[:300]) from None


class Saved:
    """Evidence from a file. What is not in it was not seen."""

    def __init__(self, path: Path) -> None:
        self.seen = load_evidence(path)

    @property
    def note(self) -> str | None:
        """Nothing: what was to be told stands in the results of that run."""
        return None

    def scene(self, name: str) -> View:
        """Return a scene or a trial of the file."""
        return view(self.seen, name)


def view(seen: Seen, name: str) -> View:
    """Return what was seen of a scene or a trial, be it nothing."""
    if name in seen.trials:
        return TrialView(seen, seen.trials[name])
    return SceneView(seen, seen.scenes[name]) if name in seen.scenes else Unseen(seen, name)


class Stamp(msgspec.Struct, frozen=True):
    """What every version of the evidence has."""

    format: int


def load_evidence(path: Path) -> Seen:
    """Return the evidence in a file, or in evidence.json of a directory. Raises ValueError."""
    file = path / "evidence.json" if path.is_dir() else path
    try:
        data = file.read_bytes()
        made_as = msgspec.json.decode(data, type=Stamp).format
        if made_as != FORMAT:
            raise ValueError(f"format {made_as}, this reads format {FORMAT}")
        return msgspec.json.decode(data, type=Seen)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


def nothing(target: str) -> Seen:
    """Return the evidence of a target of which nothing is known."""
    return Seen(format=FORMAT, target=target, engine=target, version="", info={}, host=host())


def alone(trials: Trials | None) -> Seen:
    """Return the evidence of a runtime that is judged without an engine."""
    if trials is None:
        return nothing("nobody")
    seen = nothing(f"{trials.name}-{trials.version}")
    return msgspec.structs.replace(seen, engine=trials.name, version=trials.version)
