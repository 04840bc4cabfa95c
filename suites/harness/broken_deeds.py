"""What a broken engine does on the host while a container runs; each takes its Exchange."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from startkit.client import Client

BLOCK = b"x" * (1 << 20)
PIDS = 40
SECRET = os.environ.get("STARTKIT_BROKEN_SECRET", "/etc/shadow")


def bundle(one):
    return next(Path(one.place, "exec").rglob("config.json")).parent


def own(one):
    return Path(one.place, "data", "containers", one.id)


def merged(one):
    return next(Path(one.place, "data", "overlay2").glob("*/merged"))


def plant(one):
    """Fill the container's directory with what must not be opened, followed or kept."""
    directory = own(one)
    for name in ("hosts", "hostname", "resolv.conf", "config.v2.json"):
        (directory / name).unlink(missing_ok=True)
    (directory / "hosts").symlink_to(SECRET)
    os.mkfifo(directory / "hostname")
    os.mknod(directory / "resolv.conf", 0o20666, os.makedev(1, 5))  # /dev/zero
    with (directory / "config.v2.json").open("wb") as file:
        file.truncate(1 << 36)
    os.mkdir(os.fsencode(directory) + b"/\xff\xfe")
    os.symlink(b"\xff\xfe", os.fsencode(directory) + b"/link-\xff")
    many = directory / "many"
    many.mkdir()
    for number in range(5000):
        (many / str(number)).touch()
    deep(directory)


def deep(directory):
    """Make a path of 3000 directories."""
    handle = os.open(directory, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)


def config_is(make):
    """Replace config.json of the bundle."""

    def act(one):
        path = bundle(one) / "config.json"
        text = path.read_text()
        path.unlink()
        make(path, text)

    return act


def rooted(place):
    """Let config.json name another rootfs."""

    def make(path, text):
        document = json.loads(text)
        document["root"]["path"] = place
        path.write_text(json.dumps(document))

    return make


def linked(path, _):
    path.symlink_to(SECRET)


def sparse(path, _):
    with path.open("wb") as file:
        file.truncate(1 << 36)


def moved(one):
    """Put a symlink to a directory of the host in the place of the container's."""
    own(one).rename(own(one).with_name("elsewhere"))
    own(one).symlink_to(os.path.dirname(SECRET))


def detached(*argv, **more):
    """Start a process that nobody is the parent of."""
    code = (
        "import os,sys; os.fork() and os._exit(0); os.setsid(); w=sys.argv[1:]; os.execvp(w[0], w)"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code, *argv], check=True, **more)


def forks(one):
    """Fork without end, in a pids cgroup of its own."""
    top = next(path for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if os.path.isdir(path))
    group = Path(top, f"{os.environ['STARTKIT_BROKEN_PARENT'][1:]}-forks")
    group.mkdir(exist_ok=True)
    (group / "pids.max").write_text(str(PIDS))
    code = "import os\nwhile True:\n try:\n  os.fork()\n except OSError: pass"
    script = f'echo $$ > {group}/cgroup.procs; exec "$0" -I -S -c "$1"'
    detached("sh", "-c", script, sys.executable, code)
    time.sleep(0.2)


def fills(one):
    """Fill the FIFOs of the container."""
    for path in bundle(one).glob("init-std*"):
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(handle, BLOCK)


def keeps_busy(one):
    """Stand in the container's mounts."""
    detached("sleep", "1000", cwd=merged(one))


def descendants(pid):
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from descendants(int(child))


def kills(*names):
    """Kill those parts of the engine."""

    def act(one):
        found = list(descendants(os.getpid()))
        for pid in found:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            if os.path.basename(words).removeprefix("docker-") in names:
                os.kill(pid, signal.SIGKILL)

    return act


def die(one):
    """Die, and take the daemon along, but nothing below it."""
    kills("dockerd")(one)
    os._exit(1)


def suite_pid(_):
    return os.getppid()


def decoy(place):
    """Start another container behind the suite's back; return id and pid."""
    client = Client(f"{place}/real.sock")
    body = {"Image": "startkit/base:latest", "Cmd": ["sleep", "1000"]}
    made = client.post("/containers/create", body | {"HostConfig": {"NetworkMode": "none"}})
    client.post(f"/containers/{made.json()['Id']}/start")
    state = client.get(f"/containers/{made.json()['Id']}/json").json()["State"]
    return made.json()["Id"], state["Pid"]
