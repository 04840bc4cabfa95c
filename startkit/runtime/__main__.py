"""The program `startkit-runc`, without the parts of Python that it can do without."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    import gc

    gc.disable()  # see cli.main; importing makes objects as well
    from startkit.runtime import cli

    # Nothing is left to be flushed, and taking an interpreter down is 4 ms.
    os._exit(cli.main(sys.argv[1:]))
