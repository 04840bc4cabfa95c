"""Capabilities: Docker's fourteen, what is added and dropped, and never more than is held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon import caps

FOURTEEN = [
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
]  # fmt: skip


def test_the_defaults_are_dockers_fourteen_in_order():
    assert caps.resolve([], []) == [f"CAP_{name}" for name in FOURTEEN]
