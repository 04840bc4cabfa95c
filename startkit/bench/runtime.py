"""How long a runtime takes for a container of `/bin/true`, beside other runtimes.

Rule: the work is the same for all: the config.json that `startkit-runc spec` writes, with
Docker's mounts, and a cgroup in every hierarchy. The floor of a runtime in Python stands
beside them: `unshare` of the same namespaces, and an interpreter that does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit import kernel
from startkit.bench import BenchError, table
from startkit.observe import cgroups
from startkit.observe.trials.attempt import Runtime
from startkit.targets.target import which

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PARENT = f"startkit-bench-{os.getpid()}"  # of all the cgroups
UNSHARE = ("unshare", "--fork", "--pid", "--net", "--ipc", "--uts", "--mount")
# Tells how large the process that it runs became. This program is larger than a runtime,
# and a process begins as large as the one that it was forked from.
METER = """
import os, sys
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
print(os.wait4(pid, 0)[2].ru_maxrss)
"""
CALL_S = 60
PHASES = ("run", "create", "start", "delete")


class Figures(msgspec.Struct):
    """One runtime's milliseconds by phase, KiB of its largest process, seconds of many at once."""

    name: str
    program: str
    took: dict[str, list[float]]
    peaks: list[int] = []
    at_once: list[float] = []


class Place:
    """Where the bundles are: one a container, all with the same root file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        busybox = shutil.which("busybox")
        if busybox is None:
            raise BenchError("busybox is not here: apt-get install busybox-static")
        binaries = root / "rootfs" / "bin"
        binaries.mkdir(parents=True)
        shutil.copy(busybox, binaries / "true")
        call([find("startkit-runc"), "spec", "--bundle", str(root)])
        self.config = json.loads((root / "config.json").read_text())
        self.config["process"] |= {"terminal": False, "args": ["/bin/true"]}
        self.config["root"] = {"path": str(root / "rootfs")}

    def bundle(self, name: str) -> str:
        """Return the bundle of a container of this name, made if need be."""
        directory = self.root / name
        if not directory.exists():
            directory.mkdir()
            self.config["linux"]["cgroupsPath"] = f"/{PARENT}/{name}"
            (directory / "config.json").write_text(json.dumps(self.config))
        return str(directory)

    def command(self, program: str, command: str, name: str) -> list[str]:
        """Return a runtime's command line for a container of this name."""
        argv = [program, "--root", str(self.root / "state"), command]
        if command in ("run", "create"):
            argv += ["--bundle", self.bundle(name), "--pid-file", str(self.root / f"{name}.pid")]
        return [*argv, name]


def find(program: str) -> str:
    """Return the path of a program, of this environment or of PATH. Raises BenchError."""
    found = which(program)
    if found is None:
        raise BenchError(f"{program}: not here")
    return found


def call(argv: Sequence[str]) -> str:
    """Run a command; return what it printed. Raises BenchError with what it complained of.

    Files, not pipes: a container that was created keeps them open.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                timeout=CALL_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{' '.join(argv)}: no end within {CALL_S} s") from None
        for file in (out, errors):
            file.seek(0)
        if done.returncode:
            raise BenchError(f"{' '.join(argv)}: exit {done.returncode}: {errors.read().strip()}")
        return out.read()


def timed(argv: Sequence[str]) -> float:
    """Return the milliseconds of a command. Raises BenchError."""
    before = time.perf_counter()
    call(argv)
    return (time.perf_counter() - before) * 1000


def measure(place: Place, program: str) -> dict[str, float]:
    """Return phase -> milliseconds: a container in one go, and one step by step."""
    found = {"run": timed(place.command(program, "run", "one"))}
    found["create"] = timed(place.command(program, "create", "one"))
    try:
        found["start"] = timed(place.command(program, "start", "one"))
        os.waitpid(int((place.root / "one.pid").read_text()), 0)  # it is our child, adopted
    except BaseException:
        call([program, "--root", str(place.root / "state"), "delete", "--force", "one"])
        raise
    found["delete"] = timed(place.command(program, "delete", "one"))
    return found


def peak(place: Place, program: str) -> int:
    """Return the KiB of the largest process of a `run`."""
    argv = place.command(program, "run", "one")
    return int(call([sys.executable, "-I", "-S", "-c", METER, *argv]))


def many(place: Place, program: str, count: int) -> float:
    """Return the seconds that so many containers take, all begun at the same time."""
    commands = [place.command(program, "run", f"one-of-{n}") for n in range(count)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    before = time.perf_counter()
    running = [subprocess.Popen(argv, **quiet) for argv in commands]  # type: ignore[call-overload]
    failed = sum(process.wait() != 0 for process in running)
    if failed:
        raise BenchError(f"{program}: {failed} of {count} at once failed")
    return time.perf_counter() - before


@contextlib.contextmanager
def made() -> Iterator[Place]:
    """Make the place; take away what the containers leave, and adopt their inits meanwhile."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    try:
        with tempfile.TemporaryDirectory(prefix="startkit-bench-") as root:
            yield Place(Path(root))
    finally:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 0)
        for top in cgroups.hierarchies().values():
            with contextlib.suppress(OSError):  # a runtime may have removed it
                Path(top, PARENT).rmdir()


def run(programs: Sequence[str], runs: int, count: int) -> list[Figures]:
    """Measure the runtimes in turns, then the floor; `count`: how many containers at once.

    Raises BenchError.
    """
    sides = []
    for program in programs:
        try:
            name, version = Runtime(program=find(program)).version()
        except ValueError as error:
            raise BenchError(str(error)) from None
        empty: dict[str, list[float]] = {phase: [] for phase in PHASES}
        sides.append(Figures(f"{name} {version}", find(program), empty))
    floor = Figures("the floor", "", {"run": []})
    with made() as place:
        for number in range(runs + 1):
            for side in sides:
                found = measure(place, side.program)
                for phase in PHASES if number else ():
                    side.took[phase].append(found[phase])
            found = {"run": timed([*UNSHARE, sys.executable, "-I", "-S", "-c", "pass"])}
            floor.took["run"] += [found["run"]] if number else []
        for _ in range(3):
            for side in sides:
                side.peaks.append(peak(place, side.program))
                side.at_once.append(many(place, side.program, count))
    return [*sides, floor]


def report(figures: list[Figures], count: int) -> str:
    """Return the figures as text, with the ratio of a `run` to the last runtime's."""
    last = statistics.median(figures[-2].took["run"])
    rows = [("runtime", "run ms", "min", "ratio", *(f"{phase} ms" for phase in PHASES[1:]),
             "peak KiB", f"{count} at once s")]  # fmt: skip
    for side in figures:
        first, *others = (statistics.median(side.took.get(phase) or [0]) for phase in PHASES)
        rest = [f"{other:.1f}" if other else "" for other in others]
        rest += [str(max(side.peaks, default="")), ""]
        if side.at_once:
            rest[-1] = f"{statistics.median(side.at_once):.2f}"
        least = min(side.took["run"])
        rows.append((side.name, f"{first:.1f}", f"{least:.1f}", f"{first / last:.2f}", *rest))
    return table(rows)
