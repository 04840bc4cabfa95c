"""A lesson is checked: our engine with a student's function in it, a container, the clauses.

Rule: the engine is the installed one but for one module, which is a copy with two lines more;
everything else in its tree is a link. What a try leaves on the machine is taken away.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit import image, kernel
from startkit.judge.clause import load_clauses
from startkit.judge.dialect import choose
from startkit.judge.text import failure_text, row, value_text
from startkit.judge.verdict import JUDGED, Verdict
from startkit.learn.lesson import PACKAGE, Lesson, LessonError
from startkit.learn.stand_in import STOPPED
from startkit.observe import cgroups, procfs
from startkit.observe.collect import Collector, ObserveError
from startkit.observe.life import load_recipes
from startkit.report import offline, result
from startkit.targets import process
from startkit.targets.guest import Guest
from startkit.targets.target import Engine, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from startkit.observe.evidence import Scene, Seen

ROOT = PACKAGE.parent
REQUEST_S = 8.0  # a stop takes one or two
BLANK = "not written yet"
GOOD = ("conforms", "not-applicable", "expected-difference")
SEAT = """
from startkit.learn import stand_in
stand_in.take(globals(), {!r}, {!r}, {!r})
"""


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a try. `notes`: what went wrong in the student's file, `FILE:LINE: text`."""

    lesson: str
    verdicts: list[Verdict] = []
    notes: list[str] = []
    engine: str = ""  # what the engine answered to a start that failed
    text: str = ""

    @property
    def passed(self) -> bool:
        """Say whether all clauses hold."""
        return bool(self.verdicts) and not self.red

    @property
    def red(self) -> list[Verdict]:
        """The clauses that do not."""
        return [one for one in self.verdicts if one.status not in GOOD]


def check(lesson: Lesson, file: Path, hints: int = 0) -> Outcome:
    """Try a student's file. Raises LessonError where nothing could be tried."""
    try:
        source = file.read_text()
    except (OSError, ValueError) as error:
        raise LessonError(f"{file}: {error}") from None
    if refused := lesson.refuse(source, str(file)):
        outcome = Outcome(lesson=lesson.name, notes=[refused])
    else:
        outcome = judged(lesson, file.absolute(), lesson.text.clauses)
    if lesson.is_blank(source):
        outcome.notes.insert(0, f"{file.name}: {BLANK}")
    outcome.text = told(lesson, outcome, file, hints)
    return outcome


def judged(lesson: Lesson, file: Path, names: Iterable[str]) -> Outcome:
    """Run what the clauses need, with the file in the engine, and judge them."""
    clauses = load_clauses(ROOT / "golden")
    wanted = {name: clauses[name] for name in names}
    tests = {one: test for one, _, test in offline.marks(ROOT / "suites" / "conformance") if one}
    with tempfile.TemporaryDirectory(prefix="startkit-lesson-") as place:
        notes = Path(place, "notes")
        notes.touch()
        plant(lesson, file, Path(place), notes)
        try:
            seen = watch(Path(place), [one.scene for one in wanted.values()], notes)
        except (TargetError, ObserveError, image.ImageError) as error:
            if not notes.read_text():  # else the engine did not come up for that reason
                raise LessonError(" ".join(str(error).split())) from None
            seen = None
        outcome = Outcome(lesson=lesson.name, notes=read_notes(notes, file))
    if seen:
        keep(file.parent, lesson, seen)
        dialect = choose(ROOT / "golden", seen.engine, seen.version)
        outcome.verdicts = list(offline.verdicts(wanted, tests, seen, dialect))
        outcome.engine = refusal(seen.scenes.values())
    return outcome


def plant(lesson: Lesson, file: Path, place: Path, notes: Path) -> None:
    """Make the tree: links, and the one module with the student's function in its seat."""
    shutil.copytree(PACKAGE, place / "startkit", copy_function=os.symlink)
    module = place / "startkit" / lesson.text.file
    module.unlink()
    module.write_text(lesson.source + SEAT.format(lesson.text.function, str(file), str(notes)))


