"""Figures beside another program's: both measured in one run, in turns, on the same work.

Rule: a figure is a median, the first round only warms the caches, and a ratio is to the
last row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class BenchError(Exception):
    """Why there is no figure, in one line."""


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as text in columns, the head first."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(word.ljust(w) for word, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
