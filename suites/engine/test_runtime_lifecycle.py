"""create, start, state, kill, delete, run: what each answers in each status, and what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from startkit import steps
from startkit.runtime import create

HIERARCHIES = [p for p in Path("/sys/fs/cgroup").iterdir() if p.is_dir()]


def leftovers(bundle):
    """Return the cgroups, state files and mounts that carry the container's name."""
    cgroups = [str(p) for h in HIERARCHIES for p in h.glob(f"**/{bundle.id}")]
    states = os.listdir(bundle.root) if bundle.root.exists() else []
    mounts = [m for m in Path("/proc/self/mountinfo").read_text().splitlines() if bundle.id in m]
    return cgroups + states + mounts


def test_the_program_runs_only_at_start(bundle):
    bundle.create("sh", "-c", "echo here > /mark; exit 7")
    before = (bundle.rootfs / "mark").exists()
    started = bundle.call("start", bundle.id)

    assert (before, started.returncode, started.stderr) == (False, 0, "")
    assert os.waitstatus_to_exitcode(bundle.wait()) == 7
    assert (bundle.rootfs / "mark").read_text() == "here\n"


def test_state_is_created_running_stopped(bundle):
    pid = bundle.create("sleep", "100")
    created = bundle.state()
    bundle.call("start", bundle.id)
    running = bundle.state()
    bundle.call("kill", bundle.id, "KILL")
    bundle.wait()
    stopped = bundle.state()

    assert [s["status"] for s in (created, running, stopped)] == ["created", "running", "stopped"]
    assert [s["pid"] for s in (created, running, stopped)] == [pid, pid, 0]
    assert (created["id"], created["bundle"]) == (bundle.id, str(bundle.path))
    assert created["ociVersion"] == "1.0.2"


def test_annotations_are_in_the_state(bundle):
    bundle.config["annotations"] = {"a.b": "c"}
    bundle.create("sleep", "100")

    assert bundle.state()["annotations"] == {"a.b": "c"}


def test_inits_parent_is_the_nearest_subreaper(bundle):
    pid = bundle.create("sleep", "100")

    assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()


def test_pid_file_and_state_directory_are_closed_to_others(bundle):
    bundle.create("sleep", "100")
    directory = bundle.root / bundle.id

    assert (directory / "state.json").stat().st_mode & 0o777 == 0o600
    assert bundle.root.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(directory)) == ["exec.fifo", "state.json"]


def test_a_second_container_of_the_same_id_is_refused_and_the_first_lives(bundle):
    bundle.create("sleep", "100")
    done = bundle.call("create", "--bundle", str(bundle.path), bundle.id)

    assert (done.returncode, done.stderr) == (1, "container with given ID already exists\n")
    assert bundle.state()["status"] == "created"


def test_a_running_container_is_neither_started_nor_deleted(bundle):
    bundle.create("sleep", "100")
    bundle.call("start", bundle.id)
    again, deleted = bundle.call("start", bundle.id), bundle.call("delete", bundle.id)

    assert again.stderr == "cannot start an already running container\n"
    words = f"cannot delete container {bundle.id} that is not stopped: running\n"
    assert (deleted.returncode, deleted.stderr) == (1, words)


def test_a_stopped_container_is_neither_started_nor_killed(bundle):
    bundle.create("sleep", "100")
    bundle.call("kill", bundle.id, "9")
    bundle.wait()

    started = bundle.call("start", bundle.id)
    assert started.stderr == "cannot start a container that has stopped\n"
    assert bundle.call("kill", bundle.id).stderr == "container not running\n"


@pytest.mark.parametrize("command", ["state", "start", "kill", "delete"])
def test_an_unknown_container_does_not_exist(bundle, command):
    done = bundle.call(command, "nobody")

    assert (done.returncode, done.stderr) == (1, "container does not exist\n")


def test_force_forgives_that_a_container_does_not_exist(bundle):
    assert bundle.call("delete", "--force", "nobody").returncode == 0


@pytest.mark.parametrize(
    ("word", "number"), [("TERM", 15), ("SIGUSR1", 10), ("12", 12), ("int", 2)]
)
def test_kill_takes_names_and_numbers(bundle, word, number):
    script = "".join(f"trap 'exit {n}' {n};" for n in (2, 10, 12, 15))
    bundle.create("sh", "-c", f"{script} echo > /ready; while :; do sleep 0.02; done")
    os.mkfifo(bundle.rootfs / "ready")
    bundle.call("start", bundle.id)
    (bundle.rootfs / "ready").read_text()
    done = bundle.call("kill", bundle.id, word)

    assert (done.returncode, done.stderr) == (0, "")
    assert os.waitstatus_to_exitcode(bundle.wait()) == number


def test_an_unknown_signal_is_refused(bundle):
    bundle.create("sleep", "100")

    assert bundle.call("kill", bundle.id, "SIGNAL").stderr == "unknown signal 'SIGNAL'\n"


def test_kill_all_reaches_processes_that_share_the_hosts_pids(bundle):
    spaces = bundle.config["linux"]["namespaces"]
    bundle.config["linux"]["namespaces"] = [s for s in spaces if s["type"] != "pid"]
    os.mkfifo(bundle.rootfs / "ready")
    bundle.create("sh", "-c", "sleep 100 & echo $! > /ready; wait")
    bundle.call("start", bundle.id)
    child = int((bundle.rootfs / "ready").read_text())
    bundle.call("kill", "--all", bundle.id, "KILL")
    bundle.wait()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


