"""A config.json with one thing wrong anywhere is refused in one line, or can be carried out."""

from __future__ import annotations

import json
import re

import pytest
from drawn import GONE, WRONG, altered, places
from hypothesis import given, settings
from hypothesis import strategies as st

from startkit.runtime.bundle import read_bundle
from startkit.runtime.create import Creation
from startkit.runtime.text import ContainerError, Log

HOOK = {"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}
ENTRY = {"containerID": 0, "hostID": 1000, "size": 10}
RATE = {"major": 8, "minor": 0, "rate": 1000}
FULL = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False, "consoleSize": {"height": 2, "width": 3}, "args": ["true"], "cwd": "/",
        "user": {"uid": 1, "gid": 1, "umask": 18, "additionalGids": [5]}, "env": ["A=b"],
        "capabilities": {"bounding": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 9}], "oomScoreAdj": 7,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3}, "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "h", "domainname": "d",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/b", "type": "bind", "source": "/tmp", "options": ["rbind", "ro"]},
    ],
    "hooks": {kind: [HOOK] for kind in ("prestart", "createContainer", "poststop")},
    "annotations": {"a": "b"},
    "linux": {
        "namespaces": [{"type": t} for t in ("mount", "network", "uts", "pid", "ipc", "user",
                                             "time", "cgroup")],
        "uidMappings": [ENTRY], "gidMappings": [ENTRY], "cgroupsPath": "/x",
        "devices": [{"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 438}],
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 9},
            "memory": {"limit": 2**26, "swap": 2**27, "swappiness": 3, "disableOOMKiller": False},
            "cpu": {"shares": 9, "quota": 9, "period": 9, "cpus": "0", "mems": "0"},
            "blockIO": {"weight": 10, "throttleReadBpsDevice": [RATE]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "unified": {"pids.max": "1"},
        },
        "rootfsPropagation": "private", "maskedPaths": ["/proc/x"], "readonlyPaths": ["/sys"],
        "sysctl": {"net.ipv4.ip_forward": "1"}, "personality": {"domain": "LINUX"},
        "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                                  "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Make a bundle directory whose config changes."""
    made = tmp_path_factory.mktemp("bundle")
    (made / "rootfs").mkdir()
    return made


def answer(directory, config):
    """Return the words of the refusal, "" for a config that is taken. Any other error gets out."""
    (directory / "config.json").write_text(json.dumps(config))
    try:
        Creation(str(directory / "root"), "id", read_bundle(str(directory)), Log())
    except ContainerError as error:
        return str(error)
    return ""


def test_the_unaltered_config_is_taken(directory):
    assert answer(directory, FULL) == ""


@settings(deadline=None)
@given(path=st.sampled_from(places(FULL)), value=st.sampled_from([GONE, *WRONG]))
def test_a_value_gone_or_wrong_is_refused_in_one_line_with_its_path(directory, path, value):
    words = answer(directory, altered(FULL, path, value))

    assert words == "" or re.match(r"config\.json /\S*: [^\n]+\Z", words), words
    assert not (directory / "root").exists()
