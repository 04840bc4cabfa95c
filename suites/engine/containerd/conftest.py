"""One containerd in a temporary place, driven over gRPC as dockerd does."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from grpclib.client import Channel

from startkit.containerd.proto import api_grpc, api_pb2

BUSYBOX = shutil.which("busybox")
LIMIT_S = float(os.environ.get("SHIM_LIMIT", "20"))


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

    @staticmethod
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

    @staticmethod
    def stat(pid):
        """Return /proc/PID/stat after the name: state, parent, process group ..."""
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

    def parent(self, pid):
        """Return a process's parent; of a container's init that is the shim."""
        return int(self.stat(pid)[1])

    def shims(self):
        """Return the pids of containerd's children."""
        pid = self.process.pid
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @staticmethod
    def has_ended(pidfd, within_s=LIMIT_S):
        """Tell whether the process behind a pidfd ends in time; close the pidfd."""
        ended = bool(select.select([pidfd], [], [], within_s)[0])
        os.close(pidfd)
        return ended


@pytest.fixture(params=["docker-runc", "runc"])
def runtime(request):
    """Name the embedded runtime, and runc where it is installed."""
    if request.param == "docker-runc":
        return request.param
    return shutil.which("runc", path="/usr/sbin:/usr/bin") or pytest.skip("no runc")


@pytest.fixture
def containerd(tmp_path):
    """Start a containerd, and see that it leaves nothing."""
    if os.getuid() != 0 or not BUSYBOX:
        pytest.skip("needs root and busybox-static")
    server = Containerd(tmp_path)
    yield server
    server.close()
    assert [path.name for path in server.states.iterdir()] == ["events.log"]
    left = tmp_path / "runtime"
    assert not left.exists() or not list(left.iterdir())
