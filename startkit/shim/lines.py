"""JSON, one object a line, without the json module.

Rule: only what the shim needs. `json` brings `re` and `enum`, a third of the
shim's start; its C half reads and quotes just as well.
"""

from __future__ import annotations

import _json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Rules:
    """What the scanner asks of a decoder: plain Python values, no hooks."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = None
    memo: dict[str, str] = {}  # noqa: RUF012  # the scanner's own


scan: Any = _json.make_scanner(Rules)  # type: ignore[arg-type]  # any object with these names


def parse(text: str) -> Any:
    """Return the JSON value that `text` starts with. Raises ValueError."""
    try:
        return scan(text.lstrip(), 0)[0]
    except StopIteration:
        raise ValueError(f"not JSON: {text[:40]!r}") from None


def read(path: str) -> Any:
    """Return the JSON value in a file. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as file:
        return parse(file.read())


def line(**fields: str | int) -> bytes:
    """Return one JSON object of words and numbers, with its newline."""
    words = (
        f'"{name}":{value if isinstance(value, int) else _json.encode_basestring_ascii(value)}'
        for name, value in fields.items()
    )
    return f"{{{','.join(words)}}}\n".encode()


def last_error(path: str) -> str:
    """Return the message of a runtime log's last line that has one; "" without."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            written = log.read().splitlines()
    except FileNotFoundError:
        return ""
    for text in reversed(written):
        try:
            entry = parse(text)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", ""))
    return ""


def log(message: str, level: str = "error") -> None:
    """Append to shim-log.json in the current directory, the container's state directory."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with open("shim-log.json", "ab", opener=private) as file:
        file.write(line(level=level, msg=message, time=now))


def write(path: str, text: str) -> None:
    """Write a file whole or not at all, 0600: a reader sees the old text or the new."""
    with open(f"{path}.new", "w", encoding="utf-8", opener=private) as file:
        file.write(text)
    os.rename(f"{path}.new", path)


def private(path: str, flags: int) -> int:
    """Open as `open` would, with mode 0600."""
    return os.open(path, flags, 0o600)
