"""`startkit matrix`: run or read, print, write the three files."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).parents[2]
USAGE = 2


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit matrix` to a command line."""
    matrix = commands.add_parser("matrix", help="many targets through the suite, side by side")
    matrix.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="startkit, docker@trixie, runc, /PATH, unix:///...",
    )
    matrix.add_argument(
        "--from", dest="saved", nargs="+", type=Path, metavar="DIR", help="runs that are there"
    )
    matrix.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="at a time (1)")
    default = ROOT / ".startkit" / "matrix"
    matrix.add_argument("--results", type=Path, default=default, metavar="DIR", help=str(default))
    matrix.set_defaults(run=run_matrix)


def run_matrix(options: argparse.Namespace) -> int:
    """Print the table, write matrix.json, .md and .html; exit as the worst run of the suite."""
    from startkit.judge.golden import GoldenError
    from startkit.matrix import page, table, text
    from startkit.report import result

    try:
        made = table.build(places(options), ROOT / "golden")
        if not made.columns:
            raise ValueError("no run is there")
        result.write(options.results / "matrix.json", made)
        result.write_whole(options.results / "matrix.md", text.markdown(made).encode())
        result.write_whole(options.results / "matrix.html", page.page(made).encode())
    except (GoldenError, OSError, ValueError) as error:
        print(f"startkit matrix: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE
    print(text.report(made, color=sys.stdout.isatty()))
    print(f"matrix.html, matrix.md, matrix.json in {options.results}")
    return made.exit


def places(options: argparse.Namespace) -> list[Path]:
    """Return the directories of the runs, which are made first where none are named.

    Raises ValueError.
    """
    from startkit.matrix import run

    if options.saved:
        if options.targets:
            raise ValueError("--from reads runs that are there: name no targets")
        return named_once([one for path in options.saved for one in inside(path)])
    words = options.targets or list(run.known())
    named_once([Path(run.directory(word)) for word in words])
    if options.jobs < 1:
        raise ValueError(f"--jobs {options.jobs}: want 1 or more")
    if importlib.util.find_spec("pytest") is None:
        raise ValueError("the suite needs pytest: pip install 'startkit[test]'")
    with run.Runs(options.results, options.jobs, lambda line: print(line, flush=True)) as runs:
        return runs.all(words)


def inside(path: Path) -> list[Path]:
    """Return a run's directory, or those in it. Raises ValueError."""
    from startkit.matrix.run import known
    from startkit.matrix.table import is_run

    order = {name: number for number, name in enumerate(known())}
    within = sorted(path.glob("*/"), key=lambda one: (order.get(one.name, len(order)), one.name))
    found = [path] if is_run(path) else list(filter(is_run, within))
    if not found:
        raise ValueError(f"{path}: no run of the suite")
    return found


def named_once(found: list[Path]) -> list[Path]:
    """Return them; the name is the column's. Raises ValueError."""
    twice = [name for name, number in Counter(one.name for one in found).items() if number > 1]
    if twice:
        raise ValueError(f"two targets of one name: {', '.join(twice)}")
    return found
