"""Every named step of a start and of an end, cut off: afterwards all is as it should be.

Whatever happens to whichever program, the client gets an answer; after a restart of the
daemon the container runs and can be talked to, or it has ended with its status; it ran
once at most; and its removal leaves nothing. HYPOTHESIS_PROFILE=thorough takes all points,
with `-s` a line for each step, five minutes for all.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path

import pytest

from startkit import story
from startkit.client import ClientError
from startkit.daemon.start import START
from startkit.observe import procfs
from startkit.shim.shim import END

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
KINDS = ("kill-before", "kill-after", "ENOSPC", "EMFILE", "ENOMEM",
         "descriptors-0", "descriptors-1", "descriptors-2", "space")  # fmt: skip
SAMPLE = 29  # takes each program and each kind
SETTLE_S = 5
SCRIPT = "trap 'exit 7' TERM; echo up; read line; echo got $line; exit 7"
STARTS = [(program, step) for program, step, _ in story.steps()]
ENDS = [("shim", step.name) for step in END]
POINTS = [
    (program, step, kind)
    for program, step in STARTS + ENDS
    for kind in KINDS
    if (program, kind) != ("init", "space")  # it has another root by then
]
# step whose undo fails: what may be left of it, by a part of its path or command line
UNDONE = {
    "mount-rootfs": "/merged",
    "mount-shm": "/shm",
    "make-cgroup": "/sys/fs/cgroup",
    "write-config": "/libcontainerd/",
    "open-fifos": "/init-std",
    "call-containerd": "",
}
SWEEPS = [[point for point in POINTS if point[:2] == step] for step in STARTS + ENDS]


class Faulty:
    """A daemon on a small disk of its own, whose steps can be told to fail."""

    def __init__(self, engine, fault):
        self.engine, self.api, self.fault, self.root = engine, engine.api, fault, str(engine.root)
        self.create_and_remove()
        self.before = self.traces()

    def create_and_remove(self):
        made = self.create()
        assert self.start(made) == 204
        assert self.api.delete(f"/containers/{made}", force=True).status == 204

    def create(self):
        body = {"Image": "startkit/base", "Cmd": ["sh", "-c", SCRIPT], "OpenStdin": True}
        return self.api.post("/containers/create", body).json()["Id"]

    def start(self, made):
        """Return the status of the answer; 0 for a connection that was cut."""
        try:
            return self.api.post(f"/containers/{made}/start").status
        except ClientError:
            return 0

    def restart(self):
        """Kill the daemon, unless it is dead already, and start it again."""
        self.engine.crash()
        self.engine.up()

    def talk(self, made):
        """Return what a running container answers to a line."""
        attached = self.engine.popen("attach", made)
        said, _ = attached.communicate(b"a\n", timeout=10)
        return said

    def look(self):
        """Return what belongs to containers, in any mount namespace."""
        below = list(Path(self.root).rglob("*"))
        mounts = [mount.target for mount in procfs.mounts() if self.root in mount.target]
        return {
            "mounts": sorted(mounts),
            "cgroups": self.engine.cgroups(),
            "fifos": [str(p) for p in below if stat.S_ISFIFO(p.lstat().st_mode)],
            "files": sorted(str(p) for p in below if p.name != "log"),
            "processes": sorted(self.processes()),
        }

    def processes(self):
        """Yield the command line of each process that the daemons have started."""
        daemons = {str(self.engine.daemon.pid), str(self.engine.containerd())}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (
                    path.name not in daemons
                    and f"STARTKIT_FAULT={self.fault}".encode() in (path / "environ").read_bytes()
                ):
                    yield (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]

    def traces(self):
        """Return what is there once two looks agree."""
        seen = None
        while (now := self.look()) != seen:
            seen = now
            time.sleep(0.02)
        return seen

    def left(self):
        """Return what a removal has left after a while, and what is missing."""
        end = time.monotonic() + SETTLE_S
        while (now := self.look()) != self.before and time.monotonic() < end:
            time.sleep(0.02)
        return [f"{k}: {self.before[k]} is now {v}" for k, v in now.items() if v != self.before[k]]

    def outlive(self, program, step, kind):
        """Return what was wrong after a fault."""
        made = self.create()
        self.fault.write_text(f"{program} {step} {kind}")
        status, ending = self.start(made), (program, step) in ENDS
        if ending and status == 204:
            while "up" not in self.engine.ok("logs", made):  # before its trap, TERM is lost on it
                time.sleep(0.01)
            ended = self.api.post(f"/containers/{made}/kill", signal="TERM").status
            code = self.api.post(f"/containers/{made}/wait").json()["StatusCode"]
            wrong = [] if (ended, code) in {(204, 7), (204, 137), (204, 255)} else [(ended, code)]
        else:
            wrong = self.wrong_answer(program, kind, status)
        self.engine.daemon.poll()
        if self.fault.exists():
            wrong.append("no such point")
            self.fault.unlink()
        self.restart()
        wrong += self.wrong_state(made, status)
        if self.api.delete(f"/containers/{made}", force=True).status != 204:
            wrong.append("not removed")
        return wrong + self.left()

    def wrong_answer(self, program, kind, status):
        """Return what is wrong with the client's answer."""
        if status == 0:
            return [] if program == "dockerd" and kind.startswith("kill") else ["no answer"]
        if status == 204 and (program == "dockerd" or kind in KINDS[2:5]) and kind not in KINDS[5:]:
            return ["started in spite of it"]
        return [] if status in {204, 400, 500} else [f"answered {status}"]

    def wrong_state(self, made, status):
        """Return what is wrong with a container after the restart, and with its output."""
        state, wrong = self.engine.state(made), []
        if state["Running"] and status not in {0, 204}:
            wrong.append(f"runs, and the answer was {status}")
        if state["Running"] and (said := self.talk(made)) != b"got a\n":
            wrong.append(f"is not attached: {said!r}")
        if not state["Running"] and (
            state["Pid"] or state["ExitCode"] not in {0, 7, 128, 137, 255}
        ):
            wrong.append(f"ended with {state['ExitCode']}, pid {state['Pid']}")
        if (said := self.engine.ok("logs", made).split()).count("up") > 1:
            wrong.append(f"ran more than once: {said}")
        return wrong


