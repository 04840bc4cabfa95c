"""`startkit mutants`: wrong engines, each run through the suite, to see which clause sees it.

A mutant is a few lines of the engine exchanged: an option dropped, an order swapped, a
step left out. It is made in a copy of the tree, so that every program of the engine is
the wrong one, and the suite neither knows nor is touched. Its name stands at the one
clause that has to see it (`killed-by`), what it changes in suites/harness/mutants.toml.

Rule: nothing of the judge is ever changed; `file` lies in the engine. Seen is what fails a strict
run; a clause without evidence fails none, but counts among those that a mutant disturbs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from startkit.judge.verdict import JUDGED
from startkit.targets import process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from startkit.judge.clause import Clause

ROOT = Path(__file__).parents[2]
DATA = ROOT / "suites" / "harness" / "mutants.toml"
CONFORMANCE = "suites/conformance"
PARTS = ("startkit", "suites", "golden", "conftest.py", "pyproject.toml")
ENGINE = ("daemon", "containerd", "shim", "runtime")
TIMEOUT_S = 120
FEW = 2  # other clauses that a good mutant may turn red as well
SEEN = ("differs", "stale")
GOOD = ("conforms", "not-applicable", "expected-difference")


class MutantError(Exception):
    """A mutant that cannot be made; the text names it and says why."""


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place. `file` below startkit/; `old` stands there exactly once."""

    file: str
    old: str
    new: str


class Mutant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One wrong engine."""

    changes: list[Change]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the suite made of one. `red`: clause -> its verdict; `stopped`: why there is none."""

    name: str
    clause: str
    red: dict[str, str]
    stopped: str = ""

    @property
    def status(self) -> str:
        """Return `killed` by its own clause, by `another`, or `alive`."""
        if self.red.get(self.clause) in SEEN:
            return "killed"
        return "another" if self.stopped or {*SEEN, "broken"} & {*self.red.values()} else "alive"

    @property
    def sharp(self) -> bool:
        """Say whether its clause saw it, and few others."""
        return self.status == "killed" and len(self.red) <= 1 + FEW


def load(path: Path = DATA) -> dict[str, Mutant]:
    """Return name -> mutant. Raises MutantError."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), type=dict[str, Mutant])
    except (OSError, ValueError) as error:
        raise MutantError(f"{path}: {error}") from None


def wanted(clauses: dict[str, Clause]) -> dict[str, str]:
    """Return mutant -> the clause that names it."""
    return {one.killed_by: name for name, one in clauses.items() if one.killed_by}


def exchanged(name: str, mutant: Mutant) -> dict[str, str]:
    """Return the engine's files as the mutant has them, by `file`. Raises MutantError."""
    made: dict[str, str] = {}
    for change in mutant.changes:
        if change.file.partition("/")[0] not in ENGINE:
            raise MutantError(f"{name}: {change.file} is not of the engine")
        path = ROOT / "startkit" / change.file
        text = made.get(change.file) or (path.read_text() if path.exists() else "")
        if text.count(change.old) != 1:
            found = text.count(change.old)
            raise MutantError(f"{name}: {change.file}: found {found} times, not once: {change.old}")
        made[change.file] = text.replace(change.old, change.new)
    return made


def make(name: str, mutant: Mutant, place: Path) -> None:
    """Write the tree of a wrong engine into `place`: a copy with its changes.

    What Python has compiled comes along, or each of hundreds of short programs would do it
    again; of a changed file it is outdated by its time. Raises MutantError.
    """
    texts = exchanged(name, mutant)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place / part)
        else:
            shutil.copy(source, place / part)
    for file, text in texts.items():
        (place / "startkit" / file).write_text(text)
    # The runtime that is installed imports from where it is installed, whatever PYTHONPATH says.
    program = place / "bin" / "startkit-runc"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -I -S {place}/startkit/runtime/__main__.py "$@"\n'
    )
    program.chmod(0o755)


