"""Control groups: where the process stands, what limits it, on v1, hybrid and v2 hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from startkit.runtime import cgroup, devicefilter, resources
from startkit.runtime.text import ContainerError

ROOT = Path("/sys/fs/cgroup")
PARENT = f"startkit-tests-{os.getpid()}"
needs_v1 = pytest.mark.skipif(not (ROOT / "memory").is_dir(), reason="this host has no cgroup v1")


def test_the_process_is_in_its_cgroup_in_every_hierarchy(bundle):
    seen = bundle.shell("cat /proc/self/cgroup").split()

    assert {line.split(":", 2)[2] for line in seen} == {f"/{PARENT}/{bundle.id}"}


@needs_v1
def test_limits_are_written_to_v1(bundle):
    bundle.config["linux"]["resources"] |= {
        "memory": {"limit": 64 << 20, "swap": 128 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        "pids": {"limit": 77},
    }
    bundle.create("sleep", "100")

    def read(controller, name):
        return (ROOT / controller / PARENT / bundle.id / name).read_text().strip()

    assert read("memory", "memory.limit_in_bytes") == str(64 << 20)
    assert read("memory", "memory.memsw.limit_in_bytes") == str(128 << 20)
    assert read("cpu", "cpu.shares") == "512"
    assert read("cpu", "cpu.cfs_quota_us") == "50000"
    assert read("cpuset", "cpuset.cpus") == "0"
    assert read("pids", "pids.max") == "77"


@needs_v1
def test_a_limit_that_the_kernel_refuses_is_named_and_nothing_is_left(bundle):
    bundle.config["linux"]["resources"]["cpu"] = {"cpus": "4095"}
    done = bundle.run("true")

    assert done.returncode == 1
    assert done.stderr.startswith(
        "config.json /linux/resources/cpuset: writing 4095 to cpuset.cpus"
    )
    assert os.listdir(bundle.root) == []
    assert not (ROOT / "cpuset" / PARENT / bundle.id).exists()


def add_kmsg(bundle, *, allow):
    """Give the container /dev/kmsg and the capability to read it; the cgroup decides the rest."""
    node = {"type": "c", "major": 1, "minor": 11}
    bundle.config["linux"]["devices"] = [{"path": "/dev/kmsg", **node}]
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind] = ["CAP_SYSLOG"]
    rules = bundle.config["linux"]["resources"]["devices"]
    rules.append({"allow": allow, "access": "rw", **node})


@pytest.mark.parametrize(
    ("allow", "words"),
    [(True, ""), (False, "head: /dev/kmsg: Operation not permitted\n")],
)
def test_a_device_is_opened_only_when_a_rule_allows_it(bundle, allow, words):
    add_kmsg(bundle, allow=allow)

    assert bundle.shell("head -c 0 /dev/kmsg 2>&1; cat /dev/null && echo fine") == f"{words}fine\n"


def test_dots_in_a_cgroups_path_do_not_leave_the_hierarchy():
    found = cgroup.find_cgroups("/../../a/../b", "x")

    assert {os.path.relpath(d, found.mountpoints[n]) for n, d in found.directories.items()} == {"b"}


@pytest.mark.parametrize("path", ["/", "..", "//x/.."])
def test_a_cgroups_path_that_is_everybodys_is_refused(path):
    with pytest.raises(ContainerError, match=r"^config.json /linux/cgroupsPath: the root is"):
        cgroup.find_cgroups(path, "x")


def test_a_relative_cgroups_path_starts_at_our_own(bundle):
    bundle.config["linux"]["cgroupsPath"] = f"{PARENT}/{bundle.id}"
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().split())
    seen = dict(line.split(":", 2)[1:] for line in bundle.shell("cat /proc/self/cgroup").split())

    inner = f"/{PARENT}/{bundle.id}"
    assert seen == {name: path.rstrip("/") + inner for name, path in own.items()}


def test_a_cgroup_with_processes_in_it_is_shared_with_a_warning(bundle):
    bundle.create("sleep", "100")
    second = bundle.id + "-second"
    done = bundle.call("create", "--pid-file", "pid", "--bundle", str(bundle.path), second)
    bundle.pids.append(int((bundle.path / "pid").read_text()))
    deleted = bundle.call("delete", second)
    bundle.wait()

    assert (done.returncode, deleted.returncode) == (0, 0)
    assert (
        "container's cgroup is not empty: 1 process(es) found" in (bundle.path / "log").read_text()
    )
    assert bundle.state()["status"] == "created"


def test_nobody_shares_a_cgroup_without_a_pid_namespace(bundle):
    bundle.create("sleep", "100")
    bundle.config["linux"]["namespaces"].remove({"type": "pid"})
    done = bundle.call("create", "--bundle", str(bundle.path), bundle.id + "-second")

    assert (done.returncode, done.stderr.endswith(" is in use\n")) == (1, True)
    assert bundle.state()["status"] == "created"


@needs_v1
def test_a_frozen_cgroup_is_refused(bundle):
    place = ROOT / "freezer" / PARENT / bundle.id
    place.mkdir(parents=True)
    (place / "freezer.state").write_text("FROZEN")
    done = bundle.run("true")
    place.rmdir()

    assert (done.returncode, done.stderr) == (1, "container's cgroup unexpectedly frozen\n")


def test_a_cgroup_namespace_starts_at_the_containers_cgroup(bundle):
    bundle.config["linux"]["namespaces"].append({"type": "cgroup"})
    seen = bundle.shell("cat /proc/self/cgroup; ls /sys/fs/cgroup").split()

    assert {line.split(":", 2)[2] for line in seen if ":" in line} == {"/"}


@needs_v1
def test_the_cgroup_mount_shows_the_containers_own(bundle):
    seen = bundle.shell(
        "cat /sys/fs/cgroup/pids/cgroup.procs; mkdir /sys/fs/cgroup/pids/x 2>&- || echo refused"
    )

    assert seen.split()[0] == "1"
    assert seen.split()[-1] == "refused"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([True], []),
        ([False], ["head: /dev/kmsg: Operation not permitted"]),
        ([True, False], ["head: /dev/kmsg: Operation not permitted"]),
        ([], ["head: /dev/kmsg: Operation not permitted"]),
    ],
)
def test_a_host_with_the_unified_hierarchy_alone(bundle, rules, words):
    # The suite's own mount namespace shows cgroup v2 where it is on such a host.
    bundle.config["linux"]["namespaces"].append({"type": "cgroup"})
    for allow in rules or [False]:
        add_kmsg(bundle, allow=allow)
    if not rules:
        bundle.config["linux"]["resources"]["devices"] = []
    script = "head -c 0 /dev/kmsg 2>&1; grep ^0 /proc/self/cgroup; grep -c cgroup2 /proc/mounts"
    bundle.config["process"]["args"] = ["sh", "-c", f"{script}; head -c 2 /dev/zero | wc -c"]
    bundle.call("list")  # writes config.json
    command = f"{sys.executable} -I -m startkit.runtime --root {bundle.root} run -b . {bundle.id}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t cgroup2 x /sys/fs/cgroup && {command}"],
        capture_output=True, text=True, timeout=30, cwd=bundle.path, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*words, "0::/", "1", "2"]


def test_a_block_weight_is_written_where_the_kernel_has_it(bundle):
    bundle.config["linux"]["resources"]["blockIO"] = {"weight": 500}
    pid = bundle.create("sleep", "100")
    with open(f"/proc/{pid}/cgroup") as file:
        inner = next(line.split(":")[2].strip() for line in file if ":blkio:" in line)
    names = [Path(f"/sys/fs/cgroup/blkio{inner}/blkio.{word}weight") for word in ("", "bfq.")]

    assert [path.read_text().strip() for path in names if path.exists()] == ["500"]


HOSTS = {
    "v1": ("umount /sys/fs/cgroup/unified", {"pids": {"limit": 33}}, "pids/*/{}/pids.max", "33"),
    "v2": ("mount -t cgroup2 x /sys/fs/cgroup", {"unified": {"hugetlb.2MB.max": "4194304"}},
           "*/{}/hugetlb.2MB.max", "4194304"),
}  # fmt: skip


@pytest.mark.parametrize("version", HOSTS)
def test_the_commands_need_one_version_of_cgroups_only(bundle, version):
    prepare, limits, file, value = HOSTS[version]
    bundle.config["process"]["args"] = ["sleep", "100"]
    bundle.call("list")  # writes config.json
    (bundle.path / "limits.json").write_text(json.dumps(limits))
    runc = f"{sys.executable} -I -m startkit.runtime --root {bundle.root}"
    lines = [
        prepare,
        f"{runc} run -d -b . {bundle.id} < /dev/null > /dev/null",
        f"{runc} exec {bundle.id} echo inside",
        f"{runc} pause {bundle.id}",
        f"{runc} list | grep -o paused",
        f"! {runc} exec {bundle.id} true 2> /dev/null",
        f"{runc} resume {bundle.id}",
        f"{runc} update -r limits.json {bundle.id}",
        f"cat /sys/fs/cgroup/{file.format(bundle.id)}",
        f"{runc} ps -f json {bundle.id} | tr -cd , | wc -c",
        f"{runc} delete --force {bundle.id}",
        f"find /sys/fs/cgroup -name {bundle.id}",
    ]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", "\n".join(lines)],
        capture_output=True, text=True, timeout=30, cwd=bundle.path, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["inside", "paused", value, "0"]


@pytest.mark.parametrize(
    ("wanted", "settings"),
    [
        ({"memory": {"limit": 10, "swap": 30}}, {"memory.max": "10", "memory.swap.max": "20"}),
        ({"memory": {"limit": -1}}, {"memory.max": "max"}),
        ({"memory": {"limit": 0}, "cpu": {"shares": 0}, "pids": {"limit": 0}}, {}),
        ({"cpu": {"shares": 1024}}, {"cpu.weight": "39"}),
        ({"cpu": {"shares": 2}}, {"cpu.weight": "1"}),
        ({"cpu": {"shares": 262144}}, {"cpu.weight": "10000"}),
        ({"cpu": {"quota": 50000}}, {"cpu.max": "50000 100000"}),
        ({"cpu": {"quota": -1, "period": 5000}}, {"cpu.max": "max 5000"}),
        ({"pids": {"limit": -1}}, {"pids.max": "max"}),
        ({"blockIO": {"weight": 1000}}, {"io.weight": "default 10000"}),
        ({"unified": {"memory.high": "1"}}, {"memory.high": "1"}),
    ],
)
def test_limits_are_converted_for_v2(wanted, settings):
    assert {name: text for _, name, text in resources.v2_settings(wanted)} == settings


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"memory": {"limit": 10, "swap": 5}}, "memory/swap: must not be below limit"),
        ({"memory": {"swappiness": 5}}, "memory/swappiness: cgroup v2 has no such limit"),
        ({"unified": {"../x.y": "1"}}, "unified/../x.y: is no file name"),
    ],
)
def test_what_v2_cannot_do_is_refused(wanted, words):
    with pytest.raises(ContainerError, match=words.replace(".", r"\.")):
        resources.v2_settings(wanted)


def test_device_rules_in_v1s_words():
    rules = [{"allow": False}, {"allow": True, "type": "c", "major": 1, "minor": -1, "access": "r"}]
    found = resources.v1_device_rules({"devices": rules})

    assert found[:3] == [("devices.deny", "a"), ("devices.deny", "a"), ("devices.allow", "c 1:* r")]


def test_each_device_rule_is_a_block_that_ends_the_program():
    code = devicefilter.program([{"allow": True, "type": "c", "major": 1, "minor": 3}], ())

    assert len(code) % 8 == 0
    assert code.count(devicefilter.instruction(devicefilter.EXIT)) == 2
