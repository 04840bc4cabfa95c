"""The article's listings, and the one value that a clause takes out of one.

Rule: a selector says where, never what to make of it, but for the closed list
`READINGS`. No regular expressions: whoever reads `golden/` in another language has
to write twenty lines, not an engine.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.judge import golden, union
from startkit.judge.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Selector(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where in a listing. Lines and columns count from 1; words are split at blanks."""

    at: str | None = None  # JSON pointer
    line: int | None = None
    lines: tuple[int, int] | None = None  # first and last
    where: dict[str, str] | None = None  # the rows that hold these words under these headings
    column: int | str | None = None  # a word, by place or by the heading on line 1
    columns_from: int | None = msgspec.field(name="from", default=None)  # words up to the end
    read_as: str | None = msgspec.field(name="as", default=None)  # a name of READINGS

    def selects(self) -> bool:
        """Say whether it points at a value, or at the listing as a whole."""
        return any(part is not None for part in (self.at, self.line, self.lines, self.where))


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """One heading of the article, with how many paragraphs it has."""

    title: str
    line: int
    paragraphs: int


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One listing, and where it stands in the article."""

    file: str
    heading: str
    lines: list[str]
    typed: list[int]
    cut: str


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """golden/article/index.toml."""

    format: int
    article: str
    sha256: str
    lines: int
    names: dict[str, str]
    heading: dict[str, Heading]
    era: dict[str, str]
    listing: list[Listing]


class Article(msgspec.Struct, frozen=True, kw_only=True):
    """The index, and the text of every listing by file name."""

    path: Path
    index: Index
    texts: dict[str, str]

    def value(self, file: str, selector: Selector) -> Any:
        """Return what a selector finds, with tokens. Raises LookupError, ValueError."""
        found = read(self.texts[file], selector)
        found = READINGS[selector.read_as](found) if selector.read_as else found
        return normalise(found, self.index.names)


def load_article(directory: Path) -> Article:
    """Return index and listings of golden/. Raises GoldenError."""
    path = directory / "article" / "index.toml"
    index = golden.read(path, Index)
    texts = {}
    for number, row in enumerate(index.listing):
        key = f"listing[{number}]"
        if row.heading not in index.heading:
            raise golden.GoldenError(path, key, f"no heading {row.heading}", "add it to [heading]")
        try:
            texts[row.file] = (path.parent / row.file).read_text()
        except (OSError, ValueError) as error:
            what = f"{row.file}: {getattr(error, 'strerror', None) or golden.one_line(error)}"
            raise golden.GoldenError(path, key, what, "cut the listing out again") from None
    return Article(path=path, index=index, texts=texts)


def read(text: str, selector: Selector) -> Any:
    """Return a JSON value, a line, a word, or a list of those."""
    if selector.at is not None:
        return point(json.loads(text), selector.at)
    rows = text.splitlines()
    header = rows[0].split()
    if selector.line is not None:
        return cell(rows[selector.line - 1], selector, header)
    chosen = rows
    if selector.lines is not None:
        chosen = rows[selector.lines[0] - 1 : selector.lines[1]]
    wanted = {header.index(name): word for name, word in (selector.where or {}).items()}
    chosen = [
        row for row in chosen if all(row.split()[place] == word for place, word in wanted.items())
    ]
    if not chosen:
        raise LookupError("no line is left")
    return [cell(row, selector, header) for row in chosen]


def cell(row: str, selector: Selector, header: list[str]) -> str | list[str]:
    """Return the part of a line that the selector wants."""
    if selector.columns_from is not None:
        return row.split()[selector.columns_from - 1 :]
    if selector.column is None:
        return row
    name = selector.column
    return row.split()[header.index(name) if isinstance(name, str) else name - 1]


def point(value: Any, pointer: str) -> Any:
    """Return the value at a JSON pointer. Raises LookupError. Source: RFC 6901."""
    for word in pointer.split("/")[1:]:
        key = word.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def accesses(words: list[str]) -> list[str]:
    """Return what lsof's `18u 24w` mean, sorted. `u` is an O_PATH handle here (era 5)."""
    return sorted({"u": "handle", "r": "read", "w": "write"}[word[-1]] for word in words)


def names(lines: list[str]) -> list[str]:
    """Return the names in lines of tree(1), sorted."""
    return sorted(line.split("── ", 1)[1] for line in lines)


def branches(line: str) -> list[str]:
    """Return what each branch of a typed aufs mount may be used for: `rw` or `ro`, top first."""
    data = next(word for word in line.split() if word.startswith("br="))
    return [branch.mode for branch in union.parse_branches(data)]


def mode(text: str) -> str:
    """Return `-rwxr-xr-x` as `0755`."""
    bits = "".join("0" if letter == "-" else "1" for letter in text[1:10])
    return f"{int(bits, 2):04o}"


READINGS: dict[str, Callable[[Any], Any]] = {
    "accesses": accesses,
    "names": names,
    "mode": mode,
    "modes": lambda words: [mode(word) for word in words],
    "sizes": lambda words: [int(word) for word in words],
    "types": lambda rows: [row["type"] for row in rows],
    "destinations": lambda rows: [row["destination"] for row in rows],
    "branches": branches,
}