def test_delete_leaves_nothing(bundle):
    bundle.create("sleep", "100")
    there = leftovers(bundle)
    bundle.call("start", bundle.id)
    bundle.call("kill", bundle.id, "KILL")
    bundle.wait()
    done = bundle.call("delete", bundle.id)

    assert (done.returncode, done.stderr) == (0, "")
    assert there
    assert leftovers(bundle) == []


def test_force_kills_and_leaves_nothing(bundle):
    bundle.create("sleep", "100")
    bundle.call("start", bundle.id)
    done = bundle.call("delete", "--force", bundle.id)

    assert (done.returncode, done.stderr) == (0, "")
    assert os.waitstatus_to_exitcode(bundle.wait()) == -9
    assert leftovers(bundle) == []


def test_force_removes_what_a_killed_create_left(bundle):
    bundle.create("sleep", "100")
    (bundle.root / bundle.id / "state.json").rename(bundle.path / "state.json")
    record = json.loads((bundle.path / "state.json").read_text())
    record |= {"pid": 0, "startTime": 0}
    (bundle.root / bundle.id / "state.json").write_text(json.dumps(record))

    assert "that is not stopped: creating" in bundle.call("delete", bundle.id).stderr
    assert bundle.call("delete", "--force", bundle.id).returncode == 0
    assert os.waitstatus_to_exitcode(bundle.wait()) == -9
    assert leftovers(bundle) == []


def test_a_pid_that_is_another_process_now_is_not_the_container(bundle):
    pid = bundle.create("sleep", "100")
    path = bundle.root / bundle.id / "state.json"
    with subprocess.Popen(["sleep", "100"]) as other:
        path.write_text(path.read_text().replace(f'"pid":{pid}', f'"pid":{other.pid}'))
        status = bundle.state()["status"]
        killed = bundle.call("kill", bundle.id, "KILL")
        alive = other.poll() is None
        other.kill()
    os.kill(pid, signal.SIGKILL)  # the runtime does not know it any more

    assert (status, killed.stderr, alive) == ("stopped", "container not running\n", True)


def test_an_init_that_nobody_has_reaped_is_stopped(bundle):
    pid = bundle.create("sleep", "100")
    bundle.call("kill", bundle.id, "KILL")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert bundle.state()["status"] == "stopped"


def test_a_start_that_was_killed_after_the_exec_has_started_it(bundle):
    bundle.create("sleep", "100")
    bundle.call("start", bundle.id)
    os.mkfifo(bundle.root / bundle.id / "exec.fifo")  # as if it had not come to remove it
    again = bundle.call("start", bundle.id)

    assert bundle.state()["status"] == "running"
    assert again.stderr == "cannot start an already running container\n"


def test_signal_0_is_sent_to_who_is_there_and_to_all_when_nobody_is(bundle):
    bundle.create("sleep", "100")
    alive = bundle.call("kill", bundle.id, "0")
    bundle.call("kill", bundle.id, "KILL")
    bundle.wait()

    assert (alive.returncode, bundle.call("kill", "-a", bundle.id, "0").returncode) == (0, 0)
    assert bundle.call("kill", bundle.id, "0").stderr == "container not running\n"


@pytest.mark.parametrize("command", ["run", "exec", "checkpoint"])
def test_help_names_the_command(bundle, command):
    done = bundle.call(command, "-h")

    assert done.returncode == 0
    assert done.stdout.startswith(f"NAME:\n   startkit-runc {command} - ")
    assert f"\nUSAGE:\n   startkit-runc {command} [--" in done.stdout


def test_run_ends_as_the_program_does_and_leaves_nothing(bundle):
    assert bundle.run("sh", "-c", "exit 42").returncode == 42
    assert leftovers(bundle) == []


def test_run_ends_with_128_and_the_signal(bundle):
    spaces = bundle.config["linux"]["namespaces"]
    bundle.config["linux"]["namespaces"] = [s for s in spaces if s["type"] != "pid"]

    assert bundle.run("sh", "-c", "kill -TERM $$").returncode == 143


def test_list_shows_containers(bundle):
    assert bundle.call("list", "-q").stdout == ""
    bundle.create("sleep", "100")

    assert bundle.call("list", "-q").stdout == f"{bundle.id}\n"
    assert json.loads(bundle.call("list", "--format", "json").stdout)[0]["id"] == bundle.id
    assert bundle.call("list").stdout.splitlines()[1].split()[0] == bundle.id


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["create"], 1, "usage: startkit-runc create"),
        (["fly"], 3, "No help topic for 'fly'"),
        (["state", "--colour", "x"], 1, "flag provided but not defined: -colour"),
        (["create", "--bundle"], 1, "flag needs an argument: -bundle"),
    ],
)
def test_a_wrong_command_line_is_one_line(bundle, argv, code, words):
    done = bundle.call(*argv)

    assert done.returncode == code
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("failing", [step.name for step in create.CREATE])
def test_a_create_that_fails_after_any_step_undoes_all_of_it(bundle, failing):
    pid = os.fork()
    if pid == 0:
        create.CREATE = tuple(breaking(step, failing) for step in create.CREATE)
        from startkit.runtime import cli

        (bundle.path / "config.json").write_text(json.dumps(bundle.config))
        os._exit(cli.main(["--root", str(bundle.root), "--log", str(bundle.path / "log"),
                           "create", "--bundle", str(bundle.path), bundle.id]))  # fmt: skip

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert "broken on purpose" in (bundle.path / "log").read_text()
    assert leftovers(bundle) == []


def breaking(step, name):
    """Return the step, or one that does its work, undoes it as it would, and fails."""
    if step.name != name:
        return step

    def do(subject):
        step.do(subject)
        if step.undo:
            step.undo(subject)
        raise OSError(5, "broken on purpose")

    return steps.Step(step.name, do)
