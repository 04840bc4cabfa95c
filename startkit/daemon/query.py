"""What follows the question mark, read strictly: a bad value is a 400 that names its field."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import msgspec

from startkit.daemon.errors import BadParameter

TRUE, FALSE = (
    ("1", "true", "True", "TRUE", "t", "T"),
    ("", "0", "false", "False", "FALSE", "f", "F"),
)
# A filter's values: a list, or since API 1.22 the keys of a map to booleans.
Filters = dict[str, list[str] | dict[str, bool]]
UNIX_TIME = re.compile(r"-?\d{1,12}(\.\d{1,9})?")


class Query:
    """The parameters of one request; the first of a name counts, `many` returns all."""

    def __init__(self, text: str) -> None:
        self.pairs = parse_qsl(text, keep_blank_values=True, encoding="utf-8", errors="replace")

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter as it is."""
        return next((value for key, value in self.pairs if key == name), default)

    def many(self, name: str) -> list[str]:
        """Return every value of a parameter that is given more than once."""
        return [value for key, value in self.pairs if key == name]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean. Raises BadParameter."""
        values = self.many(name)
        if not values:
            return default
        if values[0] not in TRUE + FALSE:
            raise BadParameter(f"invalid boolean for {name}: {values[0]!r}")
        return values[0] in TRUE

    def number(self, name: str) -> int | None:
        """Return an integer, None where it is not given or empty. Raises BadParameter."""
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise BadParameter(f"invalid integer for {name}: {text!r}")
        return int(text)

    def moment(self, name: str) -> float | None:
        """Return a Unix time in seconds, None where it is not given. Raises BadParameter.

        Clients send `seconds[.nanoseconds]`; people and scripts send RFC 3339.
        """
        text = self.text(name)
        if not text:
            return None
        try:
            if UNIX_TIME.fullmatch(text):
                return float(text)
            from datetime import datetime

            # fromisoformat knows no more than six digits of a second
            parsed = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
            return parsed.astimezone().timestamp()
        except (ValueError, OverflowError):
            raise BadParameter(f"invalid time for {name}: {text!r}") from None

    def filters(self) -> dict[str, list[str]]:
        """Return `filters`, in either form, as lists. Raises BadParameter."""
        text = self.text("filters")
        if not text:
            return {}
        try:
            raw = msgspec.json.decode(text, type=Filters)
        except msgspec.DecodeError as error:
            raise BadParameter(f"invalid filters: {error}") from None
        return {
            key: values if isinstance(values, list) else [v for v, on in values.items() if on]
            for key, values in raw.items()
        }
