"""The daemon's containerd, and what it keeps of a container."""

from __future__ import annotations

import json
import os

import pytest

from startkit.observe.view import ABSENT

clause = pytest.mark.clause

TOLD = ("bundle", "labels", "noPivotRoot", "runtime", "runtimeArgs", "shim", "stderr", "stdin")
INIT = ("control", "exit", "pid", "process.json", "starttime")


def document(seen):
    """Return state.json as a dict, {} where it is none."""
    try:
        found = json.loads(seen.state_files.get("state.json", ABSENT).text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@clause("containerd.parent")
def test_containerd_is_the_daemons_child(seen, expect):
    expect(seen.containerd.ppid == seen.daemon.pid)


@clause("containerd.name")
def test_it_is_called_docker_containerd(seen, expect):
    expect(os.path.basename(seen.containerd.argv[0]))


@clause("containerd.state.place")
def test_it_keeps_a_directory_for_each_container(seen, expect):
    expect(seen.state_dir)


@clause("containerd.state.names")
def test_the_directory_holds_state_json_and_init(seen, expect):
    expect(sorted(name for name in seen.state_files if "/" not in name))


@clause("containerd.state.document")
def test_state_json_tells_what_was_asked_for(seen, expect):
    told = document(seen)
    expect([key for key in (*TOLD, "stdout") if key not in told])


@clause("containerd.init.names")
def test_init_holds_what_describes_the_process(seen, expect):
    found = seen.state_files
    expect([name for name in INIT if f"init/{name}" not in found])


@clause("containerd.init.fifos")
def test_exit_and_control_are_named_pipes(seen, expect):
    found = seen.state_files
    expect([found.get(f"init/{name}", ABSENT).kind for name in ("exit", "control")])


@clause("containerd.init.pid")
def test_the_pid_is_the_programs(seen, expect):
    text = seen.state_files.get("init/pid", ABSENT).text
    expect("absent" if text is None else text.strip(), want=str(seen.init.pid))


@clause("containerd.state.removed")
def test_the_directory_goes_when_the_container_stops(seen, expect):
    assert seen.running.state_dir
    expect(seen.stopped.moment.state_dir or "absent")
