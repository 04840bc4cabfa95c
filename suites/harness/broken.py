"""The suite driven from outside against one broken target, and what it comes to.

`python suites/harness/broken.py [NAME...]` prints the table. A target counts as swept when
no process, mount, cgroup or file of it is left; what is left is told, and taken away then.
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
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(os.environ.get("STARTKIT_BROKEN_CHECKOUT") or Path(__file__).parents[2])
HERE = Path(__file__).parent
PARENT = f"/startkit-broken-{os.getpid()}"
LIMIT_S = 400
AREAS = ("lifecycle", "rootfs", "files", "bundle", "io", "process", "cgroup")
SECRET = "what the host keeps to itself"
# name: (exit status, what is said); 3 where something cannot be judged, and none of it is 1
TARGETS = {
    "never-listens": (3, "did not come up: GET /_ping"),
    "ends-at-once": (3, "did not come up: ended with 1: broken on purpose"),
    "daemonises": (3, "did not come up: ended with 0"),
    "leaves-a-process": (1, "differs"),
    "ignores-sigterm": (1, "differs"),
    "never-accepts": (3, "no answer in time"),
    "silent": (3, "no answer in time"),
    "ping-is-500": (3, "GET /_ping: 500 broken on purpose"),
    "ping-trickles": (3, "no answer in time"),
    "version-is-no-http": (3, "not HTTP: illegal status line"),
    "version-has-endless-headers": (3, "not HTTP: Receive buffer too long"),
    "version-is-endless": (3, "more than 64 MiB of an answer"),
    "version-is-a-list": (3, "GET /version"),
    "version-is-odd": (1, "differs"),
    "info-is-odd": (3, "GET /info: DockerRootDir is 5"),
    "load-hangs": (3, "POST /images/load"),
    "load-is-500": (3, "500 broken on purpose"),
    "create-hangs": (3, "smoke: POST /containers/create"),
    "create-is-500": (3, "smoke: POST /containers/create: 500"),
    "create-gives-no-id": (3, "create: 200 and no id"),
    "create-gives-a-path": (3, "create: 200 and no id"),
    "create-gives-text": (3, "create: 200 and no id"),
    "start-hangs": (1, "no answer in time"),
    "start-is-200-and-does-nothing": (1, "differs"),
    "inspect-is-half": (3, "no answer in time"),
    "inspect-trickles": (3, "no answer in time"),
    "inspect-is-endless": (3, "more than 64 MiB of an answer"),
    "inspect-is-a-giant": (3, "no answer in time"),
    "inspect-is-nested": (1, "inspect: api: GET"),
    "inspect-is-odd": (1, "inspect: api: GET"),
    "inspect-is-switching": (3, "not HTTP"),
    "inspect-is-without-shape": (1, "differs"),
    "list-is-nested": (1, "differs"),
    "events-are-endless": (1, "more than 64 MiB of an answer"),
    "events-die": (1, "peer closed connection without sending complete message body"),
    "events-are-no-json": (1, "no JSON"),
    "logs-die": (1, "differs"),
    "logs-hang": (1, "differs"),
    "logs-are-endless": (1, "differs"),
    "stop-hangs": (1, "no answer in time"),
    "stop-is-500": (1, "differs"),
    "wait-hangs": (1, "no answer in time"),
    "remove-is-409": (3, "smoke: DELETE /containers/startkit-smoke-"),
    "remove-does-nothing": (1, "differs"),
    "pid-is-1": (3, "State.Pid 1 is"),
    "pid-is-the-suites": (3, "is python, and nothing of this container"),
    "pid-is-another-containers": (3, "is sleep, and nothing of this container"),
    "id-is-another-containers": (3, "which is not startkit-plain-"),
    "paths-are-the-hosts": (1, "differs"),
    "directory-is-planted": (1, "differs"),
    "directory-is-a-symlink": (1, "differs"),
    "config-is-a-symlink": (1, "hold a config.json"),
    "config-is-a-fifo": (1, "hold a config.json"),
    "config-is-sparse": (1, "no readable config.json was found"),
    "config-is-nested": (1, "no readable config.json was found"),
    "rootfs-is-the-hosts": (1, "the rootfs / is the host's root"),
    "forks": (1, "differs"),
    "fills-its-fifos": (1, "no answer in time"),
    "keeps-a-mount-busy": (1, "differs"),
    "dies-in-the-middle": (1, "closed without an answer"),
    "loses-its-containers": (1, "differs"),
    "runtime:version-hangs": (3, "--version: no end after 20 s"),
    "runtime:version-is-endless": (3, "--version: it says more than 16 MiB"),
    "runtime:version-is-garbage": (3, "--version:"),
    "runtime:version-leaves-a-process": (0, "as expected"),
    "runtime:create-hangs": (3, "no end after 20 s"),
    "runtime:start-hangs": (3, "no end after 20 s"),
    "runtime:state-hangs": (3, "no end after 20 s"),
    "runtime:kill-hangs": (3, "no end after 20 s"),
    "runtime:delete-hangs": (3, "no end after 20 s"),
    "runtime:create-is-endless": (3, "it says more than 16 MiB"),
    "runtime:state-is-endless": (3, "it says more than 16 MiB"),
    "runtime:state-is-garbage": (1, "no process of this pid"),
    "runtime:state-is-nested": (1, "no process of this pid"),
    "runtime:state-is-odd": (1, "no process of this pid"),
    "runtime:state-tells-pid-1": (1, "runtime.state.pid"),
    "runtime:state-tells-the-suites-pid": (1, "runtime.state.pid"),
    "runtime:does-nothing": (3, "its pid file has no child of it: ''"),
    "runtime:pid-file-says-1": (3, "its pid file has no child of it: '1'"),
    "runtime:pid-file-says-minus-1": (3, "its pid file has no child of it: '-1'"),
    "runtime:pid-file-says-the-suites": (3, "its pid file has no child of it"),
    "runtime:pid-file-says-nothing": (3, "its pid file has no child of it: ''"),
    "runtime:pid-file-is-a-fifo": (3, "its pid file has no child of it: ''"),
    "runtime:leaves-a-process": (1, "runtime.delete.leftovers"),
    "runtime:forks": (1, "runtime.delete.leftovers"),
    "runtime:ignores-root": (0, "as expected"),
    "runtime:delete-does-nothing": (1, "runtime.delete.leftovers"),
    "runtime:leaves-a-mount": (1, "runtime.delete.leftovers"),
    "runtime:console-waits": (3, "not enough values"),
    "runtime:console-is-zeroes": (1, "differs"),
    "runtime:console-is-at-its-end": (1, "differs"),
    "runtime:console-is-nothing": (3, "not enough values"),
}
PARTLY = {  # the rest is judged in spite of it
    "inspect-is-half",
    "inspect-trickles",
    "inspect-is-endless",
    "inspect-is-a-giant",
    "inspect-is-switching",
    "pid-is-1",
    "pid-is-the-suites",
    "pid-is-another-containers",
    "runtime:kill-hangs",
}
QUICK = {
    "ends-at-once", "leaves-a-process", "version-has-endless-headers", "create-gives-a-path",
    "id-is-another-containers", "pid-is-1", "directory-is-a-symlink", "forks",
    "loses-its-containers", "runtime:does-nothing", "runtime:pid-file-says-minus-1",
    "runtime:leaves-a-mount",
}  # fmt: skip


class Outcome(NamedTuple):
    """What the suite made of it."""

    status: int
    seconds: float
    counts: dict[str, int]
    why: str  # the reason of the first clause without evidence
    left: list[str]
    said: str
    conforming: list[str]


def suite(name: str, place: Path) -> subprocess.Popen[bytes]:
    """Begin to judge a broken target, everything temporary in `place`; the caller ends it."""
    (place / "t").mkdir()
    (place / "host").mkdir()
    (place / "host" / "secret").write_text(f"{SECRET}\n")
    own = {
        "TMPDIR": str(place / "t"),
        "PYTHONPATH": str(ROOT),
        "STARTKIT_BROKEN_PARENT": PARENT,
        "STARTKIT_BROKEN_SECRET": str(place / "host" / "secret"),
        "STARTKIT_BROKEN_HOST": str(place / "host"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--vm=never"]
    command += [*target(name, place), f"--results={place / 'results'}", f"--basetemp={place / 'b'}"]
    with (place / "said").open("wb") as said:
        return subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **own}, stdout=said, stderr=said
        )


def judge(name: str, place: Path) -> Outcome:
    """Run the suite on a broken target. End what is left."""
    begin = time.monotonic()
    with suite(name, place) as child:
        try:
            status = child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            status = -9
    seconds = time.monotonic() - begin
    try:
        verdicts = json.loads((place / "results" / "verdicts.json").read_text())["verdicts"]
    except (OSError, ValueError):
        verdicts = []
    counts: dict[str, int] = {}
    for one in verdicts:
        counts[one["status"]] = counts.get(one["status"], 0) + 1
    why = next(
        (one["reason"] for one in verdicts if one["status"] in ("no-evidence", "broken")), ""
    )
    left = leftovers(place, child.pid)
    if not (place / "host" / "secret").exists():
        left.append("THE HOST'S FILE IS GONE")
    evidence = place / "results" / "evidence.json"
    if evidence.exists() and SECRET in evidence.read_text():
        left.append("THE HOST'S FILE IS IN THE EVIDENCE")
    conforming = [one["clause"] for one in verdicts if one["status"] == "conforms"]
    text = (place / "said").read_text(errors="replace")
    return Outcome(status, seconds, counts, why, left, text, conforming)


def target(name: str, place: Path) -> list[str]:
    """Return the words that make the suite judge a broken target with few clauses."""
    kind, _, short = name.rpartition(":")
    if kind:
        program = place / "runtime"
        script = HERE / "broken_runtime.py"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {script} {short} "$@"\n')
        program.chmod(0o755)
        scene = "terminal" if short.startswith("console") else "life or ends"
        files = [str(path) for path in sorted(ROOT.glob("suites/conformance/test_runtime*.py"))]
        return [*files, "-k", scene, f"--runtime={program}"]
    recipe = place / "broken.toml"
    script = HERE / "broken_engine.py"
    recipe.write_text(
        f'name = "broken"\nready = "{{root}}/api.sock"\n'
        f'start = ["{sys.executable}", "{script}", "{name}", "{{root}}"]\n'
    )
    files = [f"suites/conformance/test_{area}.py" for area in AREAS]
    return [*files, "-k", "plain", f"--target={recipe}"]


def processes(place: Path) -> dict[int, str]:
    """Return pid -> arguments of who bears `place` in environment, arguments, or its root."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            texts = [(path / name).read_bytes() for name in ("cmdline", "environ")]
            mounts = (path / "mountinfo").read_bytes().splitlines()
            texts += [line for line in mounts if line.split()[4] == b"/"]
            if any(str(place).encode() in text for text in texts):
                found[int(path.name)] = texts[0].replace(bytes(1), b" ").decode()[:60]
    return found


