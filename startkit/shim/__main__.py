"""The front door of the shim, run by path.

`python -I -S .../shim/__main__.py ID BUNDLE RUNTIME`: isolated (-I) and without site
(-S), Python neither knows where the project lies nor spends the time to look for
packages that a shim does not use.
"""

import os
import sys


def main() -> int:
    """Run one shim to the end of its container; return its exit code."""
    from startkit.shim.shim import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    if not __package__:
        sys.path.insert(0, __file__.rpartition("/startkit/")[0])
    os._exit(main())  # nothing is buffered; closing `exit` is the last word
