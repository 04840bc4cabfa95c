"""SIGTERM for a daemon that is at work: it ends soon, and nothing of what it began is left."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from startkit.client import ClientError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
MORTAL = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]
BODY = {"Image": "startkit/base", "Cmd": MORTAL, "HostConfig": {"NetworkMode": "none"}}
END_S = 14.0  # less than a stop with its grace and all that may come after it
HUNG = '#!/bin/sh\ncase "$*" in *" create "*) touch {0}; exec sleep 1000;; esac\n'


def begin(engine, made):
    """Ask for a start; do not wait for the answer, which is put into the list."""
    answers = []

    def ask():
        try:
            answers.append(engine.api.post(f"/containers/{made}/start").status)
        except ClientError as error:
            answers.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    return asking, answers


def assert_gone(engine):
    """Nothing of the daemon is left but its data: processes and mounts `make_engine` looks for."""
    assert engine.cgroups() == []
    left = [p for p in Path(engine.root).rglob("*") if p.is_socket() or p.is_fifo()]
    assert left == []
    assert list(engine.root.glob("pid")) == list(engine.root.rglob("*.pid")) == []


@pytest.mark.parametrize("after_ms", [0, 20, 50, 100, 200])
def test_a_daemon_that_ends_in_the_middle_of_starts_leaves_nothing(make_engine, after_ms):
    engine = make_engine()
    made = [engine.api.post("/containers/create", BODY).json()["Id"] for _ in range(4)]
    begun = [begin(engine, one) for one in made]

    time.sleep(after_ms / 1000)
    engine.daemon.send_signal(signal.SIGTERM)

    assert engine.daemon.wait(END_S) == 0
    for asking, answers in begun:
        asking.join()
        assert answers in ([204], [503]) or isinstance(answers[0], str)
    assert_gone(engine)


def test_a_second_sigterm_ends_a_start_that_hangs(make_engine, tmp_path):
    runtime, here = tmp_path / "runtime", tmp_path / "here"
    runtime.write_text(HUNG.format(here))
    runtime.chmod(0o755)
    engine = make_engine("--add-runtime", f"hung={runtime}")
    body = BODY | {"HostConfig": {"NetworkMode": "none", "Runtime": "hung"}}
    asking, answers = begin(engine, engine.api.post("/containers/create", body).json()["Id"])
    while asking.is_alive() and not here.exists():
        time.sleep(0.01)

    engine.daemon.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        engine.daemon.wait(0.5)
    engine.daemon.send_signal(signal.SIGTERM)

    assert engine.daemon.wait(END_S) == 0
    asking.join()
    assert answers != [204]
    assert_gone(engine)
