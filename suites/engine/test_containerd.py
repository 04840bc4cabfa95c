"""containerd over gRPC, as dockerd drives it, with real shims and containers."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import select
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import GRPCError, Status
from grpclib.client import Channel

from startkit.containerd.create import CREATE
from startkit.containerd.proto import __main__ as proto
from startkit.containerd.proto import api_grpc, api_pb2

RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin")
RUNTIMES = ["docker-runc", pytest.param(RUNC, marks=pytest.mark.skipif(not RUNC, reason="no runc"))]
BUSYBOX = shutil.which("busybox")
LIMIT_S = float(os.environ.get("SHIM_LIMIT", "20"))

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not BUSYBOX, reason="needs root and busybox-static"
)


class Containerd:
    """One containerd in a temporary place, and a client of it with a stream of its events."""

    def __init__(self, base):
        self.base, self.loop = base, asyncio.new_event_loop()
        self.socket, self.states = base / "docker-containerd.sock", base / "containerd"
        self.rootfs = base / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        (self.rootfs / "proc").mkdir()
        shutil.copy(BUSYBOX, self.rootfs / "bin/busybox")
        for name in ("sh", "cat", "sleep", "echo"):
            (self.rootfs / "bin" / name).symlink_to("busybox")
        self.ends = []
        self.start()

    def argv(self):
        module = [sys.executable, "-m", "startkit.containerd", "-l", f"unix://{self.socket}"]
        return [*module, "--state-dir", str(self.states), "--runtime", "docker-runc"]

    def start(self, since=None):
        self.process = subprocess.Popen(self.argv(), stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "listening" in line:
                break
        self.run(self.connect(since))

    async def connect(self, since):
        self.channel = Channel(path=str(self.socket))
        self.api = api_grpc.APIStub(self.channel)
        self.stream = self.api.Events.open()
        self.events = await self.stream.__aenter__()
        await self.events.send_message(api_pb2.EventsRequest(timestamp=since), end=True)
        await self.events.recv_initial_metadata()

    def run(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, LIMIT_S))

    def call(self, name, request):
        return self.run(getattr(self.api, name)(request))

    def event(self):
        return self.run(self.events.recv_message())

    def stored(self):
        return self.run(self.api.Events(api_pb2.EventsRequest(storedOnly=True)))

    def bundle(self, script, args=None):
        """Make a bundle with an output FIFO; return its id and the FIFO's read end."""
        identity = secrets.token_hex(32)
        directory = self.base / "bundles" / identity
        directory.mkdir(parents=True)
        kinds = ("mount", "uts", "ipc", "network", "pid")
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": args or ["sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "root": {"path": str(self.rootfs)},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "namespaces": [{"type": kind} for kind in kinds],
                "cgroupsPath": f"/startkit-{identity[:12]}",
            },
        }
        (directory / "config.json").write_text(json.dumps(config))
        for name in ("init-stdin", "init-stdout"):
            os.mkfifo(directory / name)
        out = os.open(directory / "init-stdout", os.O_RDONLY | os.O_NONBLOCK)
        self.ends.append(out)
        return directory, out

    def create(self, directory, runtime="docker-runc"):
        request = api_pb2.CreateContainerRequest(
            id=directory.name,
            bundlePath=str(directory),
            stdin=str(directory / "init-stdin"),
            stdout=str(directory / "init-stdout"),
            runtime=runtime,
            runtimeArgs=["--root", str(self.base / "runtime")],
            labels=["a=b"],
        )
        return self.call("CreateContainer", request).container

    def begin(self, script, runtime="docker-runc"):
        """Start a container; return its id, init's pid, and the read end of its output."""
        directory, out = self.bundle(script)
        container = self.create(directory, runtime)
        assert self.event().type == "start-container"
        return directory.name, container.processes[0].systemPid, out

    def input(self, identity, text):
        """Write to a container's stdin."""
        path = self.base / "bundles" / identity / "init-stdin"
        with open(path, "wb", opener=lambda p, f: os.open(p, f | os.O_NONBLOCK)) as fifo:
            fifo.write(text)

    def kill(self, identity, number):
        self.call("Signal", api_pb2.SignalRequest(id=identity, pid="init", signal=number))

    def containers(self):
        return self.call("State", api_pb2.StateRequest()).containers

    def stop(self, number=signal.SIGTERM):
        """End containerd; return its exit code."""
        self.stream = self.events = None
        self.channel.close()
        self.process.send_signal(number)
        self.process.stderr.close()
        return self.process.wait(LIMIT_S)

    def close(self):
        if self.process.poll() is None:
            for container in self.containers():
                self.kill(container.id, signal.SIGKILL)
                shutil.rmtree(container.bundlePath)  # its last output has no reader
                while (told := self.event()).type != "exit" or told.id != container.id:
                    pass
            assert self.stop() == 0
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        for fd in self.ends:
            os.close(fd)