def watch(place: Path, scenes: Sequence[str], notes: Path) -> Seen:
    """Start the engine of a tree and watch scenes, until one hangs or cannot be lived through."""
    recipes = load_recipes(ROOT / "golden" / "scenes.toml")
    target = engine(place)
    guest, root = Guest(target), place / "root"
    found: dict[str, Scene] = {}
    root.mkdir()
    try:
        with target.running(root) as socket:
            collector = Collector(socket, tag=f"lesson-{os.getpid()}", timeout_s=REQUEST_S)
            collector.load_image(iter([image.base()[1]]))
            for scene in dict.fromkeys(scenes):
                found[scene] = collector.scene(recipes[scene])
                if found[scene].broken or STOPPED in notes.read_text():
                    break
        return msgspec.structs.replace(collector.seen, scenes=found)
    finally:
        for one in found.values():
            if one.id:
                sweep(one.id)
        guest.leave()


def engine(place: Path) -> Engine:
    """Return our engine, started from a tree; what it starts is of the tree too."""
    environment = [f"PYTHONPATH={place}", "PYTHONSAFEPATH=1"]
    argv = [sys.executable, "-m", "startkit.daemon", "-H", "unix://{root}/api.sock"]
    argv += ["--data-root", "{root}/data", "--exec-root", "{root}/exec", "--pidfile", "{root}/pid"]
    return Engine(name="startkit", start=["env", *environment, *argv], ready="{root}/api.sock")


def sweep(container: str) -> None:
    """Take away what a wrong step left under a container's id, wherever it put it."""
    for pid in procfs.naming(container):
        process.kill(pid)
    for mount in reversed(procfs.mounts()):
        if container in mount.target:
            with contextlib.suppress(OSError):
                kernel.umount(mount.target, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)
    for directory in map(Path, cgroups.find(container).values()):
        with contextlib.suppress(OSError):
            for word in (directory / "cgroup.procs").read_text().split():
                process.kill(int(word))
            directory.rmdir()


def read_notes(notes: Path, file: Path) -> list[str]:
    """Return what the seats wrote down, each sentence once."""
    lines = dict.fromkeys(notes.read_text().splitlines())
    return [f"{file.name}:{line.replace(chr(9), ': ', 1)}" for line in lines]


def refusal(scenes: Iterable[Scene]) -> str:
    """Return the engine's words about the first create or start that failed, its status first."""
    for scene in scenes:
        answer = scene.answers.get("start") or scene.answers.get("create")
        if answer and answer.status >= 400:
            body = answer.body
            words = body.get("message", "") if isinstance(body, dict) else body
            return f"{answer.status} {words}".replace(f"{scene.root}/", "")
    return ""


def keep(course: Path, lesson: Lesson, seen: Seen) -> None:
    """Save the evidence beside the student's file, as far as one may write there."""
    with contextlib.suppress(OSError):
        result.write(evidence(course, lesson), seen)


def evidence(course: Path, lesson: Lesson) -> Path:
    """Return where a lesson's evidence is kept."""
    return course / ".startkit" / f"{lesson.name}.json"


def told(lesson: Lesson, outcome: Outcome, file: Path, hints: int) -> str:
    """Return the whole answer to a student: the first clause that fails, why, and hints."""
    total = len(lesson.text.clauses)
    held = total - len(outcome.red) if outcome.verdicts else 0
    lines = [f"lesson {lesson.number}, {lesson.name}: {held} of {total} clauses hold", ""]
    if outcome.passed:
        return lines[0]
    if outcome.red:
        first = outcome.red[0]
        clause = load_clauses(ROOT / "golden")[first.clause]
        place = str(evidence(file.parent, lesson))
        lines.append(failure_text(first, clause, None, place))
    rows = [("yours", one) for one in outcome.notes[:1]]
    rows += [("engine", outcome.engine)] * bool(outcome.engine)
    rows += [("mistake", says) for says in mistakes(lesson, outcome)]
    rows += [(f"hint {number}", hint) for number, hint in enumerate(lesson.text.hints[:hints], 1)]
    lines += [line for name, value in rows for line in row(name, value)]
    if hints < len(lesson.text.hints):
        more = " ".join(["--hint"] * (hints + 1))
        lines += ["", f"stuck? startkit learn check {lesson.name} {more}"]
    return "\n".join(lines)


def mistakes(lesson: Lesson, outcome: Outcome) -> list[str]:
    """Return what a known mistake says that would fail the same clause in the same way."""
    first = outcome.red[0] if outcome.red else None
    if any(note.endswith(BLANK) for note in outcome.notes):
        return []
    seen = [*outcome.notes, outcome.engine]
    if first and first.status in JUDGED:
        seen.append(value_text(first.observed))
    return [
        wrong.says
        for wrong in lesson.text.wrong
        if first
        and wrong.clause == first.clause
        and any(re.search(wrong.seen, one) for one in seen)
    ][:1]
