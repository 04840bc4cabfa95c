"""`startkit`: the command line for people.

Rule: a command parses, calls one function and prints; each imports what it needs only
when it runs, so that `--help` is quick. Exit 0 as expected, 1 not so, 2 bad usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from startkit import __version__
from startkit.matrix import command as matrix
from startkit.vm import command as vm

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]  # a clone: golden/ and suites/ lie beside the package


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; each command carries its function as `run`."""
    made = argparse.ArgumentParser(
        prog="startkit", description="What happens behind docker start, executable."
    )
    made.add_argument("--version", action="version", version=f"startkit {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_image(commands)
    add_bench(commands)
    add_judge(commands)
    add_diff(commands)
    add_explain(commands)
    add_mutants(commands)
    add_learn(commands)
    matrix.add(commands)
    vm.add(commands)
    return made


def add_image(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit image`."""
    image = commands.add_parser("image", help="make images without any network")
    kinds = image.add_subparsers(title="images", metavar="IMAGE", required=True)
    base = kinds.add_parser("base", help="the suites' image: five layers, a docker save archive")
    base.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="'-' is standard output"
    )
    base.set_defaults(run=image_base)


def image_base(options: argparse.Namespace) -> int:
    """Write the image; its name and id go to standard error."""
    from startkit import image

    try:
        image_id, archive = image.base()
        if str(options.output) == "-":
            sys.stdout.buffer.write(archive)
        else:
            options.output.write_bytes(archive)
    except (image.ImageError, OSError) as error:
        print(f"startkit image base: {error}", file=sys.stderr)
        return 1
    print(f"{image.NAME} {image_id}", file=sys.stderr)
    return 0


def add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit bench`."""
    bench = commands.add_parser("bench", help="measure our engine beside another one")
    kinds = bench.add_subparsers(
        title="benchmarks", metavar="BENCHMARK", dest="benchmark", required=True
    )
    bench.set_defaults(run=run_bench)
    start = kinds.add_parser("start", help="the latency of a start, and a shim's memory")
    start.add_argument("--against", metavar="unix:///SOCKET", help="the other engine's API")
    start.add_argument("--runs", type=int, default=30, metavar="N", help="starts of each side")
    start.set_defaults(measure=bench_start)
    load = kinds.add_parser("load", help="many containers at once and in a row, and much output")
    load.add_argument("--against", metavar="unix:///SOCKET", help="the other engine's API")
    load.add_argument("--at-once", type=int, default=200, metavar="N", help="run so many, then")
    load.add_argument("--in-a-row", type=int, default=500, metavar="N", help="start and remove")
    load.set_defaults(measure=bench_load)
    runtime = kinds.add_parser(
        "runtime", help="a container of /bin/true: run, create, start, delete"
    )
    runtime.add_argument(
        "programs",
        nargs="*",
        metavar="PROGRAM",
        help="runtimes, the last one to be measured against",
    )
    runtime.add_argument("--runs", type=int, default=30, metavar="N", help="containers of each")
    runtime.add_argument("--at-once", type=int, default=100, metavar="N", help="then so many")
    runtime.set_defaults(measure=bench_runtime, programs=["startkit-runc", "runc"])


def run_bench(options: argparse.Namespace) -> int:
    """Measure, print what the benchmark says."""
    from startkit.bench import BenchError
    from startkit.client import ClientError
    from startkit.targets.target import TargetError

    command = f"startkit bench {options.benchmark}"
    if wrong := wrong_option(options):
        print(f"{command}: {wrong}", file=sys.stderr)
        return 2
    try:
        print(options.measure(options))
    except (BenchError, TargetError, ClientError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    return 0


def wrong_option(options: argparse.Namespace) -> str:
    """Return what is wrong with a benchmark's options, "" where nothing is."""
    against = getattr(options, "against", None)
    if against is not None and not against.startswith("unix:///"):
        return f"--against {against!r}: want unix:///PATH"
    numbers = {name: getattr(options, name, 1) for name in ("runs", "at_once", "in_a_row")}
    few = [name for name, number in numbers.items() if number < 1]
    return f"--{few[0].replace('_', '-')}: want 1 or more" if few else ""


def other_socket(options: argparse.Namespace) -> str | None:
    """Return the path of the other engine's socket, None without one."""
    return options.against.removeprefix("unix://") if options.against else None


def bench_start(options: argparse.Namespace) -> str:
    """Return the table of starts."""
    from startkit.bench import start

    return start.report(start.run(other_socket(options), options.runs))


def bench_load(options: argparse.Namespace) -> str:
    """Return the tables of an engine under load."""
    from startkit.bench import load

    return load.report(load.run(other_socket(options), options.at_once, options.in_a_row))


def bench_runtime(options: argparse.Namespace) -> str:
    """Return the table of runtimes."""
    from startkit.bench import runtime

    figures = runtime.run(options.programs, options.runs, options.at_once)
    return runtime.report(figures, options.at_once)


def add_judge(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit judge`."""
    judge = commands.add_parser("judge", help="judge saved evidence again: no engine, no root")
    judge.add_argument(
        "evidence", type=Path, help="an evidence.json, or the results directory of a run"
    )
    judge.add_argument("--strict", action="store_true", help="SHOULD clauses count as well")
    judge.add_argument("--results", type=Path, metavar="DIR", help="write the results there")
    judge.set_defaults(run=run_judge)


def run_judge(options: argparse.Namespace) -> int:
    """Print what does not conform and the scoreboard; exit as the suite does."""
    from startkit.judge.golden import GoldenError
    from startkit.report import offline

    try:
        run = offline.run(options.evidence, ROOT, strict=options.strict, results=options.results)
    except (GoldenError, ImportError, OSError, ValueError) as error:
        print(f"startkit judge: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for text in run.failures(str(options.evidence)):
        print(f"{text}\n")
    print(run.summary(run.code(), color=sys.stdout.isatty()))
    return run.code()


def add_diff(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit diff`."""
    diff = commands.add_parser("diff", help="compare two runs of the suite, clause by clause")
    for name in ("first", "second"):
        diff.add_argument(name, type=Path, help="a results.jsonl, or a directory with one")
    diff.set_defaults(run=run_diff)


def run_diff(options: argparse.Namespace) -> int:
    """Print what differs; exit as diff(1) does: 0 alike, 1 not, 2 trouble."""
    from startkit.report import compare, result

    try:
        said, unlike = compare.report(result.read(options.first), result.read(options.second))
    except ValueError as error:
        print(f"startkit diff: {error}", file=sys.stderr)
        return 2
    print(said)
    return int(unlike > 0)


def add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit explain`."""
    explain = commands.add_parser("explain", help="a running container's start, step by step")
    explain.add_argument("container", help="name or id")
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    explain.add_argument("-H", "--host", default=host, metavar="unix:///SOCKET", help=host)
    explain.set_defaults(run=run_explain)


def run_explain(options: argparse.Namespace) -> int:
    """Print each step, what it left behind, and the clauses about it."""
    from startkit import story
    from startkit.judge.clause import load_clauses
    from startkit.observe.collect import Collector, ObserveError
    from startkit.report.explain import explain

    if not options.host.startswith("unix:///"):
        print(f"startkit explain: -H {options.host!r}: want unix:///PATH", file=sys.stderr)
        return 2
    try:
        moment = Collector(options.host.removeprefix("unix://")).moment(options.container)
    except ObserveError as error:
        print(f"startkit explain: {error}", file=sys.stderr)
        return 1
    clauses = load_clauses(ROOT / "golden")
    print(explain(moment, list(story.steps()), clauses))
    return 0


def add_mutants(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit mutants`."""
    mutants = commands.add_parser("mutants", help="run the suite on wrong engines: who sees them?")
    mutants.add_argument("names", nargs="*", metavar="NAME", help="these only")
    mutants.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="at a time")
    mutants.set_defaults(run=run_mutants)


def run_mutants(options: argparse.Namespace) -> int:
    """Print a line a mutant, then the sums; exit 1 where one is not killed by its clause."""
    from startkit.judge.clause import load_clauses
    from startkit.learn import mutants

    outcomes = []
    try:
        clauses = load_clauses(mutants.ROOT / "golden")
        for one in mutants.run_all(options.names, clauses, max(options.jobs, 1)):
            outcomes.append(one)
            print(mutants.line(one), flush=True)
    except mutants.MutantError as error:
        print(f"startkit mutants: {error}", file=sys.stderr)
        return 2
    print(mutants.sums(outcomes))
    return int(any(one.status != "killed" for one in outcomes))


def add_learn(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit learn`."""
    learn = commands.add_parser("learn", help="write the engine's steps yourself, lesson by lesson")
    learn.set_defaults(run=run_learn, action="map")
    learn.add_argument(
        "-C", dest="course", type=Path, default=Path(), metavar="DIR", help="the course's directory"
    )
    actions = learn.add_subparsers(title="actions", metavar="ACTION")
    init = actions.add_parser("init", help="write a course: a file a lesson")
    init.add_argument("directory", type=Path, metavar="DIR")
    check = actions.add_parser("check", help="try a lesson on a real container")
    check.add_argument("lesson", nargs="?", default="", help="number or name; else the next one")
    check.add_argument(
        "--hint", action="count", default=0, help="where to look; twice: what; three times: how"
    )
    check.add_argument("--vm", action="store_true", help="in a virtual machine: needs no root")
    solution = actions.add_parser("solution", help="show the engine's own function")
    solution.add_argument("lesson", help="number or name")
    for name, parser in (("init", init), ("check", check), ("solution", solution)):
        parser.set_defaults(action=name)


def run_learn(options: argparse.Namespace) -> int:
    """Print the map of a course, or do what is asked; a lesson that is not done is exit 1."""
    from startkit.learn import course, lesson
    from startkit.learn.lesson import LessonError

    try:
        if options.action == "init":
            made = course.init(options.directory)
            print(f"{len(course.names())} lessons in {made.directory}; begin with its README.md")
        elif options.action == "check":
            outcome = course.Course(options.course).check(
                options.lesson, options.hint, vm=options.vm
            )
            print(outcome.text)
            return int(not outcome.passed)
        elif options.action == "solution":
            print(lesson.find(options.lesson).shown())
        else:
            print(course.Course(options.course).map(color=sys.stdout.isatty()))
    except (LessonError, OSError) as error:
        print(f"startkit learn: {error}", file=sys.stderr)
        return 2
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = parser().parse_args(argv)
    if argv is None:  # as a program: what was begun is undone by whoever began it, as with Ctrl-C
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:  # what was begun has been undone on the way
        return 128 + signal.SIGINT
    except PermissionError as error:
        print(f"startkit: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


if __name__ == "__main__":
    sys.exit(main())
