"""Broken targets: each is given up in time, told, and leaves nothing; none conforms by it.

The quickest and most telling of `broken.py`; HYPOTHESIS_PROFILE=thorough runs them all.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import broken
import broken_engine
import broken_runtime
import pytest

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("busybox"), reason="needs root and busybox-static"
    ),
    pytest.mark.timeout(broken.LIMIT_S + 60),
]


def test_every_broken_target_has_its_outcome():
    names = [*broken_engine.ENGINES, *(f"runtime:{name}" for name in broken_runtime.RUNTIMES)]

    assert names == list(broken.TARGETS)
    assert {*names} > broken.QUICK


@pytest.mark.parametrize(
    "name", [name for name in broken.TARGETS if THOROUGH or name in broken.QUICK]
)
def test_a_broken_target_is_told_and_leaves_nothing(name):
    status, phrase = broken.TARGETS[name]

    with tempfile.TemporaryDirectory(prefix="sk-") as place:  # short enough for sockets in it
        made = broken.judge(name, Path(place))

    assert made.left == []
    assert made.status == status, made.said
    assert phrase in made.said + made.why
    assert "broken" not in made.counts
    assert made.conforming == [] or status != 3 or name in broken.PARTLY


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_what_a_suite_began_ends_with_it(number):
    with tempfile.TemporaryDirectory(prefix="sk-", ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        child = broken.suite("stop-hangs", place)
        try:
            wait_for(lambda: any(map(runs, place.glob("t/*/data/containers/*/config.v2.json"))))
            child.send_signal(number)
            child.wait(60)
            wait_for(lambda: not broken.processes(place))
        finally:
            child.kill()
            child.wait()
            left = broken.leftovers(place, child.pid)
        assert [one for one in left if not one.startswith("path") or number != signal.SIGKILL] == []


def runs(config):
    """Say whether a file describes the scene's container, running."""
    text = config.read_text()
    return "startkit-plain" in text and '"Running":true' in text.replace(" ", "")


def wait_for(fact):
    end = time.monotonic() + 60
    while not fact() and time.monotonic() < end:
        time.sleep(0.05)
    assert fact()
