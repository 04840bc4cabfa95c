"""`startkit vm`: doctor, fetch, shell, run, python."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from startkit.vm import CGROUPS, VmError

if TYPE_CHECKING:
    from collections.abc import Callable

NO_ANSWER = 125


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `startkit vm` to a command line."""
    vm = commands.add_parser("vm", help="virtual machines: a root that harms nobody")
    kinds = vm.add_subparsers(title="commands", metavar="COMMAND", required=True)
    doctor = kinds.add_parser("doctor", help="what is here, what is missing, how to get it")
    doctor.set_defaults(run=examine)
    fetch = kinds.add_parser("fetch", help="download a kernel into the cache directory")
    fetch.set_defaults(run=get_kernel)
    image = kinds.add_parser("image", help="make a root with the engines of a Debian release")
    image.add_argument("release", help="bookworm, trixie or sid")
    image.set_defaults(run=make_image)
    for name, says in (
        ("run", "run a command in a machine of its own"),
        ("python", "run Python there, as --tx popen//python=... of pytest-xdist asks for"),
        ("shell", "open a shell there"),
    ):
        one = kinds.add_parser(name, help=says)
        add_settings(one)
        one.add_argument("words", nargs=argparse.REMAINDER, metavar="...")
        one.set_defaults(run=in_machine, first=name)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what a machine can be asked to be."""
    parser.add_argument("--cgroup", choices=CGROUPS, default="v2", help="its hierarchies (v2)")
    parser.add_argument("--kernel", type=Path, metavar="PATH", help="an uncompressed kernel")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="(1024)")
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="(1)")
    parser.add_argument("--share", type=Path, metavar="DIR", help="a directory it can write")
    parser.add_argument("--root", type=Path, metavar="DIR", help="its root (the host's)")
    parser.add_argument("--timeout", type=float, default=0, metavar="SECONDS", help="(none)")
    parser.add_argument(
        "--silence", type=float, default=60, metavar="SECONDS", help="end it when it hangs (60)"
    )


def examine(options: argparse.Namespace) -> int:
    """Print what a machine needs; exit 1 where something is missing."""
    from startkit.vm import doctor

    found = doctor.examine()
    for one in found:
        print(f"{one.name:20} {one.state}" + (f": {one.help}" if one.help else ""))
    return int(any(one.help for one in found))


def get_kernel(options: argparse.Namespace) -> int:
    """Download, print where it is."""
    from startkit.vm import kernel

    return show("fetch", lambda: kernel.fetch().image)


def make_image(options: argparse.Namespace) -> int:
    """Make a root, print where it is."""
    from startkit.vm import image

    return show("image", lambda: image.make(options.release))


def show(command: str, make: Callable[[], Path]) -> int:
    """Print where something has been made, or why not."""
    try:
        print(make())
    except (OSError, VmError) as error:
        print(f"startkit vm {command}: {error}", file=sys.stderr)
        return 1
    return 0


def in_machine(options: argparse.Namespace) -> int:
    """Run the command; exit as it does, or 125 where there is no machine."""
    from startkit.vm import machine, workers

    words = [word for word in options.words[:1] if word != "--"] + options.words[1:]
    first = {"python": [sys.executable], "shell": ["/bin/sh", "-i"], "run": []}[options.first]
    settings = machine.Settings(
        cgroup=options.cgroup,
        memory_mib=options.memory,
        cpus=options.cpus,
        kernel=options.kernel,
        shared=options.share.resolve() if options.share else None,
        root=options.root,
        timeout_s=options.timeout,
        silence_s=options.silence,
    )
    try:
        workers.check_room(1, settings)
        return machine.run([*first, *words], settings)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (OSError, VmError) as error:
        print(f"startkit vm {options.first}: {error}", file=sys.stderr)
        return NO_ANSWER
