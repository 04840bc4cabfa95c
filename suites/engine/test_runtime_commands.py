"""ps, pause, resume, update, events, spec, features.

Where runc is installed it is the control: what is asked of ours is asked of it as well.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
needs_v1 = pytest.mark.skipif(not (ROOT / "memory").is_dir(), reason="this host has no cgroup v1")


@pytest.fixture(params=["startkit-runc", "runc"])
def either(request, bundle, monkeypatch):
    """Start a sleeping container, with ours and with runc."""
    if request.param == "runc":
        runc = shutil.which("runc") or pytest.skip("needs runc")
        monkeypatch.setitem(type(bundle).call.__globals__, "RUNTIME", [runc])
    bundle.create("sleep", "1000")
    assert bundle.call("start", bundle.id).returncode == 0
    yield bundle
    bundle.close()
    bundle.pids.clear()


def setting(bundle, controller, name):
    """Return what a file of the container's cgroup holds."""
    return (
        (ROOT / controller / bundle.config["linux"]["cgroupsPath"][1:] / name).read_text().strip()
    )


def test_ps_lists_the_processes_of_the_container_alone(either):
    listed = either.call("ps", "-f", "json", either.id)
    table = either.call("ps", either.id, "-o", "pid,comm").stdout.splitlines()

    assert json.loads(listed.stdout) == [either.pids[0]]
    assert [line.split() for line in table] == [["PID", "COMMAND"], [f"{either.pids[0]}", "sleep"]]


def test_a_paused_container_shows_it_and_stands_still_until_resumed(either):
    paused = either.call("pause", either.id)
    seen = either.state()["status"]
    refused = either.call("exec", either.id, "true")
    resumed = either.call("resume", either.id)

    assert (paused.returncode, resumed.returncode) == (0, 0)
    assert (seen, either.state()["status"]) == ("paused", "running")
    words = "exec failed: cannot exec in a paused container (use --ignore-paused to override)\n"
    assert (refused.returncode, refused.stderr) == (255, words)


def test_what_stands_still_is_not_paused_and_what_runs_not_resumed(either):
    resumed = either.call("resume", either.id)
    either.call("pause", either.id)
    paused = either.call("pause", either.id)

    assert (resumed.returncode, resumed.stderr) == (1, "container not paused\n")
    assert (paused.returncode, paused.stderr) == (1, "container not running\n")


def test_a_paused_container_is_deleted_by_force_alone(either):
    either.call("pause", either.id)
    words = f"cannot delete container {either.id} that is not stopped: paused\n"

    assert either.call("delete", either.id).stderr == words
    assert either.call("delete", "--force", either.id).returncode == 0
    assert os.waitstatus_to_exitcode(either.wait()) == -9


@needs_v1
def test_update_changes_the_limits_of_a_running_container(either):
    flags = ("--memory", "64M", "--pids-limit", "20", "--cpu-share", "512", "--cpuset-cpus", "0",
             "--cpu-period", "100000", "--cpu-quota", "50000")  # fmt: skip
    done = either.call("update", *flags, either.id)

    assert (done.returncode, done.stderr) == (0, "")
    assert setting(either, "memory", "memory.limit_in_bytes") == str(64 << 20)
    assert setting(either, "pids", "pids.max") == "20"
    assert setting(either, "cpu", "cpu.shares") == "512"
    assert setting(either, "cpuset", "cpuset.cpus") == "0"
    assert setting(either, "cpu", "cpu.cfs_quota_us") == "50000"


@needs_v1
def test_update_takes_a_file_and_leaves_the_device_rules(either):
    before = setting(either, "devices", "devices.list")
    (either.path / "limits").write_text('{"pids": {"limit": 31}}')
    done = either.call("update", "-r", str(either.path / "limits"), either.id)

    assert (done.returncode, setting(either, "pids", "pids.max")) == (0, "31")
    assert setting(either, "devices", "devices.list") == before


@needs_v1
def test_update_raises_and_lowers_memory_with_its_swap(either):
    for size in ("64M", "128M", "32M"):
        done = either.call("update", "--memory", size, "--memory-swap", size, either.id)
        assert (done.returncode, done.stderr) == (0, "")

    assert setting(either, "memory", "memory.memsw.limit_in_bytes") == str(32 << 20)


@needs_v1
def test_update_lifts_the_limit_of_memory_and_swap_at_once(either):
    either.call("update", "--memory", "32M", "--memory-swap", "32M", either.id)
    done = either.call("update", "--memory", "-1", either.id)

    assert (done.returncode, done.stderr) == (0, "")
    assert int(setting(either, "memory", "memory.memsw.limit_in_bytes")) > 1 << 60


