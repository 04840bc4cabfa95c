"""The console script `startkit-runc`."""

from __future__ import annotations

import sys

from startkit.runtime import cli


def main() -> int:
    """Run the command line that the process was started with."""
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
