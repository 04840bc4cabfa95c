"""Names for containers that were given none: `calm_hopper`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

LEFT = [
    "agile",
    "brave",
    "bright",
    "calm",
    "clever",
    "cosmic",
    "deft",
    "eager",
    "early",
    "exact",
    "fair",
    "fine",
    "frank",
    "gentle",
    "glad",
    "keen",
    "kind",
    "lively",
    "lucid",
    "mild",
    "neat",
    "noble",
    "plain",
    "proud",
    "quick",
    "quiet",
    "ready",
    "sharp",
    "sound",
    "steady",
    "sunny",
    "swift",
    "tidy",
    "true",
    "vivid",
    "warm",
    "wise",
    "witty",
    "young",
    "zesty",
]
RIGHT = [
    "babbage",
    "backus",
    "boole",
    "church",
    "curry",
    "diffie",
    "dijkstra",
    "engelbart",
    "floyd",
    "goldberg",
    "hamilton",
    "hamming",
    "hellman",
    "hoare",
    "hopper",
    "huffman",
    "iverson",
    "johnson",
    "kay",
    "kernighan",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "mccarthy",
    "mcilroy",
    "milner",
    "minsky",
    "naur",
    "neumann",
    "perlis",
    "pike",
    "ritchie",
    "shannon",
    "stallman",
    "sutherland",
    "tanenbaum",
    "thompson",
    "turing",
    "wirth",
]


def draw(taken: Container[str]) -> str:
    """Return a name that is not in `taken`; a number is added only after ten tries."""
    for tries in range(10_000):
        name = f"{secrets.choice(LEFT)}_{secrets.choice(RIGHT)}"
        if tries >= 10:
            name += str(secrets.randbelow(10 ** (1 + tries // 10)))
        if name not in taken:
            return name
    raise AssertionError("cannot happen: 10,000 drawn names are all taken")
