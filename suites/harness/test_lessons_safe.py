"""A student's mistakes: each is told, and the machine is as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from startkit.learn import check, course, lesson
from startkit.observe import cgroups, procfs

BY_NAME = {one.name: one for one in lesson.load()}
NOT_LEFT = "entered and not left: it ended its process, or hung"
LEFT_BEHIND = """
import os, subprocess
subprocess.Popen(["sleep", "86111"], start_new_session=True)
kernel.mount("left", "/mnt", "tmpfs", 0, "")
for top in os.listdir("/sys/fs/cgroup"):
    place = f"/sys/fs/cgroup/{top}/docker/{start.container.id}/deep"
    if os.path.isdir(os.path.dirname(os.path.dirname(place))):
        os.makedirs(place, exist_ok=True)
raise ValueError("enough")
"""
MISTAKES = {
    "ends dockerd": ("hostname", "import os\nos._exit(3)", NOT_LEFT),
    "ends the shim": ("subreaper", "import os\nos._exit(3)", NOT_LEFT),
    "ends init": ("create", "import os\nos._exit(3)", NOT_LEFT),
    "calls itself": ("hostname", "write_hostname(start)", "RecursionError: maximum"),
    "kills its parent": ("hostname", "import os\nos.kill(os.getppid(), 9)\n1 / 0", "ZeroDivision"),
    "kills everybody": ("hostname", "import os\nos.kill(-1, 9)\n1 / 0", "ZeroDivisionError"),
    "sleeps": ("hostname", "import time\ntime.sleep(1000)", "no end after 3 s"),
    "waits uninterruptedly": (
        "hostname",
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
        NOT_LEFT,
    ),
    "forks without end": (
        "hostname",
        "import os\nwhile True:\n    if not os.fork(): os.read(0, os.pipe()[0])",
        "BlockingIOError",
    ),
    "leaves things behind": ("hostname", f"from startkit import kernel{LEFT_BEHIND}", "enough"),
    "deletes the root": (
        "create",
        "for name in os.listdir('/bin'):\n    os.unlink(f'/bin/{name}')\n1 / 0",
        "ZeroDivisionError",
    ),
    "writes where it is": ("shim", "open('left-behind', 'w')\n1 / 0", "ZeroDivisionError"),
    "returns another type": ("mounts", "return 7", "returned int, not list[Mount]"),
    "returns nothing": ("union-mount", "pass", "returned NoneType, not str"),
    "closes what it finds": ("hostname", "import os\nos.closerange(0, 200)\n1 / 0", ""),
}
root = pytest.mark.skipif(os.geteuid() != 0, reason="starting containers needs root")


def left():
    """Return what a try could have left: mounts, its processes, cgroups."""
    found = [one.target for one in procfs.mounts() if one.target == "/mnt"]
    found += procfs.naming("86111")
    found += list(check.PACKAGE.parent.glob("left-behind"))
    own = f"startkit-lesson-{os.getpid()}"
    tops = cgroups.hierarchies().values()
    return found + [top for top in tops if os.path.isdir(f"{top}/{own}")]


@root
@pytest.mark.parametrize(("name", "body", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_and_nothing_is_left(name, body, said, tmp_path):
    one = BY_NAME[name]
    file = tmp_path / one.file
    file.write_text(one.page(body))
    outcome = check.check(one, file)
    started = re.findall(r'"Id": ?"([0-9a-f]{64})"', bytes(memoryview(outcome.evidence)).decode())

    assert not outcome.passed
    assert any(said in note for note in outcome.notes) or not said
    assert "Traceback" not in outcome.text
    assert left() == []
    assert [cgroups.find(one) for one in started if cgroups.find(one)] == []


@root
def test_what_a_function_prints_is_shown_and_not_more_than_a_page(tmp_path):
    one = BY_NAME["subreaper"]
    file = tmp_path / one.file
    file.write_text(one.page("print('pid', 7)\nprint('x' * 1000000)\nprint('y\\n' * 100)"))
    text = check.check(one, file).text

    assert "  printed   pid 7\n            xxx" in text
    assert len(text) < 3000


@root
def test_a_try_without_an_answer_is_one_line(monkeypatch, tmp_path):
    one = BY_NAME["hostname"]
    file = tmp_path / one.file
    file.write_text(one.page())
    monkeypatch.setattr(check, "TRIAL", (sys.executable, "-c", "print('no answer')\n1 / 0"))

    with pytest.raises(lesson.LessonError, match=r"ended with 1: ZeroDivisionError"):
        check.check(one, file)
    monkeypatch.setattr(check, "TRIAL", ("tail", "-f", "/dev/null", "--pid=1"))
    monkeypatch.setattr(check, "TRY_S", 0.3)
    with pytest.raises(lesson.LessonError, match="no end after"):
        check.check(one, file)
    assert left() == []


@root
def test_two_workers_keep_each_others_progress(tmp_path):
    course.init(tmp_path / "course")
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-k", "hosts or hostname"]
    for name in ("hosts", "hostname"):
        one = BY_NAME[name]
        (tmp_path / "course" / one.file).write_text(one.page(one.answer()))
    done = subprocess.run(
        words, cwd=tmp_path / "course", capture_output=True, timeout=110, check=False
    )
    records = course.Course(tmp_path / "course").records

    assert done.returncode == 0, done.stdout.decode()
    assert sorted(name for name, one in records.items() if one.done) == ["hostname", "hosts"]


@root
def test_a_class_is_one_report_with_a_name_for_each(tmp_path):
    one = BY_NAME["hostname"]
    for name, body in (("alice", "pass"), ("bob", one.answer())):
        course.init(tmp_path / name)
        (tmp_path / name / one.file).write_text(one.page(body))
    words = [sys.executable, "-m", "pytest", "-k", "hostname", "--rootdir", "."]
    words += ["--import-mode=importlib", "-o", "junit_family=xunit1", "--junitxml", "class.xml"]
    subprocess.run(
        [*words, "alice", "bob"], cwd=tmp_path, capture_output=True, timeout=110, check=False
    )
    cases = ET.parse(tmp_path / "class.xml").findall(".//testcase")

    assert {each.get("classname"): each.find("failure") is None for each in cases} == {
        "alice.test_course": False,
        "bob.test_course": True,
    }


def test_a_user_is_told_of_machines(monkeypatch, tmp_path):
    one = BY_NAME["hostname"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    file = tmp_path / one.file
    file.write_text(one.page())

    with pytest.raises(lesson.LessonError, match="needs root, or a virtual machine: --vm"):
        check.check(one, file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(lesson.LessonError, match="run startkit vm fetch"):
        check.check(one, file, vm=True)


if os.environ.get("HYPOTHESIS_PROFILE") == "thorough":  # half a minute, where KVM does not work

    @pytest.mark.timeout(400)
    def test_in_a_machine_the_same_is_said_and_nothing_is_written_here(tmp_path):
        one = BY_NAME["hostname"]
        file = tmp_path / one.file
        file.write_text(one.page("open('/usr/left-behind', 'w')\nwhile True: pass"))
        outcome = check.check(one, file, vm=True)

        assert "  yours     03_hostname.py:35: no end after 3 s" in outcome.text
        assert not os.path.exists("/usr/left-behind")
        assert left() == []