def tests(mutant: Mutant) -> list[str]:
    """Return the tests that can see it: a runtime as it was need not be judged alone."""
    if any(change.file.startswith("runtime/") for change in mutant.changes):
        return [CONFORMANCE]
    found = sorted((ROOT / CONFORMANCE).glob("test_*.py"))
    return [f"{CONFORMANCE}/{path.name}" for path in found if "test_runtime" not in path.name]


def run(name: str, clause: str, mutant: Mutant) -> Outcome:
    """Run the suite on one wrong engine. Raises MutantError."""
    with tempfile.TemporaryDirectory(prefix="startkit-mutant-") as directory:
        place = Path(directory)
        make(name, mutant, place)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [*tests(mutant), "--results", str(place / "results")]
        path = f"{directory}/bin:{os.environ['PATH']}"
        environment = {**os.environ, "PYTHONPATH": directory, "PATH": path}
        environment["PYTHONDONTWRITEBYTECODE"] = ""
        environment["TMPDIR"] = directory  # so that the sweep finds what a killed suite leaves
        said = place / "said"
        with said.open("w") as output:
            child = subprocess.Popen(
                command, cwd=place, env=environment, stdout=output, stderr=output
            )
        try:
            child.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.end(child, signal.SIGTERM)
            process.sweep(directory)
            return Outcome(name=name, clause=clause, red={}, stopped=f"no end in {TIMEOUT_S} s")
        try:
            verdicts = json.loads((place / "results" / "verdicts.json").read_text())["verdicts"]
        except (OSError, ValueError):
            last = [line for line in said.read_text().splitlines() if line.strip()][-1:]
            return Outcome(name=name, clause=clause, red={}, stopped="".join(last)[:200])
        red = {one["clause"]: one["status"] for one in verdicts if one["status"] not in GOOD}
        if not JUDGED & {one["status"] for one in verdicts}:
            stopped = f"nothing judged: {verdicts[0]['reason'] if verdicts else 'no verdict'}"
            return Outcome(name=name, clause=clause, red={}, stopped=stopped[:200])
        return Outcome(name=name, clause=clause, red=red)


def run_all(names: Iterable[str], clauses: dict[str, Clause], jobs: int) -> Iterator[Outcome]:
    """Yield the outcomes as they come, `jobs` at a time. Raises MutantError."""
    mutants, named = load(), wanted(clauses)
    unknown = sorted(set(names) - mutants.keys())
    if unknown:
        raise MutantError(f"no such mutant: {' '.join(unknown)}")
    todo = list(names) or list(mutants)
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda name: run(name, named.get(name, ""), mutants[name]), todo)


def line(one: Outcome) -> str:
    """Return one outcome as a line: status, name, its clause, what else turned red."""
    others = [
        name if verdict in SEEN else f"{name} ({verdict})"
        for name, verdict in one.red.items()
        if name != one.clause or verdict not in SEEN
    ]
    more = f" and {' '.join(others)}" if others else ""
    return f"{one.status:8}{one.name:32} {one.clause}{more}{one.stopped and f' ({one.stopped})'}"


def sums(outcomes: Sequence[Outcome]) -> str:
    """Return a table of the areas: how many there are, and what killed them.

    `sharp` are those killed by their own clause that disturb at most FEW others.
    """
    rows: list[tuple[str, ...]] = [
        ("area", "wrong engines", "killed", "sharp", "by another", "alive")
    ]
    areas = list(dict.fromkeys(one.clause.partition(".")[0] for one in outcomes))
    for area in (*areas, "all"):
        own = [one for one in outcomes if area in ("all", one.clause.partition(".")[0])]
        found = Counter(one.status for one in own)
        counts = (len(own), found["killed"], sum(one.sharp for one in own))
        rows.append((area, *map(str, (*counts, found["another"], found["alive"]))))
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(width[0]), *map(str.rjust, row[1:], width[1:])]) for row in rows
    )
