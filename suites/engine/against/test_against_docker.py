"""The same `docker create` on our engine and on a real dockerd: nothing differs but the dialects.

Each draw is a request that both engines get. What is then seen of both containers
(`portrait`) is equal once the changes of `today` are made, or the test names every place.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from portrait import differences, script
from recipes import bodies
from today import CHANGES, translate

from startkit.judge.dialect import load_dialects

GOLDEN = Path(__file__).parents[3] / "golden"
DRAWS = {"dev": 5, "ci": 25, "thorough": 300}
PROGRAM = ["sh", "-c", script(7)]
# these two show every change
PLAIN = {
    "Cmd": PROGRAM,
    "Domainname": "lan",
    "HostConfig": {
        "NetworkMode": "none", "Binds": [], "Tmpfs": {"/run": ""}, "CapAdd": ["MKNOD"]
    },
}  # fmt: skip
SHARED = {
    "Cmd": PROGRAM,
    "Tty": True,
    "OpenStdin": True,
    "HostConfig": {
        "NetworkMode": "host", "IpcMode": "shareable", "Binds": ["<HOST>/data:/data"], "Tmpfs": {}
    },
}  # fmt: skip
pytestmark = pytest.mark.timeout(3600)


def told(recipe):
    """Return a request as a person would send it again; the program's script left out."""
    return re.sub(r'"trap [^"]*"', '"$SCRIPT"', json.dumps(recipe))


@settings(
    max_examples=DRAWS.get(settings.get_current_profile_name(), 5),
    suppress_health_check=list(HealthCheck),
)
@example(PLAIN)
@example(SHARED)
@given(bodies())
def test_what_a_request_makes_of_a_container_is_dockers(pair, recipe):
    ours, theirs = (engine.portray(recipe) for engine in pair)
    left = differences(translate(ours, recipe), theirs)
    if left:
        pytest.fail("\n".join([told(recipe), *left]), pytrace=False)


def test_every_change_is_needed(pair):
    seen = [(recipe, *(one.portray(recipe) for one in pair)) for recipe in (PLAIN, SHARED)]
    idle = {
        change.__name__
        for change in CHANGES
        if all(
            not differences(translate(ours, recipe, without=change), theirs)
            for recipe, ours, theirs in seen
        )
    }
    assert idle == set()


def test_every_change_has_its_reason_in_a_dialect_and_back():
    dialects = load_dialects(GOLDEN)
    # a dialect that comes after another has the other's as well
    listed = [
        one.name for name in ("docker-20.10", "startkit-0.1") for one in dialects[name].change
    ]
    assert sorted(listed) == sorted(change.__name__ for change in CHANGES)
