"""What a daemon leaves after many starts, after a failed start and at its end: nothing."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import settings

STARTS = {"ci": 60, "thorough": 2000}.get(settings.get_current_profile_name(), 30)
SETTLE_S = 0.05  # there is no event for the last descriptor that a daemon closes
BODY = {"Image": "startkit/base", "Cmd": ["sleep", "100"], "HostConfig": {"NetworkMode": "none"}}


def traces(engine):
    """Return what two looks in a row see: what is being closed just now is not left."""
    seen = None
    while (now := look(engine)) != seen:
        seen = now
        time.sleep(SETTLE_S)
    return seen


def look(engine):
    """Count what starts could leave: mounts, cgroups, FIFOs, files, descriptors, children."""
    root = str(engine.root)
    with open("/proc/self/mountinfo") as table:
        mounts = [line for line in table if root in line]
    below = list(Path(root).rglob("*"))
    pids = (engine.daemon.pid, engine.containerd())
    return {
        "mounts": len(mounts),
        "cgroups": engine.cgroups(),
        "fifos": [str(p) for p in below if stat.S_ISFIFO(p.lstat().st_mode)],
        "files": sorted(str(p) for p in below if p.name != "log"),
        "descriptors": [sorted(k for k in held(pid) if k != "socket") for pid in pids],
        "threads": [len(os.listdir(f"/proc/{pid}/task")) for pid in pids],
        "children": [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in pids],
    }


def held(pid):
    """Return the kinds of a process's descriptors: `socket`, `pipe`, a path."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # a connection that has just been closed
            yield os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0]


def start_and_remove(engine, body=BODY):
    """Go once through create, start and remove; return the status of the start."""
    made = engine.api.post("/containers/create", body).json()["Id"]
    status = engine.api.post(f"/containers/{made}/start").status
    assert engine.api.delete(f"/containers/{made}", force=True).status == 204
    return status


@pytest.mark.timeout(3600)
def test_many_starts_leave_nothing(make_engine):
    engine = make_engine()
    start_and_remove(engine)
    before = traces(engine)

    assert {start_and_remove(engine) for _ in range(STARTS)} == {204}

    assert traces(engine) == before
    assert list(held(engine.daemon.pid)).count("socket") < 15


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Cmd": ["nope"]}, 400),
        ({"Cmd": ["/etc"]}, 400),
        ({"User": "nobody-knows-me"}, 500),
        ({"HostConfig": {"Sysctls": {"net.ipv4.nothing": "1"}}}, 500),
        ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/none"}]}}, 400),
    ],
    ids=["missing", "directory", "user", "sysctl", "device"],
)
def test_a_failed_start_leaves_nothing(make_engine, change, status):
    engine = make_engine()
    start_and_remove(engine)
    before = traces(engine)

    assert start_and_remove(engine, BODY | change) == status

    assert traces(engine) == before


def test_a_stop_of_the_daemon_ends_its_containers_and_leaves_no_process(make_engine):
    engine = make_engine()
    made = engine.ok(
        "run", "-d", "$IMAGE", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"
    )
    init, containerd = engine.state(made)["Pid"], engine.containerd()

    assert engine.down() == 0

    assert not os.path.exists(f"/proc/{init}")
    assert not os.path.exists(f"/proc/{containerd}")
    assert not os.path.exists(engine.socket)
    assert engine.cgroups() == []


def test_a_second_daemon_on_the_same_data_root_is_refused(make_engine):
    engine = make_engine()
    other = [
        word.replace("/exec", "/exec2").replace("api.sock", "two.sock") for word in engine.command
    ]

    done = subprocess.run(other, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "in use by another daemon" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_is_reported_and_the_start_undone(make_engine):
    engine = make_engine()
    made = engine.api.post("/containers/create", BODY).json()["Id"]
    before = traces(engine)
    containers = engine.root / "data/containers" / made
    script = f"mount -t tmpfs -o size=4k none {containers}"
    saved = {p.name: p.read_bytes() for p in containers.iterdir() if p.is_file()}
    subprocess.run(["sh", "-c", script], check=True)
    try:
        (containers / "fill").write_bytes(b"x" * 4096)
        answer = engine.api.post(f"/containers/{made}/start")
    finally:
        subprocess.run(["umount", str(containers)], check=True)

    assert answer.status == 500
    assert "no space left on device" in answer.message.lower()
    assert {p.name: p.read_bytes() for p in containers.iterdir() if p.is_file()} == saved
    after = traces(engine)
    for found in (before, after):
        del found["files"]  # overlayfs makes work/work at the first mount
    assert after == before
    assert engine.api.delete(f"/containers/{made}").status == 204
