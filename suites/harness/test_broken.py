"""Broken targets: each is given up in time, told, and leaves nothing; none conforms by it.

The quickest and most telling of `broken.py`; HYPOTHESIS_PROFILE=thorough runs them all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import broken
import pytest

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("busybox"), reason="needs root and busybox-static"
    ),
    pytest.mark.timeout(broken.LIMIT_S + 60),
]


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
    assert made.conforming == [] or status != 3
