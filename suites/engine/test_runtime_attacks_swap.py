"""Attacks by somebody who exchanges directories of the rootfs while the container is created.

Two containers that share a directory are enough for that. Nothing of the host may be reached,
and what the container gets is as its config says, wherever the attacker has moved it: a mount
that was to be read-only is, and what lies in its /proc is masked.
"""

from __future__ import annotations

import os
import socket
import threading

import pytest

from startkit import kernel

ROUNDS = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 12
RENAME_EXCHANGE = 2
WANTED = {"ro", "nosuid", "noexec"}


def exchange(one, other):
    """Exchange two names at once, whatever they are."""
    renamed = kernel.libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)
    assert renamed == 0


def mountinfo(pid):
    """Return a process's mounts as (id, parent's id, root, target, options, type, source)."""
    with open(f"/proc/{pid}/mountinfo") as file:
        for line in file:
            before, after = (half.split() for half in line.split(" - "))
            yield (*before[:2], *before[3:5], set(before[5].split(",")), *after[:2])


@pytest.fixture
def shared(bundle, victim):
    """Make mounts that lie in directories for which the attacker has a twin."""
    for name in ("a/in", "a/file", "b/in", "proc", "fake/sys", "fake/bus"):
        (bundle.rootfs / name).mkdir(parents=True, exist_ok=True)
    for name in ("fake/timer_list", "fake/kcore"):
        (bundle.rootfs / name).write_text("mine")
    (bundle.path / "data").mkdir()
    (bundle.rootfs / "link").symlink_to(victim)
    flags = sorted(WANTED)
    bundle.config["mounts"] += [
        {
            "destination": "/a/in",
            "type": "bind",
            "source": str(bundle.path / "data"),
            "options": ["bind", *flags, "slave"],
        },
        {"destination": "/a/in", "type": "tmpfs", "source": "attacked", "options": flags},
    ]
    return bundle  # fmt: skip


@pytest.fixture
def console(bundle):
    """Give the container a terminal, and the flags with a socket that takes what it is sent."""
    bundle.config["process"]["terminal"] = True
    with socket.socket(socket.AF_UNIX) as taker:
        taker.bind(str(bundle.path / "console"))
        taker.listen(ROUNDS)
        yield "--console-socket", str(bundle.path / "console")


def is_as_configured(bundle, pid):
    """Whether our two mounts have their flags and /proc, wherever it is, has its masks."""
    found = [*mountinfo(pid)]
    ours = [m for m in found if m[6] == "attacked" or m[2].endswith("/data")]
    proc = next(m for m in found if m[5] == "proc" and m[2] == "/")
    above = {os.path.basename(m[3]): m for m in found if m[1] == proc[0]}
    assert [m for m in ours if not m[4] >= WANTED] == []
    assert "/null" in above["timer_list"][2]
    assert {"ro"} <= above["sys"][4] & above["bus"][4]
    return len(ours) == 2


def test_a_mount_that_is_moved_aside_at_once_still_gets_its_flags(shared):
    # The attacker is as quick as can be: right after each mount, before its flags are set.
    def prepare():
        move_mount = kernel.move_mount

        def and_swap(tree, target):
            move_mount(tree, target)
            exchange(shared.rootfs / "a", shared.rootfs / "b")

        kernel.move_mount = and_swap

    assert shared.create_in_child(prepare) == 0
    assert is_as_configured(shared, shared.pids[0])


def test_a_proc_that_is_moved_aside_is_masked_where_it_is(shared):
    # A hook stands in for the attacker: on the host, when all is mounted and nothing masked yet.
    swap = f"cd {shared.rootfs} && mv proc x && mv fake proc && mv x fake"
    shared.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", swap]}]}

    shared.create("true")
    assert is_as_configured(shared, shared.pids[0])
    assert (shared.rootfs / "proc/timer_list").read_text() == "mine"


@pytest.mark.parametrize("twin", ["b", "link"])
def test_swapping_all_the_time_reaches_nothing(shared, console, twin):
    done, created = threading.Event(), 0
    before = [m for m in mountinfo("self") if "attacked" in m[3]]

    def attack():
        while not done.is_set():
            exchange(shared.rootfs / "a", shared.rootfs / twin)
            exchange(shared.rootfs / "proc", shared.rootfs / "fake")

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        for _ in range(ROUNDS):
            if shared.create_in_child(lambda: None, *console) == 0:
                created += is_as_configured(shared, shared.pids[0])
                shared.call("delete", "--force", shared.id)
                shared.wait()
    finally:
        done.set()
        thread.join()

    assert created
    assert [m for m in mountinfo("self") if "attacked" in m[3]] == before


@pytest.mark.parametrize("target", ["/proc/self/attr/current", "/proc/sys/kernel/domainname"])
def test_a_console_planted_as_a_symlink_covers_nothing_of_proc(bundle, console, target):
    dev = bundle.path / "dev"
    (dev / "pts").mkdir(parents=True)
    (dev / "console").symlink_to(target)
    bundle.config["mounts"][1] = {
        "destination": "/dev", "type": "bind", "source": str(dev), "options": ["bind"]}  # fmt: skip

    assert bundle.create_in_child(lambda: None, *console) == 1
    assert "/dev/console: /proc/" in (bundle.path / "log").read_text()


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_the_kernels_own_file_systems_are_not_mounted_behind_a_symlink(bundle, kind):
    # In a directory that another container shares somebody could fill in what programs trust.
    where = {"proc": "/proc", "sysfs": "/sys"}[kind]
    (bundle.rootfs / "elsewhere").mkdir()
    (bundle.rootfs / where[1:]).rmdir()
    (bundle.rootfs / where[1:]).symlink_to("/elsewhere")
    done = bundle.run("true")

    assert (done.returncode, done.stderr) == (
        1,
        f"mount {where}: must be mounted on ordinary directory\n",
    )
    assert os.listdir(bundle.rootfs / "elsewhere") == []
