"""How an engine bears load, beside another engine: many starts at once, in a row, much output.

Rule: everything is seen from outside, over the API and in /proc, and the engines have the
same work in turns. An engine's processes: dockerd, its children, and the parents of the inits.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.bench import BenchError, start, table
from startkit.client import Client
from startkit.observe import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress

CLIENTS = 16
HUNDRED = 100  # starts whose percentiles are told, at the beginning and at the end
LINE = "startkit " * 11
LOG_BYTES = 256 * 1000 * 1000
CALL_S = 120.0  # a start may wait for a hundred others
NAME = f"startkit-load-{os.getpid()}-"
MIB = 1024  # KiB


class Census(msgspec.Struct):
    """What one process holds: descriptors, threads, KiB of PSS."""

    fds: int
    threads: int
    pss: int


class Figures(msgspec.Struct):
    """What one engine's work took: ms of each start, seconds of the whole, KiB, MB/s."""

    at_once: list[float] = []
    all_s: float = 0
    removed_s: float = 0
    engine_kib: int = 0
    in_a_row: list[float] = []
    held: list[list[Census]] = []  # after the first hundred, and at the end
    log_mb_s: float = 0
    log_lost: int = 0
    log_kib: int = 0


class Side:
    """One engine under load."""

    def __init__(self, name: str, socket: str) -> None:
        self.name, self.client = name, Client(socket, timeout_s=CALL_S)
        self.version = start.version(socket)
        daemon = procfs.listener(socket)
        if daemon is None:
            raise BenchError(f"{socket}: nobody listens there")
        self.processes = [daemon, *procfs.children(daemon)][:2]  # dockerd, containerd
        self.figures = Figures()

    def ask(self, method: str, target: str, body: Any = None) -> Any:
        """Return the answer's JSON. Raises BenchError."""
        return start.ask(self.client, method, f"/v1.41/containers/{target}", body)

    def create(self, number: int, command: Sequence[str] = ("sleep", "1000")) -> str:
        """Create a container; return its id."""
        body = {**start.BODY, "Cmd": list(command)}
        return str(self.ask("POST", f"create?name={NAME}{number}", body)["Id"])

    def start(self, container: str) -> float:
        """Return the milliseconds of a start."""
        before = time.perf_counter()
        self.ask("POST", f"{container}/start")
        return (time.perf_counter() - before) * 1000

    def remove(self, container: str) -> None:
        """Remove a container, running or not."""
        self.ask("DELETE", f"{container}?force=1")

    def clear(self) -> None:
        """Remove what a broken off run leaves."""
        for row in self.ask("GET", "json?all=1"):
            if any(name.startswith(f"/{NAME}") for name in row["Names"]):
                self.ask("DELETE", f"{row['Id']}?force=1")

    def shim(self, container: str) -> int:
        """Return the parent of a container's init."""
        init = procfs.process(self.ask("GET", f"{container}/json")["State"]["Pid"])
        return init.ppid if init else 0

    def pss(self, shims: Sequence[int]) -> int:
        """Return the KiB of the engine's processes."""
        return sum(start.pss_kib(pid) for pid in {*self.processes, *shims})


def run(against: str | None, at_once: int, in_a_row: int) -> list[Side]:
    """Let ours and the engine behind the socket `against` do the work in turns.

    Raises BenchError, TargetError, ClientError.
    """
    with start.our_engine(None) as ours, contextlib.ExitStack() as stack:
        sockets = {"startkit": ours} | ({"the other engine": against} if against else {})
        sides = []
        for name, socket in sockets.items():
            stack.enter_context(start.image_on(socket))
            sides.append(Side(name, socket))
            stack.callback(sides[-1].clear)
            many(sides[-1], CLIENTS, lambda: None)  # warms the caches
        with progress() as bar:
            for side in sides:
                many(side, at_once, ticks(bar, f"at once, {side.name}", at_once * 3))
            tick = ticks(bar, "in a row", in_a_row * len(sides))
            for first in range(0, in_a_row, HUNDRED):
                for side in sides:
                    row(side, range(first, min(first + HUNDRED, in_a_row)), tick)
            for side in sides:
                side.figures.held.append([census(pid) for pid in side.processes])
                say(side, ticks(bar, f"log, {side.name}", 1))
    return sides


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show bars on a terminal while the work goes on."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar


def ticks(bar: Progress, text: str, total: int) -> Callable[[], None]:
    """Add a bar; return what moves it on by one."""
    task = bar.add_task(text, total=total)
    return lambda: bar.advance(task)