@pytest.fixture
def containerd(tmp_path):
    server = Containerd(tmp_path)
    yield server
    server.close()
    assert [path.name for path in server.states.iterdir()] == ["events.log"]
    left = tmp_path / "runtime"
    assert not left.exists() or not list(left.iterdir())


def read(fd, until=None):
    """Read up to end of file, or to where `until` has come."""
    said = b""
    while until is None or until not in said:
        assert select.select([fd], [], [], LIMIT_S)[0], f"nothing more after {said!r}"
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        said += chunk
    return said


def stat_fields(pid):
    """Return /proc/PID/stat after the name: state, parent, process group ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def parent(pid):
    return int(stat_fields(pid)[1])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_containers_end_is_told_with_its_status(containerd, runtime):
    identity, _, out = containerd.begin("echo hi; exit 7", runtime)
    assert read(out) == b"hi\n"
    event = containerd.event()
    assert (event.type, event.id, event.status, event.pid) == ("exit", identity, 7, "init")
    assert not (containerd.states / identity).exists()


def test_a_death_by_signal_is_128_and_the_signal(containerd):
    identity, _, _ = containerd.begin("sleep 1000")
    containerd.kill(identity, signal.SIGKILL)
    assert containerd.event().status == 128 + signal.SIGKILL


def test_a_signal_reaches_init(containerd):
    identity, _, out = containerd.begin("trap 'exit 9' USR1; sleep 1000 & echo; wait")
    read(out, b"\n")
    containerd.kill(identity, signal.SIGUSR1)
    assert containerd.event().status == 9


def test_the_exit_comes_after_the_last_output_is_read(containerd):
    identity, _, out = containerd.begin("echo last words")
    exit_status = containerd.states / identity / "init/exitStatus"
    end = os.pidfd_open(parent_of_start(containerd, identity))
    assert not select.select([end], [], [], 0.3)[0]
    assert exit_status.read_text() == "0"
    assert [c.status for c in containerd.containers()] == ["stopped"]
    assert read(out) == b"last words\n"
    assert containerd.event().type == "exit"
    os.close(end)


def parent_of_start(containerd, identity):
    """Return the pid of a container's shim: containerd's child of that name."""
    for pid in shims(containerd):
        if identity in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise AssertionError(identity)


def shims(containerd):
    pid = containerd.process.pid
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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
    shim = parent(pid)
    assert parent(shim) == containerd.process.pid
    assert int(stat_fields(shim)[2]) == shim
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
    assert (directory / "init/starttime").read_text() == stat_fields(pid)[19]
    state = json.loads((directory / "state.json").read_text())
    keys = "bundle labels stdin stdout stderr runtime runtimeArgs shim noPivotRoot"
    assert " ".join(state) == keys


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_failing_create_answers_in_the_runtimes_words(containerd, runtime):
    directory, _ = containerd.bundle("", args=["nope"])
    with pytest.raises(GRPCError) as failure:
        containerd.create(directory, runtime)
    assert failure.value.status is Status.UNKNOWN
    assert failure.value.message.startswith("oci runtime error: ")
    assert 'exec: "nope": executable file not found in $PATH' in failure.value.message
    assert list(containerd.containers()) == shims(containerd) == containerd.stored() == []


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
    assert stat_fields(pid)[0] == "S"


def test_a_killed_containerd_finds_its_containers_again(containerd):
    identity, pid, out = containerd.begin("read a; echo $a; read a; echo $a; exit 5")
    containerd.stop(signal.SIGKILL)
    containerd.input(identity, b"one\n")
    assert read(out, b"\n") == b"one\n"
    containerd.start()
    assert [(c.id, c.pids[0], c.status) for c in containerd.containers()] == [
        (identity, pid, "running")
    ]
    update = api_pb2.UpdateProcessRequest(id=identity, pid="init", closeStdin=True)
    containerd.input(identity, b"two\n")
    containerd.call("UpdateProcess", update)
    assert read(out) == b"two\n"
    assert (containerd.event().status, containerd.containers()) == (5, [])


def test_an_end_without_containerd_is_told_afterwards(containerd):
    identity, pid, out = containerd.begin("read a; echo $a; exit 3")
    shim = os.pidfd_open(parent(pid))
    before = containerd.stored()[-1].timestamp
    containerd.stop(signal.SIGKILL)
    containerd.input(identity, b"alone\n")
    assert read(out) == b"alone\n"
    assert select.select([shim], [], [], LIMIT_S)[0]
    os.close(shim)
    containerd.start(since=before)
    told = [containerd.event() for _ in range(2)]
    assert [(e.type, e.status) for e in told] == [("start-container", 0), ("exit", 3)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_killed_shim_takes_init_along(containerd, runtime):
    identity, pid, _ = containerd.begin("sleep 1000", runtime)
    end = os.pidfd_open(pid)
    os.kill(parent(pid), signal.SIGKILL)
    event = containerd.event()
    assert (event.type, event.id, event.status) == ("exit", identity, 137)
    assert select.select([end], [], [], 0)[0]
    os.close(end)


def test_a_shim_and_its_init_killed_without_containerd_are_255(containerd):
    _, pid, _ = containerd.begin("sleep 1000")
    ends = [os.pidfd_open(p) for p in (parent(pid), pid)]
    containerd.stop(signal.SIGKILL)
    for end in ends:
        signal.pidfd_send_signal(end, signal.SIGKILL)
        assert select.select([end], [], [], LIMIT_S)[0]
        os.close(end)
    containerd.start(since=Timestamp())
    assert [containerd.event().status for _ in range(2)] == [0, 255]


def test_a_terminated_containerd_leaves_containers_running(containerd):
    identity, pid, _ = containerd.begin("sleep 1000")
    assert containerd.stop() == 0
    assert not containerd.socket.exists()
    assert stat_fields(pid)[0] == "S"
    containerd.start()
    assert [c.id for c in containerd.containers()] == [identity]


def test_events_are_replayed_from_a_time_on(containerd):
    for _ in range(2):
        _, _, out = containerd.begin("true")
        read(out)
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


def test_a_line_cut_off_by_a_crash_is_dropped(containerd):
    _, _, out = containerd.begin("true")
    read(out)
    stored = [*containerd.stored(), containerd.event()][-2:]
    containerd.stop()
    with open(containerd.states / "events.log", "a") as log:
        log.write('{"type":"exit","id":"')
    containerd.start()
    assert containerd.stored()[-1] == stored[-1]
    assert (containerd.states / "events.log").read_text().endswith("\n")


def test_the_socket_is_for_root_and_its_group(containerd):
    assert mode(containerd.socket) == 0o660


def test_a_second_containerd_is_refused_in_one_line(containerd):
    ran = subprocess.run(containerd.argv(), capture_output=True, text=True, timeout=LIMIT_S)
    assert ran.returncode == 1
    assert (
        ran.stderr == f"startkit-containerd: {containerd.states} is in use by another containerd\n"
    )


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
