"""The container's control groups."""

from __future__ import annotations

import pytest

clause = pytest.mark.clause

OPEN = ("1:3", "1:5", "1:8", "1:9", "5:0", "5:1")  # null zero random urandom tty console


def devices(seen):
    """Return the lines of devices.list as [type, numbers, access]."""
    return [line.split() for line in seen.cgroup("devices.list").splitlines()]


def is_too_wide(row):
    """Say whether a rule opens everything, or every device of a type for reading or writing."""
    return row[0] == "a" or (row[1] == "*:*" and bool({"r", "w"} & set(row[2])))


def memberships(seen):
    """Return hierarchy -> cgroup of init, where the container has a directory."""
    rows = [line.split(":", 2) for line in seen.init.cgroups]
    named = {row[1].removeprefix("name=") or "unified": row[2] for row in rows}
    return {name: named.get(name, "none") for name in seen.cgroup_dirs}


@clause("cgroup.path.default")
def test_the_cgroup_is_docker_and_the_id(seen, expect):
    expect(seen.config.at("/linux/cgroupsPath"))


@clause("cgroup.path.parent")
def test_the_users_parent_comes_before_the_id(seen, expect):
    expect(seen.config.at("/linux/cgroupsPath"))


@clause("cgroup.directory")
def test_find_finds_the_container(seen, expect):
    expect({path.rpartition("/")[2] for path in seen.cgroup_dirs.values()})


@clause("cgroup.member")
def test_the_program_is_in_these_cgroups(seen, expect):
    found = sorted(set(memberships(seen).values()))
    expect(found[0] if len(found) == 1 else found)


@clause("cgroup.memory.limit")
def test_memory_is_limited(seen, expect):
    expect(seen.cgroup("memory.limit_in_bytes", "memory.max"))


@clause("cgroup.pids.limit")
def test_processes_are_limited(seen, expect):
    expect(seen.cgroup("pids.max"))


@clause("cgroup.cpu.shares")
def test_the_weight_is_set(seen, expect):
    expect(seen.cgroup("cpu.shares"))


@clause("cgroup.devices.closed")
def test_not_every_device_is_open(seen, expect):
    expect([" ".join(row) for row in devices(seen) if is_too_wide(row)])


@clause("cgroup.devices.open")
def test_the_usual_devices_are_open(seen, expect):
    rows = devices(seen)
    expect([number for number in OPEN if ["c", number, "rwm"] not in rows])


@clause("cgroup.removed")
def test_the_cgroups_go_when_the_container_stops(seen, expect):
    were = seen.running.cgroup_dirs
    expect(sorted(were.keys() & seen.stopped.moment.cgroup_dirs))
