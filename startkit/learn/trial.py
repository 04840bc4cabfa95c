"""One try of a lesson: our engine with a student's function in it, a container, the clauses.

Rule: this is a program of its own, `python -m startkit.learn.trial PLACE`, process 1 of new
namespaces or in a machine: a Task on stdin, an Outcome on stdout. The engine is the installed one
but for one module, which is a copy with two lines more; everything else in its tree is a link.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit import image
from startkit.judge.clause import load_clauses
from startkit.judge.dialect import choose
from startkit.judge.text import failure_text
from startkit.learn.lesson import PACKAGE, Lesson, find
from startkit.learn.outcome import GOOD, Outcome, Task
from startkit.learn.stand_in import ENTER, LEAVE, PRINT, STOPPED
from startkit.observe.collect import Collector, ObserveError
from startkit.observe.life import load_recipes
from startkit.report import offline
from startkit.targets import process
from startkit.targets.target import Engine, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from startkit.judge.verdict import Verdict
    from startkit.observe.evidence import Scene, Seen

ROOT = PACKAGE.parent
REQUEST_S = 5.0  # a stop takes one or two, and a function without an end LIMIT_S
PATIENCE_S = 5.0  # after a scene that takes longer and is red no other: the student is waiting
SEAT = """
from startkit.learn import stand_in
stand_in.take(globals(), {!r}, {!r}, {!r})
"""


def attempt(task: Task, place: Path) -> Outcome:
    """Run what the clauses need below `place`, with the file in the engine, and judge them."""
    lesson, clauses = find(task.lesson), load_clauses(ROOT / "golden")
    wanted = {name: clauses[name] for name in task.clauses or lesson.text.clauses}
    tests = {one: test for one, _, test in offline.marks(ROOT / "suites" / "conformance") if one}
    file, notes = place / lesson.file, place / "notes"
    file.write_text(task.source)
    notes.touch()
    plant(lesson, file, place, notes)
    outcome = Outcome(lesson=lesson.name)

    def judge(seen: Seen) -> list[Verdict]:
        dialect = choose(ROOT / "golden", seen.engine, seen.version)
        return list(offline.verdicts(wanted, tests, seen, dialect))

    try:
        seen = watch(place, task, [one.scene for one in wanted.values()], judge)
    except (TargetError, ObserveError, image.ImageError) as error:
        outcome.trouble = " ".join(str(error).split())
        seen = None
    read_notes(notes, place, outcome, lesson.file)
    if seen:
        outcome.verdicts = judge(seen)
        outcome.engine = refusal(seen.scenes.values())
        outcome.evidence = msgspec.Raw(msgspec.json.encode(seen))
    if outcome.red:
        first = outcome.red[0]
        outcome.failure = failure_text(first, wanted[first.clause], None, task.evidence)
    return outcome


class Watcher(Collector):
    """Watches an engine that is thrown away: who hangs is ended, not asked to tidy up."""

    def clear(self, ref: str) -> None:
        """Do nothing: what a scene leaves behind goes with its engine."""

    def give_up(self) -> None:
        """End the daemon; the rest is found by its place."""
        if self.seen.daemon:
            process.kill(self.seen.daemon.pid)


def plant(lesson: Lesson, file: Path, place: Path, notes: Path) -> None:
    """Make the tree: links, and the one module with the student's function in its seat."""
    shutil.copytree(PACKAGE, place / "startkit", copy_function=os.symlink)
    module = place / "startkit" / lesson.text.file
    module.unlink()
    module.write_text(lesson.source + SEAT.format(lesson.text.function, str(file), str(notes)))


def watch(
    place: Path, task: Task, scenes: Sequence[str], judge: Callable[[Seen], list[Verdict]]
) -> Seen:
    """Start the engine of a tree and watch scenes, until one hangs or cannot be lived through."""
    recipes = load_recipes(ROOT / "golden" / "scenes.toml")
    seen: dict[str, Scene] = {}
    root = place / "root"
    root.mkdir()
    with engine(place).running(root) as socket:
        timeout_s = REQUEST_S * task.slower
        collector = Watcher(socket, tag=f"lesson-{os.getpid()}", timeout_s=timeout_s)
        collector.load_image(iter([image.base()[1]]))
        for name in dict.fromkeys(scenes):
            late = time.monotonic() + PATIENCE_S
            seen[name] = scene = collector.scene(recipes[name])
            with (place / "containers").open("a") as made:  # for whoever looks what is left
                made.write(f"{scene.id}\n")
            collector.seen = msgspec.structs.replace(collector.seen, scenes=seen)
            hangs = scene.broken or STOPPED in (place / "notes").read_text()
            if hangs or (time.monotonic() > late and is_red(name, judge(collector.seen))):
                collector.give_up()
                break
    return collector.seen


def is_red(scene: str, verdicts: Iterable[Verdict]) -> bool:
    """Say whether a clause about a scene does not hold."""
    return any(one.scene == scene and one.status not in GOOD for one in verdicts)


def engine(place: Path) -> Engine:
    """Return our engine, started from a tree; what it starts is of the tree too."""
    environment = [f"PYTHONPATH={place}", "PYTHONSAFEPATH=1"]
    argv = [sys.executable, "-m", "startkit.daemon", "-H", "unix://{root}/api.sock"]
    argv += ["--data-root", "{root}/data", "--exec-root", "{root}/exec", "--pidfile", "{root}/pid"]
    return Engine(name="startkit", start=["env", *environment, *argv], ready="{root}/api.sock")


def read_notes(notes: Path, place: Path, outcome: Outcome, file: str) -> None:
    """Put in what the seats wrote down, each sentence once, without our own places."""
    inside: dict[str, str] = {}
    found: dict[str, None] = {}
    for row in notes.read_text(errors="replace").replace(f"{place}/", "").splitlines():
        kind, line, text = row.split("\t", 2)
        if kind == PRINT:
            outcome.printed.append(text)
        elif kind == ENTER:
            inside[text] = line
        elif kind == LEAVE:
            inside.pop(text, None)
        else:
            found[f"{file}:{line}: {text}"] = None
    ended = [
        f"{file}:{line}: entered and not left: it ended its process, or hung"
        for line in inside.values()
    ]
    outcome.notes = [*found, *dict.fromkeys(ended)]


def refusal(scenes: Iterable[Scene]) -> str:
    """Return the engine's words about the first create or start that failed, its status first."""
    for scene in scenes:
        answer = scene.answers.get("start") or scene.answers.get("create")
        if answer and answer.status >= 400:
            return f"{answer.status} {answer.message}".replace(f"{scene.root}/", "")
    return ""


def main() -> None:
    """Answer the one task."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)  # what a wrong function writes to where it is goes with us
    sys.stdout.buffer.write(msgspec.json.encode(attempt(task, place)))


if __name__ == "__main__":
    main()
