"""How long a start takes, and what a running container's shim weighs, beside another engine.

Rule: only `POST /containers/ID/start` is timed, from the request's first byte to the
answer's last.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from startkit import image
from startkit.bench import BenchError, table
from startkit.client import Client
from startkit.observe import procfs
from startkit.targets.target import Engine, find_target

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = {
    "Image": image.NAME,
    "Cmd": ["sleep", "1000"],
    "HostConfig": {"NetworkMode": "none"},
}


class Side(NamedTuple):
    """One row of the result."""

    name: str
    socket: str
    runtime: str  # empty: the engine's own choice


class Figures(msgspec.Struct):
    """One side's figures: milliseconds of each start, KiB of a shim's PSS."""

    name: str
    version: str
    start_ms: list[float]
    shim_pss_kib: int

    @property
    def median_ms(self) -> float:
        """The start that half of them beat."""
        return statistics.median(self.start_ms)


@contextlib.contextmanager
def our_engine(runc: str | None) -> Iterator[str]:
    """Run our engine in a temporary place; `runc` is added to it as the runtime `system`."""
    recipe = find_target("startkit")
    assert isinstance(recipe, Engine)
    added = ["--add-runtime", f"system={runc}"] if runc else []
    recipe = msgspec.structs.replace(recipe, start=[*recipe.start, *added])
    root = Path(tempfile.mkdtemp(prefix="startkit-bench-"))
    try:
        with recipe.running(root) as path:
            yield path
    finally:
        shutil.rmtree(root, ignore_errors=True)


def ask(client: Client, method: str, target: str, body: Any = None) -> Any:
    """Return the answer's JSON. Raises BenchError with what the engine says."""
    reply = client.request(method, target, body)
    if reply.status >= 300:
        raise BenchError(f"{method} {target}: {reply.status} {reply.message}")
    return reply.json()


@contextlib.contextmanager
def container(side: Side) -> Iterator[tuple[Client, str]]:
    """Create a container that has not run, and remove it."""
    client = Client(side.socket)
    host = {**BODY["HostConfig"], "Runtime": side.runtime}  # type: ignore[dict-item]
    body: dict[str, Any] = {**BODY, "HostConfig": host}
    made = ask(client, "POST", "/v1.41/containers/create", body)["Id"]
    try:
        yield client, made
    finally:
        ask(client, "DELETE", f"/v1.41/containers/{made}?force=1")


def start_ms(side: Side) -> float:
    """Return the milliseconds of one start."""
    with container(side) as (client, name):
        before = time.perf_counter()
        ask(client, "POST", f"/v1.41/containers/{name}/start")
        return (time.perf_counter() - before) * 1000


def shim_pss(side: Side) -> int:
    """Return the KiB of memory of a running container's shim, shared pages by their share."""
    with container(side) as (client, name):
        ask(client, "POST", f"/v1.41/containers/{name}/start")
        init = ask(client, "GET", f"/v1.41/containers/{name}/json")["State"]["Pid"]
        shim = int(procfs.read(f"/proc/{init}/stat").rpartition(")")[2].split()[1])
        time.sleep(1)  # let both sides' shims come to rest; nothing is timed here
        return pss_kib(shim)


def pss_kib(pid: int) -> int:
    """Return the KiB of a process's memory, shared pages by their share; 0 where it has ended."""
    lines = procfs.read(f"/proc/{pid}/smaps_rollup").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


@contextlib.contextmanager
def image_on(path: str) -> Iterator[None]:
    """Have the suites' image on an engine; one that was loaded for this is removed again."""
    client = Client(path)
    known = client.get(f"/v1.41/images/{image.NAME}/json").status == 200
    if not known:
        ask(client, "POST", "/v1.41/images/load", image.base()[1])
    try:
        yield
    finally:
        if not known:
            ask(client, "DELETE", f"/v1.41/images/{image.NAME}")


def run(against: str | None, runs: int) -> list[Figures]:
    """Measure ours, with each runtime, and the engine behind the socket `against`.

    Raises BenchError, TargetError, ClientError.
    """
    runc = shutil.which("runc")
    with our_engine(runc) as ours:
        sides = [Side("startkit", ours, "")]
        if runc:
            sides.append(Side("startkit with runc", ours, "system"))
        if against:
            sides.append(Side("the other engine", against, ""))
        with contextlib.ExitStack() as stack:
            for path in dict.fromkeys(side.socket for side in sides):
                stack.enter_context(image_on(path))
            times: dict[str, list[float]] = {side.name: [] for side in sides}
            for number in range(runs + 1):
                for side in sides:
                    took = start_ms(side)
                    if number:  # the first round only warms the caches
                        times[side.name].append(took)
            return [
                Figures(side.name, version(side.socket), times[side.name], shim_pss(side))
                for side in sides
            ]


def version(path: str) -> str:
    """Return the engine's version as it tells it."""
    return str(ask(Client(path), "GET", "/v1.41/version")["Version"])


def report(figures: list[Figures]) -> str:
    """Return the figures as text, with the ratio to the last side."""
    last = figures[-1]
    rows = [("engine", "version", "start ms", "min", "max", "ratio", "shim PSS KiB", "ratio")]
    for side in figures:
        rows.append(
            (
                side.name,
                side.version,
                f"{side.median_ms:.1f}",
                f"{min(side.start_ms):.1f}",
                f"{max(side.start_ms):.1f}",
                f"{side.median_ms / last.median_ms:.2f}",
                str(side.shim_pss_kib),
                f"{side.shim_pss_kib / last.shim_pss_kib:.2f}",
            )
        )
    return table(rows)
