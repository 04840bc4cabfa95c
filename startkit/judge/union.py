"""What a union of branches shows: aufs' rules, without aufs.

Rule: pure. A branch is a tree of names; `=ro+wh` honours the whiteouts in it, plain `=ro`
takes them for names like any other. That is why the article's own mount, which says `=ro`,
has more in it than Docker's. Source: article, heading on the rootfs; era.md section 2.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Tree = Mapping[str, str]  # relative path -> kind: "directory", "file", ...; parents are in it

WHITEOUT, OWN, OPAQUE = ".wh.", ".wh..wh.", ".wh..wh..opq"
HONOURS = {"rw": True, "ro+wh": True, "ro": False}


class Branch(NamedTuple):
    """One branch as the mount data names it. `mode`: rw, ro or ro+wh."""

    path: str
    mode: str


def parse_branches(data: str) -> list[Branch]:
    """Return the branches of aufs mount data such as `br:/a=rw:/b=ro+wh,xino=/x`, topmost first.

    Raises ValueError for an option list without branches, and for a mode that is not one.
    """
    for option in data.split(","):
        if option.startswith(("br:", "br=")):
            found = [Branch(*word.rpartition("=")[::2]) for word in option[3:].split(":")]
            wrong = [branch.mode for branch in found if branch.mode not in HONOURS]
            if wrong:
                raise ValueError(f"{option}: {wrong[0]!r} is none of {' '.join(HONOURS)}")
            return found
    raise ValueError(f"{data}: no br: in it")


def shown(branches: Sequence[tuple[Tree, str]]) -> dict[str, str]:
    """Return what a union shows of trees with their modes, topmost first: path -> kind."""
    found: dict[str, str] = {}
    gone: set[str] = set()  # hidden from the branches below, with all that is in it
    emptied: set[str] = set()  # opaque: only what is in it is hidden
    for tree, mode in branches:
        gone_now, emptied_now = set(), set()
        for path in sorted(tree):  # parents first
            above = set(ancestors(path))
            if above & (gone | emptied):
                continue
            parent, name = os.path.split(path)
            if not name.startswith(WHITEOUT) or not HONOURS[mode]:
                if path in gone:
                    continue
                found.setdefault(path, tree[path])
                if tree[path] != "directory":  # it ends what a directory above it gathers
                    gone_now.add(path)
            elif name == OPAQUE:
                emptied_now.add(parent)
            elif not name.startswith(OWN):
                gone_now.add(os.path.join(parent, name.removeprefix(WHITEOUT)))
        gone |= gone_now
        emptied |= emptied_now
    return found


def ancestors(path: str) -> Iterator[str]:
    """Yield the directories that a path lies in, nearest first; "" is the root."""
    while path:
        path = os.path.dirname(path)
        yield path


def tree_counts(names: Tree) -> tuple[int, int]:
    """Return (directories, files) as tree(1) counts: without names that begin with a dot."""
    plain = [path for path in names if not any(part[0] == "." for part in path.split("/"))]
    directories = sum(names[path] == "directory" for path in plain)
    return directories, len(plain) - directories
