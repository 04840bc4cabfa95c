"""Scheduler, IO priority, personality, clocks, huge pages: seen from inside, or refused by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from startkit.runtime import resources


def test_the_scheduler_is_the_configs(bundle):
    bundle.config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    seen = bundle.shell("cat /proc/self/stat").rpartition(")")[2].split()

    assert (seen[16], seen[38]) == ("7", "3")  # nice and policy, stat(5) fields 19 and 41


def test_the_io_priority_is_the_configs(bundle):
    bundle.config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    os.symlink("busybox", bundle.rootfs / "bin/ionice")

    assert bundle.shell("ionice -p $$") == "best-effort: prio 6\n"


def test_a_scheduler_that_the_kernel_refuses_is_named(bundle):
    bundle.config["process"]["scheduler"] = {"policy": "SCHED_FIFO", "priority": 0}

    words = "config.json /process/scheduler: sched_setattr: invalid argument\n"
    assert bundle.run("true").stderr == words


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the name of the 32-bit machine")
def test_the_personality_is_the_configs(bundle):
    bundle.config["linux"]["personality"] = {"domain": "LINUX32"}

    assert bundle.shell("uname -m") == "i686\n"


def test_the_clocks_of_a_new_time_namespace_are_set_off(bundle):
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "time"})
    linux["timeOffsets"] = {"boottime": {"secs": 500000}, "monotonic": {"secs": 3, "nanosecs": 5}}
    seen = bundle.shell("sed 's|[.].*||' /proc/uptime; cat /proc/self/timens_offsets").split()

    assert 0 <= int(seen[0]) - 500000 - int(time.clock_gettime(time.CLOCK_BOOTTIME)) + 5 < 10
    assert seen[1:] == ["monotonic", "3", "5", "boottime", "500000", "0"]


def test_offsets_without_a_time_namespace_are_refused(bundle):
    bundle.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}

    assert "/linux/timeOffsets: needs a new time namespace" in bundle.run("true").stderr


def test_limits_by_page_and_by_device_are_files_to_write():
    wanted = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]},
    }

    assert resources.v1_settings(wanted) == [
        ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
        ("blkio", "blkio.weight_device", "8:0 500"),
    ]
    assert resources.v2_settings(wanted) == [
        ("io", "io.weight", "8:0 4950"),
        ("hugetlb", "hugetlb.2MB.max", "4194304"),
    ]


@pytest.mark.skipif(
    "hugetlb" in Path("/proc/self/cgroup").read_text(), reason="a host with the controller"
)
def test_a_limit_that_the_host_cannot_keep_is_refused(bundle):
    resources_wanted = bundle.config["linux"]["resources"]
    resources_wanted["hugepageLimits"] = [{"pageSize": "2MB", "limit": 0}]

    assert "/linux/resources/hugetlb: this host has no cgroup file" in bundle.run("true").stderr
