"""What the runtime reads and says: JSON, error wording, the log.

Rule: every byte of JSON passes through here. `json` itself would cost 5 ms at each
call of the runtime (it imports `re` and `enum`), so the C halves of it are used alone;
they are the same scanner and encoder.
"""

from __future__ import annotations

import os
import time
from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class ContainerError(Exception):
    """What went wrong, in the words that the user of the command line gets to read."""


def refuse_constant(word: str) -> NoReturn:
    """Refuse NaN and Infinity: they are Python's, not JSON's."""
    raise ValueError(f"{word} is not JSON")


class Grammar:
    """The settings of `json.JSONDecoder`, which the scanner reads from its argument."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(refuse_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 (the scanner clears it after each use)


def unserialisable(value: object) -> NoReturn:
    """Refuse what has no JSON."""
    raise TypeError(f"{value!r} has no JSON")


scan = make_scanner(Grammar)  # type: ignore[arg-type]
encode = make_encoder(
    None, unserialisable, encode_basestring_ascii, None, ":", ",", False, False, False
)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError with the place of the mistake."""
    text = text.strip(" \t\r\n")
    try:
        value, end = scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:  # the scanner looks for json.decoder's error, which nobody has imported
        import json

        json.loads(text)
        raise
    if end != len(text):
        raise ValueError(f"something follows the JSON value at character {end}")
    return value


def json_text(value: object) -> str:
    """Return `value` as JSON on one line."""
    return "".join(encode(value, 0))


def reason(error: BaseException) -> str:
    """Return an exception's text as runtimes word it: `mount /x: no such file or directory`."""
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {words}" if error.filename else words
    if isinstance(error, ContainerError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def told(said: bytes) -> str:
    """Return what init told of its failure: words, or words, NUL and -errno in eight bytes."""
    words, code = said[:-9], -int.from_bytes(said[-8:], "little", signed=True)
    if said[-9:-8] == b"\0" and 0 < code < 4096:
        return words.decode(errors="replace") + os.strerror(code).lower()
    return said.decode(errors="replace")


def say(text: str, to: int = 1) -> None:
    """Write a line to stdout (or stderr, `to=2`) at once: a fork has no exit to flush at."""
    if text:
        os.write(to, text.encode(errors="surrogateescape") + b"\n")


class Log:
    """Where messages go: always errors to stderr, and all of them to `path` when there is one."""

    def __init__(self, path: str | None = None, form: str = "text", debug: bool = False) -> None:
        self.path, self.form, self.debug_wanted = path, form, debug

    def write(self, level: str, message: str) -> None:
        """Append one line to the log. A log that cannot be written never stops the runtime."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.form == "json":
            line = json_text({"level": level, "msg": message, "time": now})
        else:
            line = f'time="{now}" level={level} msg={encode_basestring_ascii(message)}'
        if self.path is None:
            say(line if level != "error" else message, to=2)
            return
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            say(f"log {reason(error)}", to=2)
            return
        os.write(fd, line.encode() + b"\n")
        os.close(fd)

    def debug(self, message: str) -> None:
        """Log a message for people who look for a fault; only with --debug."""
        if self.debug_wanted:
            self.write("debug", message)

    def warning(self, message: str) -> None:
        """Log what was left undone on purpose."""
        self.write("warning", message)

    def error(self, message: str) -> None:
        """Log why the command failed, and tell stderr."""
        self.write("error", message)
        if self.path is not None:
            say(message, to=2)
