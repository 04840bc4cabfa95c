"""Options of `docker create`: those honoured are seen inside, the others refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CGROUP = Path("/sys/fs/cgroup")
v1 = pytest.mark.skipif(not (CGROUP / "memory").is_dir(), reason="this host has no cgroup v1")

# option words, what is run, what it prints
SEEN = {
    "hostname": (["-h", "box"], "hostname; cat /etc/hostname", "box\nbox"),
    "env": (["-e", "A=1", "-e", "TERM=x"], "echo $A $TERM", "1 x"),
    "workdir": (["-w", "/tmp"], "pwd", "/tmp"),
    "user": (["-u", "65534:100"], "id -u; id -g", "65534\n100"),
    "entrypoint": (["--entrypoint", "/bin/echo"], None, "-c words"),
    "dns": (
        ["--dns", "192.0.2.1", "--dns-search", "example.test", "--dns-opt", "ndots:3"],
        "cat /etc/resolv.conf",
        "search example.test\nnameserver 192.0.2.1\noptions ndots:3",
    ),
    "add-host": (["--add-host", "db:192.0.2.9"], "grep db /etc/hosts", "192.0.2.9\tdb"),
    "shm-size": (["--shm-size", "1m"], "df -k /dev/shm | awk 'END{print $2}'", "1024"),
    "network-none": (["--network", "none"], "ls /sys/class/net", "lo"),
    "network-default": ([], "cat /sys/class/net/lo/operstate; ls /sys/class/net", "unknown\nlo"),
    "tmpfs": (
        ["--tmpfs", "/run:size=64k"],
        "grep -c 'tmpfs /run tmpfs rw,nosuid,nodev,noexec.*size=64k' /proc/mounts",
        "1",
    ),
    "read-only": (
        ["--read-only"],
        "touch /x 2>/dev/null || echo no; touch /dev/shm/x && echo yes",
        "no\nyes",
    ),
    "cap-drop": (["--cap-drop", "ALL"], "grep CapEff /proc/self/status", "CapEff:\t" + "0" * 16),
    "cap-add": (
        ["--cap-drop", "ALL", "--cap-add", "SYS_TIME"],
        "grep CapEff /proc/self/status",
        "CapEff:\t0000000002000000",
    ),
    "ulimit": (["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn", "100\n200"),
    "no-new-privileges": (
        ["--security-opt", "no-new-privileges"],
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t1",
    ),
    "sysctl": (
        ["--sysctl", "net.ipv4.ip_forward=1"],
        "cat /proc/sys/net/ipv4/ip_forward",
        "1",
    ),
    "device": (
        ["--device", "/dev/zero:/dev/nothing:r"],
        "head -c 2 /dev/nothing | wc -c",
        "2",
    ),
    "tty": (["-t"], "test -t 1 && echo $TERM", "xterm"),
}


@pytest.mark.parametrize("name", SEEN)
def test_an_option_is_seen_inside(engine, name):
    flags, script, expected = SEEN[name]
    program = ["sh", "-c", script] if script else ["-c", "words"]

    shown = engine.ok("run", "--rm", *flags, "$IMAGE", *program)

    assert shown.replace("\r\n", "\n") == expected


@v1
@pytest.mark.parametrize(
    ("flag", "file", "text"),
    [
        (["-m", "32m"], "memory/{}/memory.limit_in_bytes", str(32 << 20)),
        (["--cpus", "0.5"], "cpu/{}/cpu.cfs_quota_us", "50000"),
        (["--cpu-shares", "77"], "cpu/{}/cpu.shares", "77"),
        (["--cpuset-cpus", "0"], "cpuset/{}/cpuset.cpus", "0"),
        (["--pids-limit", "9"], "pids/{}/pids.max", "9"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_limit_stands_in_the_containers_cgroup(engine, flag, file, text):
    made = engine.ok("run", "-d", *flag, "$IMAGE", "sleep", "100")

    place = file.format(f"{engine.parent.strip('/')}/{made}")
    assert (CGROUP / place).read_text().strip() == text


def test_cgroup_parent_comes_before_the_id(engine):
    parent = f"{engine.parent}/below"
    made = engine.ok("run", "-d", "--cgroup-parent", parent, "$IMAGE", "sleep", "100")
    try:
        lines = Path(f"/proc/{engine.state(made)['Pid']}/cgroup").read_text()
    finally:
        engine.ok("rm", "-f", made)
        for hierarchy in CGROUP.glob(f"*{parent}"):
            hierarchy.rmdir()

    assert f"{parent}/{made}" in lines


@pytest.mark.parametrize(
    ("flag", "kind"), [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net")]
)
def test_host_shares_the_machines_namespace(engine, flag, kind):
    shown = engine.ok("run", "--rm", flag, "host", "$IMAGE", "readlink", f"/proc/self/ns/{kind}")

    assert shown == os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize("kind", ["pid", "ipc"])
def test_a_namespace_of_another_container_is_joined(engine, kind):
    first = engine.ok("run", "-d", "$IMAGE", "sleep", "100")

    flag = (f"--{kind}", f"container:{first}")
    shown = engine.ok("run", "--rm", *flag, "$IMAGE", "readlink", f"/proc/self/ns/{kind}")

    assert shown == os.readlink(f"/proc/{engine.state(first)['Pid']}/ns/{kind}")


def test_binds_are_mounted_and_a_read_only_one_cannot_be_written(engine, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    script = "cat /a/file; echo x > /a/new; echo x 2>/dev/null > /b/new || echo refused"

    binds = ("-v", f"{tmp_path}:/a", "-v", f"{tmp_path}:/b:ro")
    shown = engine.ok("run", "--rm", *binds, "$IMAGE", "sh", "-c", script)

    assert shown == "from the host\nrefused"
    assert (tmp_path / "new").read_text() == "x\n"


def test_privileged_writes_where_others_read(engine):
    script = "grep -c ' /sys sysfs rw' /proc/mounts; test -b /dev/vda -o -c /dev/mem && echo device"
    plain = engine.docker("run", "--rm", "$IMAGE", "sh", "-c", script)
    privileged = engine.ok("run", "--rm", "--privileged", "$IMAGE", "sh", "-c", script)

    assert plain.stdout.strip() == "0"
    assert privileged == "1\ndevice"


def test_labels_stop_signal_and_rm(engine):
    trap = "trap 'exit 3' USR1; echo up; while :; do sleep 0.1; done"
    flags = ("--label", "a=b", "--stop-signal", "USR1")
    made = engine.ok("run", "-d", *flags, "$IMAGE", "sh", "-c", trap)
    with engine.popen("logs", "-f", made) as logs:
        assert logs.stdout.readline() == b"up\n"
        engine.ok("stop", made)
        logs.communicate()

    assert engine.state(made)["ExitCode"] == 3
    assert engine.ok("ps", "-aq", "--no-trunc", "--filter", "label=a=b") == made


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--restart", "always"], "RestartPolicy"),
        (["--init"], "Init"),
        (["-p", "80:80"], "PortBindings"),
        (["-v", "named:/x"], "named"),
        (["--log-driver", "syslog"], "LogConfig"),
        (["--network", "mine"], "NetworkMode"),
        (["--blkio-weight", "100"], "BlkioWeight"),
        (["--volumes-from", "x"], "VolumesFrom"),
        (["--security-opt", "apparmor=mine"], "SecurityOpt"),
        (["--health-cmd", "true"], "Healthcheck"),
        (["--storage-opt", "size=1G"], "StorageOpt"),
        (["--oom-kill-disable", "-m", "32m"], "OomKillDisable"),
        (["--link", "x:y"], "Links"),
        (["--mount", "type=volume,src=x,dst=/y"], "Mounts"),
        (["--mac-address", "02:00:00:00:00:01"], "MacAddress"),
        (["--runtime", "nope"], "nope"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_option_that_is_not_honoured_is_refused_by_its_name(engine, flags, named):
    done = engine.docker("create", *flags, "$IMAGE", "true")

    assert done.returncode == 1
    assert named in done.stderr
    assert engine.ok("ps", "-aq") == ""