def many(side: Side, count: int, tick: Callable[[], None]) -> None:
    """Start so many containers by CLIENTS clients, all of them running at the end; remove them."""

    def each(work: Callable[[Any], Any], what: Sequence[Any]) -> tuple[list[Any], float]:
        """Do a work for each; return what came out, and the seconds."""
        before, done = time.perf_counter(), []
        for result in pool.map(work, what):
            done.append(result)
            tick()
        return done, time.perf_counter() - before

    figures = side.figures
    with ThreadPoolExecutor(CLIENTS) as pool:
        made, _ = each(side.create, range(count))
        figures.at_once, figures.all_s = each(side.start, made)
        figures.engine_kib = side.pss([side.shim(container) for container in made])
        _, figures.removed_s = each(side.remove, made)


def row(side: Side, numbers: Sequence[int], tick: Callable[[], None]) -> None:
    """Start and remove a container for each number, one after the other."""
    for number in numbers:
        container = side.create(number)
        side.figures.in_a_row.append(side.start(container))
        side.remove(container)
        tick()
    if not side.figures.held:
        side.figures.held.append([census(pid) for pid in side.processes])


def census(pid: int) -> Census:
    """Return what a process holds."""
    threads = int(procfs.status(pid).get("Threads", 0))
    return Census(len(os.listdir(f"/proc/{pid}/fd")), threads, start.pss_kib(pid))


def say(side: Side, tick: Callable[[], None]) -> None:
    """Let a container write LOG_BYTES, and look for them in the log."""
    lines = LOG_BYTES // (len(LINE) + 1)
    script = f"yes '{LINE}' | head -n {lines}"
    container = side.create(0, ["sh", "-c", script])
    with ThreadPoolExecutor(1) as pool:
        side.start(container)
        before, shim = time.perf_counter(), side.shim(container)
        ended = pool.submit(side.ask, "POST", f"{container}/wait")
        while not ended.done():
            side.figures.log_kib = max(side.figures.log_kib, side.pss([shim]))
            time.sleep(0.05)
        side.figures.log_mb_s = LOG_BYTES / 1e6 / (time.perf_counter() - before)
    log = side.ask("GET", f"{container}/json")["LogPath"]
    side.figures.log_lost = lines - logged(log)
    side.remove(container)
    tick()


def logged(path: str) -> int:
    """Return how many whole LINEs a json log has. Raises OSError."""
    decode, line = msgspec.json.Decoder(dict[str, str]).decode, f"{LINE}\n"
    with open(path, "rb") as log:
        return sum(decode(entry)["log"] == line for entry in log)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of them do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def middle_and_tail(values: Sequence[float]) -> tuple[str, str]:
    """Return the median and the 99th percentile as text."""
    return f"{percentile(values, 0.5):.1f}", f"{percentile(values, 0.99):.1f}"


def columns(heads: str) -> tuple[str, ...]:
    """Return the heads of columns, which stand two spaces apart."""
    return tuple(heads.split("  "))


def report(sides: Sequence[Side]) -> str:
    """Return the figures as three tables."""
    last = sides[-1].figures
    count, total = len(last.at_once), len(last.in_a_row)
    crowd = [columns(f"{count} at once by {CLIENTS} clients  version  start p50 ms  p99  all s"
                     "  removed s  engine PSS MiB  ratio")]  # fmt: skip
    rows = [columns(f"{total} in a row  start p50 ms  p99  dockerd fds  threads  PSS MiB"
                    "  containerd fds  threads  PSS MiB")]  # fmt: skip
    size = f"{LOG_BYTES // 1000**2} MB of lines of {len(LINE) + 1} bytes into the log"
    logs = [columns(f"{size}  MB/s  lines lost  peak PSS MiB")]
    for side in sides:
        found = side.figures
        crowd.append((side.name, side.version, *middle_and_tail(found.at_once),
                      f"{found.all_s:.1f}", f"{found.removed_s:.1f}",
                      f"{found.engine_kib / MIB:.0f}",
                      f"{found.engine_kib / last.engine_kib:.2f}"))  # fmt: skip
        ends = (("the first", found.in_a_row[:HUNDRED]), ("the last", found.in_a_row[-HUNDRED:]))
        for (which, took), held in zip(ends, found.held, strict=True):
            counts = [(str(c.fds), str(c.threads), f"{c.pss / MIB:.1f}") for c in held]
            rows.append((f"{side.name}, {which} {len(took)}", *middle_and_tail(took),
                         *(word for words in counts for word in words)))  # fmt: skip
        logs.append((side.name, f"{found.log_mb_s:.0f}", str(found.log_lost),
                     f"{found.log_kib / MIB:.1f}"))  # fmt: skip
    return "\n\n".join(table(part) for part in (crowd, rows, logs))
