"""A course: a directory with a file a lesson, what is done, and a test for pytest."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit.learn import lesson
from startkit.learn.check import check
from startkit.learn.lesson import Lesson, LessonError
from startkit.report import result

if TYPE_CHECKING:
    from rich.table import Table

    from startkit.learn.outcome import Outcome

PROGRESS = "course.json"
TESTS = {
    "pytest.ini": "[pytest]\naddopts = --import-mode=importlib\njunit_family = xunit1\n",
    "test_course.py": '''"""`startkit learn check` as tests, in a machine unless you are root."""

import os
from pathlib import Path

import pytest

from startkit.learn import course


@pytest.mark.parametrize("name", course.names())
def test_lesson(name, record_property):
    outcome = course.Course(Path(__file__).parent).check(name, vm=os.geteuid() != 0)
    for verdict in outcome.verdicts:
        record_property(verdict.clause, verdict.status)
    if not outcome.passed:
        pytest.fail(outcome.text, pytrace=False)
''',
}


class Record(msgspec.Struct, omit_defaults=True):
    """What is known of one lesson. `done`: when all its clauses held."""

    tries: int = 0
    hints: int = 0
    done: str = ""


class Course:
    """A course in `directory`. Raises LessonError where there is none."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.file = directory, directory / PROGRESS
        self.records = self.read()

    def read(self) -> dict[str, Record]:
        """Return the progress. Raises LessonError."""
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=dict[str, Record])
        except FileNotFoundError:
            raise LessonError(
                f"{self.directory}: no course here: startkit learn init DIR"
            ) from None
        except (OSError, ValueError) as error:
            raise LessonError(f"{self.file}: {error}") from None

    def record(self, name: str) -> Record:
        """Return what is known of a lesson."""
        return self.records.setdefault(name, Record())

    def following(self) -> Lesson | None:
        """Return the first lesson that is not done."""
        return next((one for one in lesson.load() if not self.record(one.name).done), None)

    def check(self, word: str = "", hints: int = 0, *, vm: bool = False) -> Outcome:
        """Check a lesson, the next one by default, and keep what came of it. Raises LessonError."""
        one = lesson.find(word) if word else self.following() or lesson.load()[-1]
        outcome = check(one, self.directory / one.file, hints, vm=vm)
        self.keep(one.name, hints, passed=outcome.passed)
        return outcome

    def keep(self, name: str, hints: int, *, passed: bool) -> None:
        """Write down a try, whoever else checks another lesson meanwhile."""
        directory = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            self.records = self.read()
            record = self.record(name)
            record.tries += 1
            record.hints = max(record.hints, hints)
            record.done = (passed and (record.done or time.strftime("%Y-%m-%d %H:%M"))) or ""
            data = msgspec.json.format(msgspec.json.encode(self.records)) + b"\n"
            result.write_whole(self.file, data)
        finally:
            os.close(directory)

    def map(self, *, color: bool) -> str:
        """Return the lessons as a table, done and next, and the progress as a bar."""
        from rich.console import Console
        from rich.progress_bar import ProgressBar

        lessons = lesson.load()
        done = sum(bool(self.record(one.name).done) for one in lessons)
        console = Console(width=92, force_terminal=color, no_color=not color, highlight=False)
        with console.capture() as capture:
            console.print(self.table(lessons))
            console.print(ProgressBar(len(lessons), done, width=40), f" {done} of {len(lessons)}")
        return capture.get().rstrip()

    def table(self, lessons: list[Lesson]) -> Table:
        """Return one row a lesson."""
        from rich import box
        from rich.table import Table

        made = Table("", "lesson", "file", "step", "", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
        following = self.following()
        for one in lessons:
            record = self.record(one.name)
            state, style = ("done", "green") if record.done else ("", "dim")
            if following and one.name == following.name:
                state, style = "next", "bold yellow"
            made.add_row(str(one.number), one.text.title, one.file, one.text.step, state,
                         style=style)  # fmt: skip
        return made


def names() -> list[str]:
    """Return the names of all lessons."""
    return [one.name for one in lesson.load()]


def init(directory: Path) -> Course:
    """Write a course. Raises LessonError where something of it is there already."""
    pages = {one.file: one.page() for one in lesson.load()} | TESTS | {PROGRESS: "{}\n"}
    pages["README.md"] = Path(__file__).with_name("COURSE.md").read_text()
    directory.mkdir(parents=True, exist_ok=True)
    if present := [name for name in pages if (directory / name).exists()]:
        raise LessonError(f"{directory / present[0]} is there already")
    for name, text in pages.items():
        (directory / name).write_text(text)
    return Course(directory)
