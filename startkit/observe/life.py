"""One container's life, from create to what is left of it, watched at its moments.

Rule: all the time that a scene may take stands here. What stops a scene is written
down as `broken`; it never stops the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.client import ClientError
from startkit.observe import disk, look
from startkit.observe.evidence import Answer, Moment, Scene
from startkit.observe.leftovers import settle

if TYPE_CHECKING:
    from pathlib import Path

    from startkit.observe.collect import Collector

READY_S = 10.0  # until the program has written its `ready` text
SCENE_S = 60.0  # one scene, whatever request it hangs in; then it is cleared away
IMAGE = "startkit/base:latest"
UNKNOWN = "0" * 64
EDITED = "edited\n"
ID = re.compile(r"[0-9A-Za-z][\w.-]{11,}")


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scene of golden/scenes.toml: how a container is made and how far its life goes."""

    name: str
    says: str = ""
    create: dict[str, Any] = {}  # body of POST /containers/create
    moments: tuple[str, ...] = ("created", "running")
    ready: str | None = None  # text in the log that says that the program is there
    exits: bool = False  # the program ends by itself
    extra: tuple[str, ...] = ()  # of start-running create-again remove-running unknown
    inside: tuple[str, ...] = ()  # paths of the container to look at beyond the usual ones
    edits: tuple[str, ...] = ()  # files of its directory that are overwritten while it is stopped
    stop_s: int = 1  # time between the stop signal and SIGKILL


def load_recipes(path: Path) -> dict[str, Recipe]:
    """Return the scenes of golden/scenes.toml by name. Raises ValueError, one line."""
    try:
        document = tomllib.loads(path.read_text())
        recipes = msgspec.convert(document["scene"], list[Recipe])
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return {recipe.name: recipe for recipe in recipes}


class Life:
    """One container from create to what is left of it."""

    def __init__(self, collector: Collector, recipe: Recipe) -> None:
        self.api = collector.api
        self.collector = collector
        self.recipe = recipe
        self.body = {"Image": IMAGE, **recipe.create}
        self.name = f"startkit-{recipe.name}-{collector.tag}"
        self.end = time.monotonic() + SCENE_S
        self.since = time.time()
        self.answers: dict[str, Answer] = {}
        self.moments: dict[str, Moment] = {}
        self.events: list[dict[str, Any]] = []
        self.leftovers: list[str] = []
        self.subject = look.Subject(
            api=self.api,
            id="",
            root=collector.seen.info.get("DockerRootDir"),
            daemon=collector.seen.daemon,
            containerd=collector.seen.containerd,
            inside=recipe.inside,
        )

    def run(self) -> Scene:
        """Live through the scene; what stops it is written down as `broken`."""
        broken = None
        try:
            with self.api.client.by(self.end):
                self.create()
                if self.subject.id:
                    self.live()
                    self.remove()
        except (ClientError, OSError, ValueError) as error:
            late = f", not over after {SCENE_S:.0f} s" if time.monotonic() > self.end else ""
            broken = f"{error}{late}"
        finally:
            self.collector.clear(self.name)
        return Scene(
            name=self.recipe.name,
            recipe=self.body,
            id=self.subject.id,
            answers=self.answers,
            moments=self.moments,
            events=self.events,
            leftovers=self.leftovers,
            broken=broken,
            root=self.subject.root,
            daemon=self.subject.daemon,
            containerd=self.subject.containerd,
        )

    def ask(self, key: str, method: str, template: str, **query: Any) -> Answer:
        """Send a request, and keep the answer under `key`."""
        ref = query.pop("ref", self.subject.id)
        answer = self.api.ask(method, template, ref, **query)
        self.answers[key] = answer
        return answer

    def look(self, moment: str) -> None:
        """Write down a moment, if the scene wants it."""
        if moment in self.recipe.moments:
            self.moments[moment] = look.look(self.subject)

    def create(self) -> None:
        """Create the container and look at it before its first start.

        Raises ValueError where the id that the engine gives is no container's, or another's.
        """
        answer = self.ask("create", "POST", "/containers/create", name=self.name, body=self.body)
        made = answer.body.get("Id") if isinstance(answer.body, dict) else None
        if answer.status < 300:
            if not isinstance(made, str) or not ID.fullmatch(made):
                raise ValueError(f"create: {answer.status} and no id: {str(answer.body)[:100]}")
            self.subject.id = made
            self.compare()
            self.look("created")

    def compare(self) -> None:
        """Raise ValueError where the engine knows the container's name by another id."""
        with contextlib.suppress(ClientError):
            own = self.api.inspect(self.name).get("Id")
            if own not in (None, self.subject.id):
                told, self.subject.id = self.subject.id, ""
                raise ValueError(f"create gives {told}, which is not {self.name}: that is {own}")

    def live(self) -> None:
        """Start, watch, stop, start again, as far as the scene goes."""
        wanted = set(self.recipe.moments)
        started = self.start("start")
        if started and not self.recipe.exits:
            self.look("running")
            self.requests_to_a_running_one()
        if not started or self.recipe.exits or {"stopped", "again"} & wanted:
            self.stop(by_itself=self.recipe.exits or not started)
            self.look("stopped")
        self.edit()
        if "again" in wanted and self.start("start-again"):
            self.look("again")

    def start(self, key: str) -> bool:
        """Start the container and wait until its program is there; say whether it was started."""
        if self.ask(key, "POST", "/containers/{id}/start").status >= 300:
            return False
        ready = self.recipe.ready
        if ready and not self.recipe.exits:
            patience_s = min(READY_S, self.api.client.timeout_s)
            self.api.log_has(self.subject.id, ready, timeout_s=patience_s)
        return True

    def stop(self, *, by_itself: bool) -> None:
        """Stop the container, or see it end; then wait, which gives the exit status."""
        if not by_itself:
            self.ask("stop", "POST", "/containers/{id}/stop", t=self.recipe.stop_s)
        self.ask("wait", "POST", "/containers/{id}/wait")

    def edit(self) -> None:
        """Overwrite what the scene names in the container's directory, where it is a file."""
        directory = self.subject.places.get("container_dir", "")
        for name in self.recipe.edits if directory else ():
            path = os.path.join(directory, name)
            # what has another name as well may be the host's
            if disk.kind_of(path) == "file" and os.lstat(path).st_nlink == 1:
                with open(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "w") as file:
                    file.write(EDITED)

    def requests_to_a_running_one(self) -> None:
        """Ask what the scene wants refused while the container runs."""
        extra = self.recipe.extra
        if "start-running" in extra:
            self.ask("start-running", "POST", "/containers/{id}/start")
        if "create-again" in extra:
            self.ask("create-again", "POST", "/containers/create", name=self.name, body=self.body)
        if "remove-running" in extra:
            self.ask("remove-running", "DELETE", "/containers/{id}")
        if "unknown" in extra:
            self.ask("unknown", "POST", "/containers/{id}/start", ref=UNKNOWN)

    def remove(self) -> None:
        """Remove the container, ask for it once more, and search what is left of it."""
        self.ask("remove", "DELETE", "/containers/{id}", force=True, v=True)
        self.ask("inspect-removed", "GET", "/containers/{id}/json")
        self.events = self.api.events(self.subject.id, self.since)
        self.leftovers = settle(self.subject)
