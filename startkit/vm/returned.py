"""What a worker in a machine has written and a run keeps: it comes back as bytes, by name.

Rule: no guest writes to the host. The worker sends its files at its end, over the same channel
as its verdicts; the controller takes those whose names it knows, and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ".hypothesis/examples"  # hypothesis' database, where a run begins
SNAPSHOTS = "golden/snapshots"
NAMES = {
    EXAMPLES: re.compile(r"\.hypothesis/examples/[0-9a-f]+/[0-9a-f]+"),
    SNAPSHOTS: re.compile(r"golden/snapshots/\w+/\w+(\[[\w.-]+\])?\.(json|txt)"),
}


def states(root: Path) -> dict[str, int]:
    """Return the files that there are in these places, each with its time in ns."""
    files = (path for place in NAMES for path in (root / place).glob("*/*"))
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in files}


def pack(root: Path, before: dict[str, int]) -> dict[str, bytes]:
    """Return the files that are new or other ones since `before`."""
    now = states(root)
    return {name: (root / name).read_bytes() for name in now if now[name] != before.get(name)}


def unpack(root: Path, files: dict[str, bytes], *, snapshots: bool) -> None:
    """Write what a worker sent; snapshots only where the run was asked for new ones."""
    places = [EXAMPLES, SNAPSHOTS] if snapshots else [EXAMPLES]
    for name, content in files.items():
        if any(NAMES[place].fullmatch(name) for place in places):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
