"""What is killed, and what goes on: containerd and shim come and go, containers do not."""

from __future__ import annotations

import os
import signal
import subprocess

from google.protobuf.timestamp_pb2 import Timestamp

from startkit.containerd.proto import api_pb2


def test_a_killed_containerd_finds_its_containers_again(containerd):
    identity, pid, out = containerd.begin("read a; echo $a; read a; echo $a; exit 5")
    containerd.stop(signal.SIGKILL)
    containerd.input(identity, b"one\n")
    assert containerd.read(out, b"\n") == b"one\n"
    containerd.start()
    assert [(c.id, c.pids[0], c.status) for c in containerd.containers()] == [
        (identity, pid, "running")
    ]
    update = api_pb2.UpdateProcessRequest(id=identity, pid="init", closeStdin=True)
    containerd.input(identity, b"two\n")
    containerd.call("UpdateProcess", update)
    assert containerd.read(out) == b"two\n"
    assert (containerd.event().status, containerd.containers()) == (5, [])


def test_an_end_without_containerd_is_told_afterwards(containerd):
    identity, pid, out = containerd.begin("read a; echo $a; exit 3")
    shim = os.pidfd_open(containerd.parent(pid))
    before = containerd.stored()[-1].timestamp
    containerd.stop(signal.SIGKILL)
    containerd.input(identity, b"alone\n")
    assert containerd.read(out) == b"alone\n"
    assert containerd.has_ended(shim)
    containerd.start(since=before)
    told = [containerd.event() for _ in range(2)]
    assert [(e.type, e.status) for e in told] == [("start-container", 0), ("exit", 3)]


def test_a_killed_shim_takes_init_along(containerd, runtime):
    identity, pid, _ = containerd.begin("sleep 1000", runtime)
    end = os.pidfd_open(pid)
    os.kill(containerd.parent(pid), signal.SIGKILL)
    event = containerd.event()
    assert (event.type, event.id, event.status) == ("exit", identity, 137)
    assert containerd.has_ended(end, within_s=0)


def test_a_shim_and_its_init_killed_without_containerd_are_255(containerd):
    _, pid, _ = containerd.begin("sleep 1000")
    ends = [os.pidfd_open(p) for p in (containerd.parent(pid), pid)]
    containerd.stop(signal.SIGKILL)
    for end in ends:
        signal.pidfd_send_signal(end, signal.SIGKILL)
        assert containerd.has_ended(end)
    containerd.start(since=Timestamp())
    assert [containerd.event().status for _ in range(2)] == [0, 255]


def test_a_terminated_containerd_leaves_containers_running(containerd):
    identity, pid, _ = containerd.begin("sleep 1000")
    assert containerd.stop() == 0
    assert not containerd.socket.exists()
    assert containerd.stat(pid)[0] == "S"
    containerd.start()
    assert [c.id for c in containerd.containers()] == [identity]


def test_a_line_cut_off_by_a_crash_is_dropped(containerd):
    _, _, out = containerd.begin("true")
    containerd.read(out)
    stored = [*containerd.stored(), containerd.event()][-2:]
    containerd.stop()
    with open(containerd.states / "events.log", "a") as log:
        log.write('{"type":"exit","id":"')
    containerd.start()
    assert containerd.stored()[-1] == stored[-1]
    assert (containerd.states / "events.log").read_text().endswith("\n")


def test_a_second_containerd_is_refused_in_one_line(containerd):
    ran = subprocess.run(containerd.argv(), capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1
    assert (
        ran.stderr == f"startkit-containerd: {containerd.states} is in use by another containerd\n"
    )