@pytest.fixture
def faulty(make_on_disk, monkeypatch):
    """Give a daemon on a disk of 64 MiB, whose programs read this room's sitecustomize.py."""
    made = make_on_disk("64m")
    fault = made.root / "fault"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("STARTKIT_FAULT", str(fault))
    return Faulty(made.up(), fault)


@pytest.mark.parametrize(
    "points",
    SWEEPS if THOROUGH else [POINTS[::SAMPLE]],
    ids=lambda points: " ".join(points[0][:2]) if THOROUGH else "sample",
)
def test_a_fault_at_any_step_loses_and_leaves_nothing(faulty, points):
    lost = {point: wrong for point in points if (wrong := faulty.outlive(*point))}
    step = " ".join(points[0][:2]) if THOROUGH else "a sample"
    print(f"{step}: {len(points)} points, {len(points) - len(lost)} survived")  # noqa: T201 -- -s
    assert lost == {}


def fail_an_undo(faulty, step):
    """Let a start fail, and the undo of one of its steps; return what was wrong."""
    made, failing = faulty.create(), "dockerd record-running ENOSPC\n"
    faulty.fault.write_text(failing)
    wrong = [] if faulty.start(made) == 500 else ["started in spite of it"]
    undone = faulty.traces()
    faulty.fault.write_text(f"{failing}dockerd undo:{step} EIO\n")
    reply = faulty.api.post(f"/containers/{made}/start")
    if (reply.status, "no space left" in reply.message) != (500, True):
        wrong.append(f"answered {reply.status}: {reply.message}")
    if faulty.fault.exists():
        wrong.append("no such undo")
    left = {item for kind, now in faulty.traces().items() for item in {*now} - {*undone[kind]}}
    wrong += sorted(item for item in left if UNDONE[step] not in item)
    if step == "call-containerd":  # it runs, and a daemon that comes up sees it
        faulty.restart()
    if (status := faulty.start(made)) not in {204, 304}:
        wrong.append(f"started again: {status}")
    if faulty.api.delete(f"/containers/{made}", force=True).status != 204:
        wrong.append("not removed")
    return wrong + faulty.left()


def test_an_undo_that_fails_keeps_no_other_from_being_done_nor_the_client_from_the_error(faulty):
    assert [step.name for step in START if step.undo] == [*UNDONE]
    assert {step: wrong for step in UNDONE if (wrong := fail_an_undo(faulty, step))} == {}
