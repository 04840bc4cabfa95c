"""Reading the files of golden/: one way to be wrong, one line that says how.

Rule: whatever is wrong with a file of `golden/` becomes a GoldenError that names file,
key, what is wrong and what to do.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
# in the article's order; a file of golden/clauses/ and one of suites/conformance/ each
AREAS = (
    *("lifecycle", "rootfs", "files", "bundle", "cgroup", "io", "containerd", "process"),
    "runtime",
)

T = TypeVar("T")


class GoldenError(Exception):
    """One line: `file: key: what: what to do`."""

    def __init__(self, path: Path, key: str, what: str, todo: str) -> None:
        self.path, self.key, self.what, self.todo = path, key, what, todo
        super().__init__(f"{path}: {key}: {what}: {todo}")


def read(path: Path, type: type[T]) -> T:
    """Return a TOML file as a typed document. Raises GoldenError."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise GoldenError(path, "file", str(error.strerror), "add the file") from None
    except ValueError as error:
        raise GoldenError(path, "file", one_line(error), "mend the TOML") from None
    if document.get("format") != FORMAT:
        found = document.get("format", "none")
        raise GoldenError(path, "format", f"{found} is not {FORMAT}", f"write format = {FORMAT}")
    try:
        return msgspec.convert(document, type)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `")
        key = place.rstrip("`") or "file"
        raise GoldenError(path, key, what, "see README.md beside it for the keys") from None


def one_line(error: Exception) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split())
