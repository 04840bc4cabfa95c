"""What the tests of the runtime stand on: a root file system, and a bundle to be run.

No test here mocks the kernel: every container is a real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest

from startkit import kernel

APPLETS = "cat chmod dd echo env grep head hostname id ip kill ls mkdir mknod mount ps pwd readlink sed sh sleep sort stat test touch true tty umount uname wc".split()  # noqa: E501, SIM905
CAPABILITIES = [f"CAP_{name}" for name in (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE")]  # fmt: skip
RUNTIME = [sys.executable, "-I", "-m", "startkit.runtime"]
TIMEOUT_S = 30
CGROUP_PARENT = f"startkit-tests-{os.getpid()}"  # each worker of xdist has its own


@pytest.fixture
def busybox_rootfs(tmp_path):
    """Make a root file system of busybox and a passwd file."""
    busybox = shutil.which("busybox")
    if busybox is None or os.geteuid() != 0:
        pytest.skip("needs root and busybox-static")
    rootfs = tmp_path / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy2(busybox, rootfs / "bin/busybox")
    for applet in APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:\n")
    return rootfs


@pytest.fixture
def runtime_root(tmp_path):
    """Name the state root of a runtime; it has to be empty again at the end."""
    root = tmp_path / "runtime-root"
    yield root
    assert not root.exists() or os.listdir(root) == []


def docker_like_config(name: str) -> dict:
    """Return what a Docker daemon writes, without its binds and its network hook."""
    flags = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/bin:/bin", f"HOSTNAME={name}"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "root": {"path": "rootfs"},
        "hostname": name,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*flags, "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", *flags]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": flags},
        ],
        "linux": {
            "cgroupsPath": f"/{CGROUP_PARENT}/{name}",
            "namespaces": [{"type": t} for t in ("mount", "network", "uts", "pid", "ipc")],
            "maskedPaths": ["/proc/kcore", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }  # fmt: skip


def read_all(file: IO[str]) -> str:
    """Return what a file holds."""
    file.seek(0)
    return file.read()


class RuntimeBundle:
    """A bundle whose `config` a test changes, and the runtime's command line to use it with."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root, self.rootfs = path, root, path / "rootfs"
        self.id = f"t{os.getpid()}-{path.name}"
        self.config = docker_like_config(self.id)
        self.pids: list[int] = []

    def call(self, *argv: str, keep: tuple[int, ...] = ()) -> subprocess.CompletedProcess:
        """Run a command of the runtime; errors are on stderr and in `log` as JSON lines.

        Output goes through files: a container that lives on keeps a pipe open. `keep`:
        descriptors that the runtime inherits.
        """
        (self.path / "config.json").write_text(json.dumps(self.config))
        fixed = ["--root", str(self.root), "--log", str(self.path / "log"), "--log-format", "json"]
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            done = subprocess.run(
                [*RUNTIME, *fixed, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=self.path, timeout=TIMEOUT_S, check=False, pass_fds=keep,
            )  # fmt: skip
            done.stdout, done.stderr = (read_all(file) for file in (out, err))
        return done

    def run(self, *args: str) -> subprocess.CompletedProcess:
        """Run `args` in a container, in the foreground."""
        if args:
            self.config["process"]["args"] = list(args)
        return self.call("run", "--bundle", str(self.path), self.id)

    def shell(self, script: str) -> str:
        """Run a shell script in a container and return what it printed; it must not fail."""
        done = self.run("sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def create(self, *args: str, flags: tuple[str, ...] = ()) -> int:
        """Create a container that will run `args`; return init's pid."""
        self.config["process"]["args"] = list(args)
        pid_file = self.path / "pid"
        fixed = ["create", "--bundle", str(self.path), "--pid-file", str(pid_file)]
        done = self.call(*fixed, *flags, self.id)
        assert (done.returncode, done.stderr) == (0, "")
        self.pids.append(int(pid_file.read_text()))
        return self.pids[-1]

    def state(self) -> dict:
        """Return what `state` prints."""
        return json.loads(self.call("state", self.id).stdout)

    def wait(self) -> int:
        """Wait for the end of the last created init and return its wait status."""
        return os.waitpid(self.pids.pop(), 0)[1]

    def close(self) -> None:
        """End and remove whatever the test has left."""
        self.call("delete", "--force", self.id)
        for pid in self.pids:
            os.waitpid(pid, 0)


@pytest.fixture
def bundle(tmp_path, busybox_rootfs, runtime_root):
    """Make a docker-like bundle over `busybox_rootfs`. Init's parent is this process."""
    assert busybox_rootfs.parent == tmp_path
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    made = RuntimeBundle(tmp_path, runtime_root)
    yield made
    made.close()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 0)
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        with contextlib.suppress(OSError):
            os.rmdir(hierarchy / CGROUP_PARENT)
