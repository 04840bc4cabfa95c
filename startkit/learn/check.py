"""A lesson is checked: a try in a place of its own, and what a student is told of it.

Rule: a try runs in a mount and a pid namespace, or in a machine, so that the kernel itself takes
away what a student's function leaves mounted or running; a cgroup bounds how many it can start.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit.judge.text import row, value_text
from startkit.judge.verdict import JUDGED
from startkit.learn.lesson import PACKAGE, Lesson, LessonError
from startkit.learn.outcome import Outcome, Task
from startkit.observe import cgroups
from startkit.report import result
from startkit.targets import process
from startkit.targets.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = 20  # of what a function prints
BLANK = "not written yet"
TRY_S = 120  # nothing in a try takes so long
MACHINE_S = 600  # nor in a machine without KVM
TRANSLATED = 5  # times slower is such a machine
PROCESSES = "200"  # of an engine: a fork without an end comes to one
IN_CONTAINERS = "2000"
TRIAL = (sys.executable, "-m", "startkit.learn.trial")
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
MACHINE = (sys.executable, "-m", "startkit.cli", "vm", "run", "--timeout", str(MACHINE_S), "--")
JOIN = ("sh", "-c", 'echo $$ > "$0" && exec "$@"')


def check(lesson: Lesson, file: Path, hints: int = 0, *, vm: bool = False) -> Outcome:
    """Try a student's file. Raises LessonError where nothing could be tried."""
    try:
        source = file.read_text()
    except (OSError, ValueError) as error:
        raise LessonError(f"{file}: {error}") from None
    place = evidence(file.parent, lesson)
    if refused := lesson.refuse(source, file.name):
        outcome = Outcome(lesson=lesson.name, notes=[refused])
    else:
        task = Task(lesson=lesson.name, source=source, evidence=str(place))
        outcome = attempt(task, vm=vm)
        with contextlib.suppress(OSError):
            result.write_whole(place, msgspec.json.format(outcome.evidence, indent=1) + b"\n")
    if lesson.is_blank(source):
        outcome.notes.insert(0, f"{file.name}: {BLANK}")
    outcome.text = told(lesson, outcome, hints)
    return outcome


def evidence(course: Path, lesson: Lesson) -> Path:
    """Return where a lesson's evidence is kept."""
    return course / ".startkit" / f"{lesson.name}.json"


def attempt(task: Task, *, vm: bool = False) -> Outcome:
    """Carry out a task here or in a machine. Raises LessonError where nothing could be tried."""
    if vm:
        slow = msgspec.structs.replace(task, slower=TRANSLATED)
        outcome = ask([*MACHINE, *TRIAL, "/tmp/trial"], slow, MACHINE_S + TRY_S)
    elif os.geteuid() != 0:
        raise LessonError("starting containers needs root, or a virtual machine: --vm")
    else:
        with tempfile.TemporaryDirectory(prefix="startkit-lesson-") as place, bounded() as join:
            made = Path(place, "containers")
            made.touch()
            try:
                outcome = ask([*join, *ALONE, *TRIAL, place], task, TRY_S)
            finally:
                there = [one.name for one in Path(place).glob("root/data/containers/*")]
                for container in {*made.read_text().split(), *there}:
                    for directory in cgroups.find(container).values():
                        remove(directory)
    if outcome.trouble and not outcome.notes:  # else that is why the engine did not come up
        raise LessonError(outcome.trouble)
    return outcome


def ask(argv: list[str], task: Task, limit_s: float) -> Outcome:
    """Run the program of a try. Raises LessonError where it gives no answer."""
    try:
        done = subprocess.run(
            argv, cwd=PACKAGE.parent, input=msgspec.json.encode(task),
            capture_output=True, timeout=limit_s, check=False,
        )  # fmt: skip
        return msgspec.json.decode(done.stdout, type=Outcome)
    except subprocess.TimeoutExpired:
        raise LessonError(f"the try had no end after {limit_s:.0f} s") from None
    except OSError as error:
        raise LessonError(str(error)) from None
    except msgspec.DecodeError:
        said = done.stderr.decode(errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        raise LessonError(f"the try ended with {done.returncode}: {last.strip()}") from None


@contextlib.contextmanager
def bounded() -> Iterator[list[str]]:
    """Give the words that put a command into a cgroup of its own, where there is a place for it.

    Containers get theirs in /docker, as the article has it: where nobody else does, that is
    bounded as well.
    """
    guest = Guest()
    tops = cgroups.hierarchies()
    top = next((at for name, at in tops.items() if "pids" in name.split(",")), tops.get("unified"))
    own = f"{top}/startkit-lesson-{os.getpid()}"
    try:
        for directory, most in ((own, PROCESSES), (f"{top}/docker", IN_CONTAINERS)):
            with contextlib.suppress(OSError):
                os.mkdir(directory)
                Path(directory, "pids.max").write_text(most)
        yield [*JOIN, f"{own}/cgroup.procs"] if os.path.isdir(own) else []
    finally:
        remove(own)
        guest.leave()


def remove(directory: str) -> None:
    """Remove a cgroup, with the processes and the groups that are in it still."""
    end = time.monotonic() + process.END_S
    while os.path.isdir(directory) and time.monotonic() < end:
        for inner, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):
                for word in Path(inner, "cgroup.procs").read_text().split():
                    process.kill(int(word))
                os.rmdir(inner)


def told(lesson: Lesson, outcome: Outcome, hints: int) -> str:
    """Return the whole answer to a student: the first clause that fails, why, and hints."""
    total = len(lesson.text.clauses)
    held = total - len(outcome.red) if outcome.verdicts else 0
    lines = [f"lesson {lesson.number}, {lesson.name}: {held} of {total} clauses hold", ""]
    if outcome.passed:
        return lines[0]
    lines += [outcome.failure] * bool(outcome.failure)
    rows = [("yours", one) for one in outcome.notes[:1]]
    rows += [("printed", "\n".join(outcome.printed[:LINES]))] * bool(outcome.printed)
    rows += [("engine", outcome.engine)] * bool(outcome.engine)
    rows += [("mistake", says) for says in mistakes(lesson, outcome)]
    rows += [(f"hint {number}", hint) for number, hint in enumerate(lesson.text.hints[:hints], 1)]
    lines += [line for name, value in rows for line in row(name, value)]
    if hints < len(lesson.text.hints):
        more = " ".join(["--hint"] * (hints + 1))
        lines += ["", f"stuck? startkit learn check {lesson.name} {more}"]
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", "\n".join(lines))


def mistakes(lesson: Lesson, outcome: Outcome) -> list[str]:
    """Return what a known mistake says that would fail the same clause in the same way."""
    first = outcome.red[0] if outcome.red else None
    if any(note.endswith(BLANK) for note in outcome.notes):
        return []
    seen = [*outcome.notes, *[outcome.engine] * bool(outcome.engine)]
    if first and first.status in JUDGED:
        seen.append(value_text(first.observed))
    return [
        wrong.says
        for wrong in lesson.text.wrong
        if first
        and wrong.clause == first.clause
        and any(re.search(wrong.seen, one) for one in seen)
    ][:1]
