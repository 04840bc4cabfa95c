"""Targets through the suite: a process of pytest for each, as `tox -e conformance` starts it.

Rule: nothing is read of what they say; the directories that they fill are the result. What
was begun is ended, with the one signal that lets a run take its own things away.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit.matrix.table import OUTPUT
from startkit.targets.target import is_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
TARGETS = Path(__file__).with_name("targets.toml")
TIMEOUT_S = 3600
END_S = 60  # for a run to take away its engine or machine
STALE = ("results.jsonl", "verdicts.json", "evidence.json", "report.html", OUTPUT)


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What targets.toml says of a target. `why`: where the layout comes from."""

    cgroup: str = ""
    why: str = ""


def known() -> dict[str, Place]:
    """Return the targets of the default list."""
    return msgspec.convert(tomllib.loads(TARGETS.read_text()), dict[str, Place])


def directory(word: str) -> str:
    """Return the name of a target's directory, which becomes its column's."""
    return Path(word.removeprefix("unix://").removesuffix(".toml")).name


def command(word: str, place: Path) -> list[str]:
    """Return the command line of one run."""
    said = known().get(word, Place())
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suites/conformance"]
    argv += ["--runtime" if is_runtime(word) else "--target", word]
    argv += ["--cgroup", said.cgroup] if said.cgroup else []
    return [*argv, "--results", str(place)]


class Runs:
    """Runs that go on, `jobs` at a time; whoever leaves the context ends them."""

    def __init__(self, results: Path, jobs: int, tell: Callable[[str], None]) -> None:
        self.results, self.tell = results.resolve(), tell
        self.pool = ThreadPoolExecutor(jobs)
        self.lock = threading.Lock()
        self.children: set[subprocess.Popen[bytes]] = set()
        self.over = False

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.over = True
            left = list(self.children)
        for child in left:
            child.send_signal(signal.SIGINT)
        for child in left:
            end(child)
        self.pool.shutdown(cancel_futures=True)

    def all(self, words: Sequence[str]) -> list[Path]:
        """Return the directory of each run."""
        return list(self.pool.map(self.one, words))

    def one(self, word: str) -> Path:
        """Run one target to its end; the last line of its output is its exit status."""
        place = self.results / directory(word)
        place.mkdir(parents=True, exist_ok=True)
        for name in STALE:
            (place / name).unlink(missing_ok=True)
        begin = time.monotonic()
        with (place / OUTPUT).open("wb") as output:
            with self.lock:
                if self.over:
                    return place
                child = subprocess.Popen(
                    command(word, place), cwd=ROOT, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                )  # fmt: skip
                self.children.add(child)
            late = self.wait(child)
            if late:  # what it has judged so far is no run
                (place / "results.jsonl").unlink(missing_ok=True)
            output.write(f"\n{late}\nexit {child.returncode}\n".encode())
        self.tell(f"{word}: exit {child.returncode}, {time.monotonic() - begin:.0f} s")
        return place

    def wait(self, child: subprocess.Popen[bytes]) -> str:
        """Wait for a run; say so where it takes too long and has to be ended."""
        try:
            child.wait(TIMEOUT_S)
            return ""
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
            end(child)
            return f"no end in {TIMEOUT_S} s"
        finally:
            with self.lock:
                self.children.discard(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Wait for a run that was told to end, and insist after END_S."""
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