@needs_v1
def test_update_takes_a_shorter_period_with_a_quota_that_fits_the_parents(either):
    parent = (ROOT / "cpu" / either.config["linux"]["cgroupsPath"][1:]).parent
    before = (parent / "cpu.cfs_quota_us").read_text()
    (parent / "cpu.cfs_quota_us").write_text("50000")
    either.call("update", "--cpu-quota", "40000", either.id)
    done = either.call("update", "--cpu-period", "10000", "--cpu-quota", "3000", either.id)
    quota = setting(either, "cpu", "cpu.cfs_quota_us")
    either.call("update", "--cpu-quota", "-1", either.id)
    (parent / "cpu.cfs_quota_us").write_text(before)

    assert (done.returncode, done.stderr, quota) == (0, "", "3000")


def test_update_names_a_size_that_is_none(either):
    done = either.call("update", "--memory", "foo", either.id)

    assert (done.returncode, done.stderr) == (1, "invalid value for memory: invalid size: 'foo'\n")


def test_events_show_statistics_once(either):
    seen = json.loads(either.call("events", "--stats", either.id).stdout)
    data = seen.pop("data")

    assert seen == {"type": "stats", "id": either.id}
    assert data["pids"]["current"] == 1
    assert data["cpu"]["usage"]["total"] > 0
    assert data["memory"]["usage"]["usage"] > 0
    assert data["memory"]["raw"]["pgfault"] > 0


@needs_v1
def test_events_tell_what_block_devices_were_asked_for(either):
    read = either.call("exec", either.id, "dd", "if=/bin/busybox", "of=/dev/null", "bs=1M",
                       "iflag=direct")  # fmt: skip
    if "Invalid argument" in read.stderr:
        pytest.skip("the file system of the tests has no block device")
    data = json.loads(either.call("events", "--stats", either.id).stdout)["data"]
    entries = data["blkio"]["ioServiceBytesRecursive"]

    assert sum(entry["value"] for entry in entries if entry.get("op") == "Read") > 500_000
    assert all(entry.keys() <= {"major", "minor", "op", "value"} for entry in entries)
    assert data["blkio"]["ioServicedRecursive"]


@needs_v1
def test_events_tell_at_an_interval_and_when_memory_ran_out(either):
    either.call("update", "--memory", "8M", "--memory-swap", "8M", either.id)
    command = [*type(either).call.__globals__["RUNTIME"], "--root", str(either.root)]
    events = subprocess.Popen(
        [*command, "events", "--interval", "100ms", either.id], stdout=subprocess.PIPE, text=True
    )
    first = [json.loads(events.stdout.readline())["type"] for _ in range(2)]
    hog = "head -c 32m /dev/zero | tail"  # which keeps its input
    either.call("exec", either.id, "sh", "-c", hog)
    either.call("delete", "--force", either.id)
    rest = [json.loads(line)["type"] for line in events.communicate()[0].splitlines()]

    assert first == ["stats", "stats"]
    assert "oom" in rest
    assert events.returncode == 0


@pytest.mark.parametrize("command", ["ps", "pause", "resume", "update", "events"])
def test_an_unknown_container_does_not_exist(either, command):
    done = either.call(command, "nobody")

    assert (done.returncode, done.stderr) == (1, "container does not exist\n")


@pytest.mark.parametrize("flags", [[], ["--rootless"]])
def test_spec_writes_what_runc_writes_and_nothing_over_it(bundle, tmp_path, flags):
    if shutil.which("runc") is None:
        pytest.skip("needs runc")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    subprocess.run(["runc", "spec", *flags], cwd=tmp_path / "theirs", check=True)
    bundle.call("spec", *flags, "--bundle", str(tmp_path / "ours"))
    again = bundle.call("spec", *flags, "--bundle", str(tmp_path / "ours"))
    theirs, ours = (
        json.loads((tmp_path / n / "config.json").read_text()) for n in ("theirs", "ours")
    )

    assert ours == theirs | {"ociVersion": "1.0.2"}
    assert (again.returncode, again.stderr) == (1, "File config.json exists. Remove it first\n")


def test_features_are_told_by_the_schema_of_the_specification(bundle):
    seen = json.loads(bundle.call("features").stdout)

    assert (seen["ociVersionMin"], seen["ociVersionMax"]) == ("1.0.0", "1.0.2")
    assert {"prestart", "poststop"} < set(seen["hooks"])
    assert {"rbind", "ro", "rprivate", "nosuid"} < set(seen["mountOptions"])
    assert {"mount", "user", "cgroup"} < set(seen["linux"]["namespaces"])
    assert "CAP_SYS_ADMIN" in seen["linux"]["capabilities"]
    assert seen["linux"]["cgroup"]["v2"]
    installed = ctypes.util.find_library("seccomp") is not None
    assert seen["linux"]["seccomp"]["enabled"] == installed
