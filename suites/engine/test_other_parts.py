"""Our daemon with parts that are not its own: other runtimes, another storage driver."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

WITHOUT_V2 = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "sh")
HYBRID = os.path.ismount("/sys/fs/cgroup/unified")
ECHO = "read x; echo got $x; exit 5"


def flags(program):
    return ("--add-runtime", f"other={shutil.which(program)}", "--default-runtime", "other")


def around(program):
    """Return what crun needs before it: it refuses a machine with both kinds of cgroups."""
    return WITHOUT_V2 if program == "crun" and HYBRID else ()


def runtime_of(engine, container):
    """Return the runtime that containerd has noted for a running container."""
    container_id = engine.ok("inspect", "-f", "{{.Id}}", container)
    state = engine.root / "exec/libcontainerd/containerd" / container_id / "state.json"
    return json.loads(state.read_text())["runtime"]


def failed(engine, program):
    """Return the recorded exit status of a container whose program cannot be run."""
    container = engine.ok("create", "$IMAGE", program)
    assert engine.docker("start", container).returncode == 1
    return engine.state(container)["ExitCode"]


@pytest.fixture(params=["runc", "crun"])
def other(request, make_engine):
    """Run a daemon whose containers are run by a program that nobody here wrote."""
    if not shutil.which(request.param):
        pytest.skip(f"needs {request.param}")
    return make_engine(*flags(request.param), around=around(request.param))


def test_another_runtime_runs_kills_and_restores_containers(other):
    done = other.docker("run", "--rm", "-i", "$IMAGE", "sh", "-c", ECHO, input="it\n")
    assert (done.returncode, done.stdout, done.stderr) == (5, "got it\n", "")

    assert other.ok("run", "--rm", "-t", "$IMAGE", "tty") == "/dev/pts/0"
    assert other.ok("run", "--rm", "-m", "50m", "-h", "hosty", "$IMAGE", "hostname") == "hosty"
    # crun words it otherwise, so the client's own status would be 125
    assert failed(other, "nope") == 127
    assert failed(other, "/etc/passwd") == 126

    other.ok(
        "run",
        "-d",
        "--name",
        "box",
        "$IMAGE",
        "sh",
        "-c",
        "trap 'exit 9' TERM; while :; do sleep 0.1; done",
    )
    assert other.ok("inspect", "-f", "{{.HostConfig.Runtime}}", "box") == "other"
    assert runtime_of(other, "box") in (shutil.which("runc"), shutil.which("crun"))
    other.crash()
    other.up()
    assert other.state("box")["Running"]
    other.ok("stop", "box")
    assert other.state("box")["ExitCode"] in (9, 143)  # 143: the trap was not yet set

    assert other.ok("rm", "box") == "box"


def test_a_runtime_is_chosen_for_one_container(make_engine):
    if not shutil.which("runc"):
        pytest.skip("needs runc")
    engine = make_engine("--add-runtime", f"other={shutil.which('runc')}")

    assert engine.ok("run", "--rm", "--runtime", "other", "$IMAGE", "echo", "a") == "a"
    assert engine.ok("run", "--rm", "$IMAGE", "echo", "a") == "a"
    refused = engine.docker("create", "--runtime", "nope", "$IMAGE", "true")
    assert "Unknown runtime specified nope" in refused.stderr


def test_vfs_copies_what_overlay_mounts(make_engine):
    engine = make_engine("--storage-driver", "vfs")
    engine.ok("run", "--name", "box", "$IMAGE", "sh", "-c", "echo new > /file; cat /etc/hostname")
    layers = list(Path(engine.root, "data/vfs").rglob("file"))

    assert [layer.read_text() for layer in layers] == ["new\n"]
    assert engine.docker("start", "-a", "box").returncode == 0
    assert engine.api.get("/info").json()["Driver"] == "vfs"
    engine.ok("rm", "box")
    assert list(Path(engine.root, "data/vfs").rglob("file")) == []
