"""What the tests stand on: a root file system and a bundle for the runtime, a daemon for the rest.

No test here mocks the kernel: every container is a real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING

import pytest

from startkit import image, kernel, steps
from startkit.client import Client
from startkit.runtime import cli, init
from startkit.targets import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPLETS = "cat chmod dd echo env grep head hostname id ip kill ls mkdir mknod mount ps pwd readlink sed sh sleep sort stat test touch true tty umount uname wc".split()  # noqa: E501, SIM905
CAPABILITIES = [f"CAP_{name}" for name in (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE")]  # fmt: skip
RUNTIME = [sys.executable, "-I", "-m", "startkit.runtime"]
TIMEOUT_S = 30
CLIENTS = sorted(
    {path for d in ("/usr/local/bin", "/usr/bin") if (path := shutil.which("docker", path=d))}
)
CGROUP_PARENT = f"startkit-tests-{os.getpid()}"  # each worker of xdist has its own


def remove_cgroups(*, of: int | None = None) -> None:
    """Remove the cgroups of one test process, by its pid, or of all that were killed.

    Wherever they stand: a relative `cgroupsPath` begins at our own. rglob fails beside a sweep.
    """
    for top in [where for where, _, _ in os.walk("/sys/fs/cgroup") if "startkit-tests-" in where]:
        pid = top.partition("startkit-tests-")[2].partition("/")[0]
        if pid == str(of) if of else not Path("/proc", pid).exists():
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)


@pytest.fixture(scope="session", autouse=True)
def _sweep():
    """Remove the cgroups of test runs that were killed, and at the end our own."""
    remove_cgroups()
    yield
    remove_cgroups(of=os.getpid())


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

    def create_in_child(self, prepare: Callable[[], object], *flags: str) -> int:
        """Create the container in a fork of this process, altered by `prepare`; return its code."""
        self.call("list")  # writes config.json
        pid = os.fork()
        if pid == 0:
            prepare()
            os._exit(cli.main(["--root", str(self.root), "--log", str(self.path / "log"), "create",
                               "--pid-file", str(self.path / "pid"), "--bundle", str(self.path),
                               *flags, self.id]))  # fmt: skip
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            self.pids.append(int((self.path / "pid").read_text()))
        return code

    def create_with_step(self, after: str, do: Callable[[init.Init], object]) -> int:
        """Create the container with an init that runs `do` after one of its steps."""

        def prepare() -> None:
            index = [step.name for step in init.INIT].index(after) + 1
            extra = steps.Step("attack", do)
            init.INIT = (*init.INIT[:index], extra, *init.INIT[index:])

        return self.create_in_child(prepare)

    def state(self) -> dict:
        """Return what `state` prints."""
        return json.loads(self.call("state", self.id).stdout)

    def wait(self) -> int:
        """Wait for the end of the last created init and return its wait status."""
        return os.waitpid(self.pids.pop(), 0)[1]

    @contextlib.contextmanager
    def user_namespace(self) -> Iterator[Path]:
        """Map root to another user, who can reach the rootfs; give the directory that it is in.

        pytest's own directories are for root alone, and a later pytest makes them so again.
        """
        linux = self.config["linux"]
        linux["namespaces"].append({"type": "user"})
        for key in ("uidMappings", "gidMappings"):
            linux[key] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
        with TemporaryDirectory(prefix="startkit-userns-") as place:
            os.chmod(place, 0o755)
            shutil.copytree(self.rootfs, f"{place}/rootfs", symlinks=True)
            self.config["root"]["path"] = f"{place}/rootfs"
            yield Path(place)

    def close(self) -> None:
        """End and remove whatever the test has left."""
        self.call("delete", "--force", self.id)
        for pid in reversed(self.pids):  # init's end waits until those in it are reaped
            os.kill(pid, signal.SIGKILL)  # nobody but the runtime knew it, if that has failed
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


@pytest.fixture
def victim():
    """Make a directory of the host with one secret; it has to be the same at the end."""
    place = Path(f"/var/tmp/startkit-attacked-{os.getpid()}")  # each worker of xdist has its own
    place.mkdir()
    (place / "secret").write_text("secret")
    yield place
    left = {path.name: path.is_file() and path.read_text() for path in place.iterdir()}
    shutil.rmtree(place)
    assert left == {"secret": "secret"}


class Engine:
    """A daemon in a directory of its own, and docker's CLI to drive it.

    `flags` follow the daemon's own; `around` comes before its command line.
    """

    def __init__(self, *flags: str, around: tuple[str, ...] = ()) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="startkit-engine-"))
        self.socket = str(self.root / "api.sock")
        self.parent = f"/startkit-engine-{self.root.name[-8:]}"
        self.api = Client(self.socket)
        # It ends with us, however we end: a test's timeout kills this process.
        mortal = ("setpriv", "--pdeathsig", "TERM")
        self.command = [
            *mortal, *around, sys.executable, "-m", "startkit.daemon",
            "--data-root", f"{self.root}/data",
            "--exec-root", f"{self.root}/exec", "-H", f"unix://{self.socket}",
            "--pidfile", f"{self.root}/pid", "--cgroup-parent", self.parent, *flags,
        ]  # fmt: skip
        self.environment = {
            **os.environ, "DOCKER_HOST": f"unix://{self.socket}", "HOME": str(self.root)
        }  # fmt: skip
        self.client = CLIENTS[0] if CLIENTS else "docker"

    def up(self) -> Engine:
        """Start the daemon, wait for its ready line, see that it has the suites' image."""
        with (self.root / "log").open("ab") as log:
            self.daemon = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log)
        line = self.daemon.stdout.readline()
        self.daemon.stdout.close()
        assert b"ready" in line, (self.root / "log").read_text()
        if not self.api.get("/images/json").json():
            assert self.api.post("/images/load", image.base()[1]).status == 200
        return self

    def down(self) -> int:
        """End it with SIGTERM; return its exit status."""
        process.end(self.daemon, signal.SIGTERM)
        return self.daemon.returncode

    def crash(self) -> None:
        """Kill the daemon alone, with SIGKILL."""
        self.daemon.kill()
        self.daemon.wait()

    def docker(self, *words: str, client: str = "", **options) -> subprocess.CompletedProcess:
        """Run one docker command. `$IMAGE` stands for the suites' image."""
        argv = [client or self.client, *("startkit/base" if w == "$IMAGE" else w for w in words)]
        options.setdefault("text", True)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options |= {"capture_output": True, "env": self.environment, "timeout": TIMEOUT_S}
        return subprocess.run(argv, check=False, **options)

    def ok(self, *words: str, **options) -> str:
        """Run one docker command that has to succeed; return what it printed, stripped."""
        done = self.docker(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def popen(self, *words: str, client: str = "") -> subprocess.Popen:
        """Begin one docker command; all its streams are pipes."""
        argv = [client or self.client, *("startkit/base" if w == "$IMAGE" else w for w in words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment)

    def state(self, container: str) -> dict:
        """Return `State` of `docker inspect`."""
        return self.api.get(f"/containers/{container}/json").json()["State"]

    def containerd(self) -> int:
        """Return the pid of its containerd."""
        return int((self.root / "exec/libcontainerd/docker-containerd.pid").read_text())

    def cgroups(self) -> list[str]:
        """Return the cgroup directories that containers have below its parent."""
        return sorted(map(str, Path("/sys/fs/cgroup").glob(f"*{self.parent}/*/")))

    def clear(self) -> None:
        """Remove every container."""
        for row in self.api.get("/containers/json", all=True).json():
            self.api.delete(f"/containers/{row['Id']}", force=True)

    def close(self) -> list[str]:
        """End it; return what it left behind, which is swept away. A traceback is left too."""
        self.down()
        log = (self.root / "log").read_text()
        left = [line for line in log.splitlines() if "Traceback" in line or "Error" in line]
        left += [str(d) for d in Path("/sys/fs/cgroup").glob(f"*{self.parent}")]
        return left + process.sweep(str(self.root))


@pytest.fixture(scope="session")
def engine_of_worker():
    """Run one daemon for all tests of this worker; it has to leave nothing behind."""
    if os.geteuid() != 0 or not CLIENTS:
        pytest.skip("needs root and docker's CLI")
    made = Engine().up()
    yield made
    assert made.close() == []


@pytest.fixture
def engine(engine_of_worker):
    """Lend the worker's daemon; containers that a test leaves are removed after it."""
    yield engine_of_worker
    engine_of_worker.clear()


@pytest.fixture
def make_engine():
    """Give a function that starts a daemon with flags of its own."""
    if os.geteuid() != 0 or not CLIENTS:
        pytest.skip("needs root and docker's CLI")
    made = []

    def make(*flags: str, around: tuple[str, ...] = (), up: bool = True) -> Engine:
        made.append(Engine(*flags, around=around))
        return made[-1].up() if up else made[-1]

    yield make
    left = [engine.close() for engine in made]
    assert not any(left), left


@pytest.fixture
def make_on_disk(make_engine):
    """Give a function that makes a daemon, not up yet, on a tmpfs of its own of a size."""
    made = []

    def make(size: str) -> Engine:
        made.append(make_engine(up=False))
        kernel.mount("none", str(made[-1].root), "tmpfs", 0, f"size={size}")
        return made[-1]

    yield make
    for engine in made:
        engine.down()
        log = (engine.root / "log").read_bytes()
        kernel.umount(str(engine.root))
        (engine.root / "log").write_bytes(log)


@pytest.fixture(params=[pytest.param(path, id=Path(path).parent.as_posix()) for path in CLIENTS])
def client(request):
    """Name one docker CLI of this machine."""
    return request.param
