"""Daemons are killed: what ran still runs, and neither its output nor its end is lost."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest

COUNT = 'i=0; while read line; do echo "$i $line"; i=$((i+1)); done; exit 7'


def until_ended(pid, number=0):
    """Send a signal, if one is given, to a process that is not our child; wait for its end."""
    handle = os.pidfd_open(pid)
    try:
        if number:
            signal.pidfd_send_signal(handle, number)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(10_000), f"process {pid} goes on"
    finally:
        os.close(handle)


@pytest.fixture
def daemon(make_engine):
    made = make_engine()
    yield made
    made.clear()


def running(daemon, *flags, program=("sh", "-c", COUNT)):
    """Start a container that answers each line of its input; return its id and init."""
    made = daemon.ok("run", "-d", "-i", *flags, "$IMAGE", *program)
    return made, daemon.state(made)["Pid"]


def said(daemon, container, *lines):
    """Attach, send lines, hang up after the answers; return them."""
    attached = daemon.popen("attach", container)
    try:
        answers = []
        for line in lines:
            attached.stdin.write(line + b"\n")
            attached.stdin.flush()
            answers.append(attached.stdout.readline())
        return answers
    finally:
        attached.kill()
        attached.communicate()


def test_a_container_outlives_its_daemon_with_its_streams(daemon):
    container, init = running(daemon)
    assert said(daemon, container, b"a") == [b"0 a\n"]

    daemon.crash()
    daemon.up()

    assert daemon.state(container)["Pid"] == init
    assert said(daemon, container, b"b") == [b"1 b\n"]
    assert daemon.ok("logs", container) == "0 a\n1 b"


def test_an_end_without_a_daemon_is_told_by_the_next(daemon):
    container, init = running(daemon, program=("sh", "-c", "trap 'echo bye; exit 5' TERM; read x"))
    daemon.crash()

    until_ended(init, signal.SIGTERM)
    daemon.up()

    assert daemon.ok("wait", container) == "5"
    assert daemon.ok("logs", container) == "bye"
    assert daemon.cgroups() == []


def test_a_container_outlives_containerd(daemon):
    container, init = running(daemon)

    until_ended(daemon.containerd(), signal.SIGKILL)

    assert daemon.ok("run", "--rm", "$IMAGE", "echo", "next") == "next"
    assert daemon.state(container)["Pid"] == init
    assert said(daemon, container, b"a") == [b"0 a\n"]
    assert daemon.ok("stop", "-t", "0", container) == container
    assert daemon.state(container)["ExitCode"] == 137


def test_daemon_and_containerd_killed_together_lose_nothing(daemon):
    container, init = running(daemon)
    containerd = daemon.containerd()

    daemon.crash()
    until_ended(containerd, signal.SIGKILL)
    daemon.up()

    assert daemon.state(container)["Pid"] == init
    assert said(daemon, container, b"a") == [b"0 a\n"]


def test_a_killed_shim_ends_its_container(daemon):
    container, init = running(daemon)
    with open(f"/proc/{init}/stat") as stat:
        shim = int(stat.read().rpartition(")")[2].split()[1])

    until_ended(shim, signal.SIGKILL)

    assert daemon.ok("wait", container) in {"137", "255"}
    assert daemon.cgroups() == []


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1])
def test_a_start_survives_the_death_of_containerd_midway(daemon, after):
    made = daemon.ok("create", "$IMAGE", "sleep", "60")
    containerd = daemon.containerd()
    starting = daemon.popen("start", made)
    time.sleep(after)  # the moments differ, the outcome may not

    until_ended(containerd, signal.SIGKILL)

    starting.communicate(timeout=30)
    assert starting.returncode == 0
    assert daemon.state(made)["Running"]
    assert daemon.ok("stop", "-t", "0", made) == made


@pytest.mark.parametrize("name", ["config.v2.json", "hostconfig.json"])
def test_a_cut_or_garbled_record_is_set_aside_with_one_line(daemon, name):
    kept, *bad = (daemon.ok("create", "$IMAGE", "true") for _ in range(4))
    containers = daemon.root / "data/containers"
    whole = (containers / bad[0] / name).read_bytes()
    daemon.crash()
    for made, left in zip(bad, (b"", whole[: len(whole) // 2], b"\xff" * 9), strict=True):
        (containers / made / name).write_bytes(left)

    daemon.up()

    assert daemon.ok("ps", "-aq", "--no-trunc") == kept
    said = (daemon.root / "log").read_text().splitlines()
    assert [sum(made[:12] in line for line in said) for made in bad] == [1, 1, 1]
    assert all((containers / f"{made}.broken" / name).exists() for made in bad)
    assert daemon.ok("start", kept) == kept
