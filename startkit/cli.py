"""`startkit`: the command line for people.

Rule: a command parses, calls one function and prints; each imports what it needs only
when it runs, so that `--help` is quick. Exit 0 as expected, 1 not so, 2 bad usage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from startkit import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; each command carries its function as `run`."""
    made = argparse.ArgumentParser(
        prog="startkit", description="What happens behind docker start, executable."
    )
    made.add_argument("--version", action="version", version=f"startkit {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_image(commands)
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = parser().parse_args(argv)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
