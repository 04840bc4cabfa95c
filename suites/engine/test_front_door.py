"""The daemon as a process: its one line, its lock, its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from startkit import cli
from startkit.client import Client

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the daemon needs root")
LIMIT_S = 30
STARTED = []


@pytest.fixture
def place():
    """Give a place of its own, short enough for a socket, empty of mounts at the end."""
    root = Path(tempfile.mkdtemp(prefix="startkit-door-"))
    yield root
    for daemon in STARTED:
        if daemon.poll() is None:  # its test failed
            end(daemon)
    STARTED.clear()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(root)


def command(place, *more, name="api"):
    return [
        sys.executable, "-m", "startkit.daemon", "--data-root", place / "data",
        "--exec-root", place / "exec", "-H", f"unix://{place}/{name}.sock",
        "--pidfile", place / f"{name}.pid", *more,
    ]  # fmt: skip


def start(place, *more):
    """Start a daemon and return it with the line that says it is ready."""
    log = open(place / "log", "ab")  # noqa: SIM115 -- the daemon's from now on
    with log:
        daemon = subprocess.Popen(
            command(place, *more), stdout=subprocess.PIPE, stderr=log, text=True
        )
    STARTED.append(daemon)
    return daemon, daemon.stdout.readline()


def end(daemon, number=signal.SIGTERM):
    daemon.send_signal(number)
    status = daemon.wait(LIMIT_S)
    rest = daemon.stdout.read()
    daemon.stdout.close()
    return status, rest


def refused(place, *more, **options):
    """Run a daemon that cannot start; return (status, what it says)."""
    done = subprocess.run(
        command(place, *more, name="second"), capture_output=True, text=True, timeout=LIMIT_S,
        check=False, **options,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_it_says_one_line_and_then_answers(place):
    daemon, line = start(place)
    ping = Client(f"{place}/api.sock").get("/_ping")
    comm = Path(f"/proc/{daemon.pid}/comm").read_text()
    pidfile = (place / "api.pid").read_text()
    status, rest = end(daemon)
    assert line == f"startkit-dockerd 0.1.0 ready on unix://{place}/api.sock\n"
    assert (ping.status, comm, pidfile) == (200, "dockerd\n", str(daemon.pid))
    assert (status, rest) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(place, number):
    daemon, _ = start(place)
    assert end(daemon, number)[0] == 0
    left = sorted(path.name for path in place.iterdir())
    assert left == ["data", "exec", "log"]
    assert list((place / "exec").rglob("*.sock")) == list((place / "exec").rglob("*.pid")) == []


def test_a_second_daemon_on_the_data_root_is_refused_in_one_line(place):
    daemon, _ = start(place)
    status, said = refused(place)
    answers = Client(f"{place}/api.sock").get("/_ping").status
    end(daemon)
    assert status == 1
    assert said == (
        f"startkit-dockerd: the data root {place}/data is in use by another daemon "
        f"(pid {daemon.pid})\n"
    )
    assert answers == 200


def test_after_sigkill_the_next_one_starts(place):
    daemon, _ = start(place)
    end(daemon, signal.SIGKILL)
    daemon, line = start(place)
    assert "ready" in line
    assert end(daemon)[0] == 0


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["-H", "tcp://0.0.0.0:2375"], "cannot listen on 'tcp://0.0.0.0:2375': only unix:///PATH"),
        (["--add-runtime", "runc"], "--add-runtime 'runc': want NAME=PATH"),
        (["--default-runtime", "kata"], "unknown default runtime 'kata'"),
    ],
)
def test_a_flag_that_cannot_be_is_one_line(place, more, text):
    status, said = refused(place, *more)
    assert status == 1
    assert text in said
    assert said.count("\n") == 1


def test_aufs_on_a_kernel_without_it_is_one_line(place):
    if "aufs" in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has aufs")
    expected = "startkit-dockerd: aufs is not in this kernel\n"
    assert refused(place, "--storage-driver", "aufs") == (1, expected)


def test_without_root_it_says_so_in_one_line():
    source = (
        "import os, sys; from startkit.daemon.__main__ import main, parser; "
        "parser();"  # loads what argparse needs: nobody may not read our Python
        "os.seteuid(65534); sys.exit(main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    expected = "startkit-dockerd: needs to be run as root: mounts, cgroups and namespaces\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_a_running_containers_start_can_be_explained(engine, capsys):
    container = engine.ok("run", "-d", "$IMAGE", "sleep", "1000")
    host = f"unix://{engine.socket}"

    assert cli.main(["explain", "-H", host, container[:12]]) == 0
    said = capsys.readouterr().out
    assert f"{container[:12]}.../hostname  file 0644 13 bytes  {container[:12]}\n" in said
    assert f"{engine.state(container)['Pid']} sleep 1000  (parent " in said

    engine.ok("kill", container)
    assert cli.main(["explain", "-H", host, container]) == 1
    assert "does not run" in capsys.readouterr().err
