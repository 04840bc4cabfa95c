"""containerd over gRPC, as dockerd drives it, with real shims and containers."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from grpclib import GRPCError, Status

from startkit.containerd.create import CREATE
from startkit.containerd.proto import __main__ as proto
from startkit.containerd.proto import api_pb2


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_containers_end_is_told_with_its_status(containerd, runtime):
    identity, _, out = containerd.begin("echo hi; exit 7", runtime)
    assert containerd.read(out) == b"hi\n"
    event = containerd.event()
    assert (event.type, event.id, event.status, event.pid) == ("exit", identity, 7, "init")
    assert not (containerd.states / identity).exists()


def test_a_death_by_signal_is_128_and_the_signal(containerd):
    identity, _, _ = containerd.begin("sleep 1000")
    containerd.kill(identity, signal.SIGKILL)
    assert containerd.event().status == 128 + signal.SIGKILL


def test_a_signal_reaches_init(containerd):
    identity, _, out = containerd.begin("trap 'exit 9' USR1; sleep 1000 & echo; wait")
    containerd.read(out, b"\n")
    containerd.kill(identity, signal.SIGUSR1)
    assert containerd.event().status == 9


def test_the_exit_comes_after_the_last_output_is_read(containerd):
    identity, _, out = containerd.begin("echo last words")
    exit_status = containerd.states / identity / "init/exitStatus"
    assert not containerd.has_ended(os.pidfd_open(*containerd.shims()), within_s=0.3)
    assert exit_status.read_text() == "0"
    assert [c.status for c in containerd.containers()] == ["stopped"]
    assert containerd.read(out) == b"last words\n"
    assert containerd.event().type == "exit"


def test_the_answer_describes_the_container(containerd):
    directory, _ = containerd.bundle("sleep 100")
    container = containerd.create(directory)
    assert (container.id, container.bundlePath) == (directory.name, str(directory))
    assert (container.status, container.runtime) == ("running", "docker-runc")
    assert list(container.labels) == ["a=b"]
    process = container.processes[0]
    assert (process.pid, process.cwd, process.terminal) == ("init", "/", False)
    assert list(process.args) == ["sh", "-c", "sleep 100"]
    assert list(container.pids) == [process.systemPid]
    assert containerd.containers() == [container]


def test_the_shim_is_containerds_child_in_its_own_group(containerd):
    identity, pid, _ = containerd.begin("sleep 100")
    shim = containerd.parent(pid)
    assert containerd.parent(shim) == containerd.process.pid
    assert int(containerd.stat(shim)[2]) == shim
    assert Path(f"/proc/{shim}/cwd").readlink() == containerd.states / identity / "init"
    bundle = str(containerd.base / "bundles" / identity)
    argv = Path(f"/proc/{shim}/cmdline").read_text().rstrip("\0").split("\0")
    assert argv == ["docker-containerd-shim", identity, bundle, "docker-runc"]
    assert Path(f"/proc/{shim}/comm").read_text() == "docker-containe\n"


def test_a_state_directory_holds_what_the_era_held(containerd):
    identity, pid, _ = containerd.begin("sleep 100")
    directory = containerd.states / identity
    assert {path.name for path in directory.iterdir()} == {"state.json", "init"}
    names = {path.name for path in (directory / "init").iterdir()}
    assert {"process.json", "exit", "control", "pid", "starttime"} <= names
    assert names <= {"process.json", "exit", "control", "pid", "starttime", "log.json"}
    assert (
        stat.S_IMODE(directory.stat().st_mode)
        == stat.S_IMODE((directory / "init").stat().st_mode)
        == 0o700
    )
    assert (directory / "init/pid").read_text() == str(pid)
    assert (directory / "init/starttime").read_text() == containerd.stat(pid)[19]
    state = json.loads((directory / "state.json").read_text())
    keys = "bundle labels stdin stdout stderr runtime runtimeArgs shim noPivotRoot"
    assert " ".join(state) == keys


def test_a_failing_create_answers_in_the_runtimes_words(containerd, runtime):
    directory, _ = containerd.bundle("", args=["nope"])
    with pytest.raises(GRPCError) as failure:
        containerd.create(directory, runtime)
    assert failure.value.status is Status.UNKNOWN
    assert failure.value.message.startswith("oci runtime error: ")
    assert 'exec: "nope": executable file not found in $PATH' in failure.value.message
    assert list(containerd.containers()) == containerd.shims() == containerd.stored() == []


def test_a_bundle_without_config_is_refused(containerd):
    directory, _ = containerd.bundle("")
    (directory / "config.json").unlink()
    with pytest.raises(GRPCError, match=r"config\.json"):
        containerd.create(directory)
    assert list(containerd.states.iterdir()) == [containerd.states / "events.log"]


@pytest.mark.parametrize(
    ("call", "request_", "status"),
    [
        ("Signal", api_pb2.SignalRequest(id="0" * 64, signal=9), Status.NOT_FOUND),
        ("UpdateProcess", api_pb2.UpdateProcessRequest(id="0" * 64), Status.NOT_FOUND),
        ("State", api_pb2.StateRequest(id="0" * 64), Status.NOT_FOUND),
        ("CreateContainer", api_pb2.CreateContainerRequest(id="../x"), Status.INVALID_ARGUMENT),
        ("CreateContainer", api_pb2.CreateContainerRequest(id=""), Status.INVALID_ARGUMENT),
        (
            "CreateContainer",
            api_pb2.CreateContainerRequest(id="a", checkpoint="x"),
            Status.UNIMPLEMENTED,
        ),
    ],
)
def test_a_bad_request_gets_a_status(containerd, call, request_, status):
    with pytest.raises(GRPCError) as failure:
        containerd.call(call, request_)
    assert failure.value.status is status


def test_a_container_is_created_once(containerd):
    identity, _, _ = containerd.begin("sleep 100")
    with pytest.raises(GRPCError) as failure:
        containerd.create(containerd.base / "bundles" / identity)
    assert failure.value.status is Status.ALREADY_EXISTS
    assert len(containerd.containers()) == 1


def test_a_signal_never_goes_to_a_process_that_got_the_pid(containerd):
    identity, pid, _ = containerd.begin("sleep 100")
    start_time = containerd.states / identity / "init/starttime"
    true = start_time.read_text()
    start_time.write_text("1")
    with pytest.raises(GRPCError) as failure:
        containerd.kill(identity, signal.SIGKILL)
    assert failure.value.status is Status.NOT_FOUND
    start_time.write_text(true)
    assert containerd.stat(pid)[0] == "S"


def test_events_are_replayed_from_a_time_on(containerd):
    for _ in range(2):
        _, _, out = containerd.begin("true")
        containerd.read(out)
        containerd.event()
    stored = containerd.stored()
    assert [e.type for e in stored] == ["start-container", "exit"] * 2
    assert [e.timestamp.ToNanoseconds() for e in stored] == sorted(
        e.timestamp.ToNanoseconds() for e in stored
    )
    request = api_pb2.EventsRequest(timestamp=stored[2].timestamp, storedOnly=True)
    assert containerd.run(containerd.api.Events(request)) == stored[2:]
    request = api_pb2.EventsRequest(storedOnly=True, id=stored[0].id)
    assert containerd.run(containerd.api.Events(request)) == stored[:2]


def test_the_socket_is_for_root_and_its_group(containerd):
    assert mode(containerd.socket) == 0o660


def test_containerd_shows_under_its_name(containerd):
    line = Path(f"/proc/{containerd.process.pid}/cmdline").read_text()
    assert line.startswith("docker-containerd\0-l\0")


def test_containerd_has_one_thread(containerd):
    containerd.begin("sleep 100")
    assert len(os.listdir(f"/proc/{containerd.process.pid}/task")) == 1


def test_the_version_is_containerds(containerd):
    version = containerd.call("GetServerVersion", api_pb2.GetServerVersionRequest())
    assert (version.major, version.minor, version.patch) == (0, 2, 9)


def test_the_steps_of_a_start_have_their_names():
    names = ["write-state", "open-pipes", "spawn-shim", "await-report"]
    assert [step.name for step in CREATE] == names


def test_the_generated_files_are_of_this_proto(tmp_path):
    pytest.importorskip("grpc_tools")
    ran = subprocess.run([sys.executable, "-m", "startkit.containerd.proto", str(tmp_path)])
    assert ran.returncode == 0
    for name in ("api_pb2.py", "api_grpc.py"):
        new = tmp_path / "startkit/containerd/proto" / name
        assert new.read_text() == Path(proto.__file__).with_name(name).read_text()
