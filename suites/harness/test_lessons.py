"""The lessons as data, and on real containers: some always, all with the profile `thorough`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET

import msgspec
import offline
import pytest

from startkit import cli, story
from startkit.judge.verdict import JUDGED
from startkit.learn import check, course, lesson
from startkit.learn.outcome import Outcome, Task
from startkit.observe import procfs
from startkit.observe.evidence import Seen

LESSONS = lesson.load()
BY_NAME = {one.name: one for one in LESSONS}
CLAUSES = [name for one in LESSONS for name in one.text.clauses]
STEPS = {f"{program} {step}" for program, step, _ in story.steps()}
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
TRIED = LESSONS if THOROUGH else [BY_NAME["hostname"]]
# who is not the program's parent is not seen as its shim either
FOLLOW = {"subreaper": ("process.shim.argv", "process.shim.cwd", "process.shim.group")}
each = pytest.mark.parametrize("one", LESSONS, ids=lambda one: one.name)
tried = pytest.mark.parametrize("one", TRIED, ids=lambda one: one.name)
root = pytest.mark.skipif(os.geteuid() != 0, reason="starting containers needs root")


def write(one, directory, body):
    file = directory / one.file
    file.write_text(one.page(body))
    return file


@pytest.fixture
def clean(monkeypatch):
    """Let a try have a place of its own, in which nothing may be left."""
    with tempfile.TemporaryDirectory(prefix="l-") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        monkeypatch.setenv("TMPDIR", place)
        yield
        assert os.listdir(place) == []
        assert [one.target for one in procfs.mounts() if place in one.target] == []
        assert procfs.naming(place) == []


def test_lessons_are_numbered_and_share_no_clause():
    assert [one.number for one in LESSONS] == sorted({one.number for one in LESSONS})
    assert len(CLAUSES) == len(set(CLAUSES))


@each
def test_a_lesson_names_a_function_a_step_and_clauses_that_are_there(one):
    index = tomllib.loads((offline.GOLDEN / "article" / "index.toml").read_text())

    assert one.reference.body[1:]
    assert one.text.step in STEPS
    assert one.text.heading in index["heading"]
    assert [name for name in one.text.clauses if name not in offline.CLAUSES] == []


@each
def test_the_page_of_a_lesson_has_a_typed_signature_and_no_answer(one):
    page = one.page()
    function = ast.parse(page).body[-1]

    assert [ast.unparse(part) for part in function.body[1:]] == ["..."]
    assert ast.unparse(function).splitlines()[0] == one.signature()
    assert [line for line in page.splitlines() if len(line) > 100] == []
    assert one.refuse(one.page(one.answer()), one.file) == ""


@each
def test_a_wrong_answer_is_python_and_its_clause_the_lessons(one):
    for wrong in one.text.wrong:
        assert one.refuse(one.page(wrong.body), one.file) == ""
        assert wrong.clause in one.text.clauses
        assert re.compile(wrong.seen)


@root
@tried
def test_an_empty_function_fails_the_lessons_clauses_and_no_others(one, clean):
    task = Task(lesson=one.name, source=one.page(), clauses=CLAUSES)
    outcome = check.attempt(task)
    scenes = msgspec.json.decode(outcome.evidence, type=Seen).scenes
    starts = {name: scene.answers.get("start") for name, scene in scenes.items()}
    ran = {name for name, start in starts.items() if start and start.status < 300}
    differs = {each.clause for each in outcome.red if each.status in JUDGED}
    seen = {each.clause for each in outcome.red if each.scene in ran} & differs
    others = seen - {*one.text.clauses, *FOLLOW.get(one.name, ())}

    assert {*one.text.clauses} <= {each.clause for each in outcome.red}
    assert others == set()


@root
@tried
def test_the_engines_own_function_passes(one, tmp_path, clean):
    outcome = check.check(one, write(one, tmp_path, one.answer()))

    assert outcome.passed, outcome.text


@root
@pytest.mark.parametrize("number", range(3))
@tried
def test_a_typical_wrong_answer_is_told_its_mistake(one, number, tmp_path, clean):
    wrong = one.text.wrong[number]
    outcome = check.check(one, write(one, tmp_path, wrong.body))

    assert not outcome.passed
    assert re.search(r"^  mistake +" + re.escape(wrong.says), outcome.text, re.MULTILINE)


@root
@pytest.mark.parametrize(
    "body", ["while True:\n    pass", "while True:\n    try: pass\n    except: pass"]
)
def test_a_function_without_an_end_is_stopped_and_its_line_named(body, tmp_path, clean):
    one = BY_NAME["hostname"]
    outcome = check.check(one, write(one, tmp_path, body))

    assert re.search(r"  yours +03_hostname.py:\d+: no end after 3 s", outcome.text)


@root
@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("hostname", "start.nothing", "AttributeError: 'Start' object has no attribute 'nothing'"),
        ("hostname", "raise SystemExit(3)", "SystemExit: 3"),
        ("namespaces", "return pids['x']", "KeyError: 'x'"),
    ],
)
def test_an_exception_is_told_with_the_students_line(name, body, said, tmp_path, clean):
    one = BY_NAME[name]
    file = write(one, tmp_path, body)
    outcome = check.check(one, file)

    assert outcome.notes == [f"{file.name}:{len(file.read_text().splitlines())}: {said}"]
    assert f"  yours     {outcome.notes[0]}" in outcome.text


@root
def test_a_file_that_cannot_be_imported_is_told_with_its_line(tmp_path, clean):
    one = BY_NAME["hostname"]
    file = tmp_path / one.file
    file.write_text("import nowhere\n\ndef write_hostname(start): ...\n")

    assert check.check(one, file).notes == [
        f"{one.file}:1: ModuleNotFoundError: No module named 'nowhere'"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def write_hostname(start):\n    return 1 +\n", ":2: SyntaxError: invalid syntax"),
        ("def write_hostname(begin): ...\n", ":1: its parameters are start"),
        ("x = 1\n", ": no function write_hostname: "),
    ],
)
def test_a_file_that_is_no_answer_is_refused_before_anything_starts(text, said, tmp_path):
    one = BY_NAME["hostname"]
    file = tmp_path / one.file
    file.write_text(text)
    outcome = check.check(one, file)

    assert outcome.verdicts == []
    assert f"{one.file}{said}" in outcome.notes[0]


def test_hints_come_one_by_one():
    one = BY_NAME["hostname"]
    for count in range(4):
        text = check.told(one, Outcome(lesson=one.name, notes=["x"]), count)

        assert [hint in text for hint in one.text.hints] == [number < count for number in range(3)]


@root
def test_a_course_goes_from_red_to_green(tmp_path, capsys, clean):
    directory = tmp_path / "course"
    one = BY_NAME["hostname"]
    learn = ["learn", "-C", str(directory)]

    assert cli.main(["learn", "init", str(directory)]) == 0
    assert cli.main([*learn, "check", "hostname", "--hint"]) == 1
    printed = capsys.readouterr().out
    assert "  yours     03_hostname.py: not written yet" in printed
    assert one.text.hints[0] in printed
    write(one, directory, one.answer())
    assert cli.main([*learn, "check", one.file]) == 0
    assert cli.main(learn) == 0
    printed = capsys.readouterr().out
    assert re.search(r"the host name.*done", printed)
    assert f"1 of {len(LESSONS)}" in printed
    assert course.Course(directory).record("hostname") == course.Record(
        tries=2, hints=1, done=course.Course(directory).record("hostname").done
    )


@root
def test_pytest_says_the_same_and_writes_junit(tmp_path, clean):
    course.init(tmp_path / "course")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "hostname", "--junitxml=class.xml"]
    done = subprocess.run(
        command, cwd=tmp_path / "course", capture_output=True, text=True, timeout=110, check=False
    )
    case = ET.parse(tmp_path / "course" / "class.xml").find(".//testcase")

    assert done.returncode == 1
    assert "lesson 3, hostname: 0 of 5 clauses hold" in done.stdout
    assert case.get("name") == "test_lesson[hostname]"
    assert {one.get("name") for one in case.iter("property")} == {*BY_NAME["hostname"].text.clauses}


def test_a_solution_is_shown_with_its_place(capsys):
    assert cli.main(["learn", "solution", "hostname"]) == 0
    printed = capsys.readouterr().out

    assert re.match(r"# startkit/daemon/files.py:\d+, step dockerd write-hostname\ndef ", printed)


def test_what_is_not_there_is_one_line_and_exit_2(tmp_path, capsys):
    assert cli.main(["learn", "-C", str(tmp_path)]) == 2
    assert cli.main(["learn", "solution", "nothing"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_course_is_not_written_over_another_one(tmp_path, capsys):
    course.init(tmp_path)

    assert cli.main(["learn", "init", str(tmp_path)]) == 2
