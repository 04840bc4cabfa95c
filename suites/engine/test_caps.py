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


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["sys_time"], ["ALL"], ["CAP_SYS_TIME"]),
        (["CAP_CHOWN"], ["all"], ["CAP_CHOWN"]),
        ([], ["ALL"], []),
    ],
)
def test_dropping_all_leaves_what_is_added(add, drop, expected):
    assert caps.resolve(add, drop) == expected


def test_what_is_both_dropped_and_added_is_there():
    assert caps.resolve(["CHOWN"], ["CHOWN"])[-1] == "CAP_CHOWN"


def test_all_is_what_the_daemon_holds_itself(monkeypatch):
    monkeypatch.setattr(caps, "held", lambda: ("CHOWN", "KILL"))
    assert caps.resolve(["ALL"], []) == ["CAP_CHOWN", "CAP_KILL"]
    assert caps.resolve(["ALL"], ["CHOWN"]) == ["CAP_KILL"]
    assert caps.resolve([], ["CHOWN"], privileged=True) == ["CAP_CHOWN", "CAP_KILL"]


def test_what_is_held_is_what_the_kernel_says():
    with open("/proc/self/status") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapBnd"))
    assert sum(1 << caps.ALL.index(name) for name in caps.held()) == mask


@given(st.lists(st.sampled_from(caps.ALL)), st.lists(st.sampled_from(caps.ALL)))
def test_a_capability_is_given_once_and_only_for_a_reason(add, drop):
    got = caps.resolve(add, drop)
    assert len(got) == len(set(got))
    assert set(got) == {f"CAP_{n}" for n in (set(caps.DEFAULT) - set(drop)) | set(add)}