def leftovers(place: Path, pid: int) -> list[str]:
    """Return what is left of the target, and take it away. `pid`: the suite's, in trials' ids."""
    found = []
    for one, words in processes(place).items():
        found.append(f"process {words}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    time.sleep(0.2 if found else 0)
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (mounted := line.split()[4]).startswith(str(place)):
            found.append(f"mount {mounted}")
            subprocess.run(["umount", "-l", mounted], check=False)
    for top in (*Path("/sys/fs/cgroup").glob("*/"), Path("/sys/fs/cgroup")):
        names = (f"{PARENT[1:]}-forks/", f"{PARENT[1:]}/*/", f"startkit-*-{pid}/")
        for group in [group for name in names for group in top.glob(name)]:
            found.append(f"cgroup {group}")
            with contextlib.suppress(OSError):
                group.rmdir()
        with contextlib.suppress(OSError):
            (top / PARENT[1:]).rmdir()
    found += [f"path {path}" for path in (place / "t").iterdir()]
    if os.path.exists("/run/startkit-broken"):
        found += [f"path {path}" for path in Path("/run/startkit-broken").iterdir()]
        shutil.rmtree("/run/startkit-broken")
    return found


def row(name: str, one: Outcome) -> str:
    counts = " ".join(f"{number} {status}" for status, number in sorted(one.counts.items()))
    left = f" LEFT {one.left[:4]} ({len(one.left)})" if one.left else ""
    figures = f"{name:32} exit {one.status:2} {one.seconds:5.1f} s"
    return f"{figures}  {counts or 'no verdicts'} | {one.why[:150]}{left}"


def main() -> None:
    """Print a row for each that is named."""
    for name in sys.argv[1:] or TARGETS:
        with tempfile.TemporaryDirectory(prefix="sk-", ignore_cleanup_errors=True) as directory:
            outcome = judge(name, Path(directory))
            sys.stdout.write(f"{row(name, outcome)}\n")
            sys.stdout.flush()
            subprocess.run(["rm", "-rf", "--one-file-system", directory], check=False)


if __name__ == "__main__":
    main()
