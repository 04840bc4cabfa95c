"""Ids and places of one run as tokens, so that runs and the article compare.

Rule: `<ID>` and its like are put in for the longest text first, in one pass, and never
inside a token: doing it twice changes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKEN = r"<[A-Z0-9]+>"
# /var/lib/docker is no part of /var/lib/docker2, nor of /var/lib/docker<ID>
PATH_END = r"(?![\w.<-])"


def normalise(value: Any, names: Mapping[str, str]) -> Any:
    """Return plain data with tokens in place of the names; sets become sorted lists."""
    return walk(plain(value), replacer(names))


def plain(value: Any) -> Any:
    """Return lists, dicts, texts and numbers only. Raises TypeError for what is no data."""
    if isinstance(value, (set, frozenset)):
        return sorted(msgspec.to_builtins(value), key=repr)
    return msgspec.to_builtins(value)


def replacer(names: Mapping[str, str]) -> Callable[[str], str]:
    """Return the function that puts tokens into a text."""
    tokens: dict[str, str] = {}
    for token, text in names.items():
        for spelling in spellings(text):
            tokens.setdefault(spelling, token)
    texts = sorted(tokens, key=lambda text: (-len(text), text))
    parts = [re.escape(text) + (PATH_END if text.startswith("/") else "") for text in texts]
    pattern = re.compile("|".join([TOKEN, *parts]))
    return lambda text: pattern.sub(lambda found: tokens.get(found[0], found[0]), text)


def spellings(text: str) -> list[str]:
    """Return how a name is written; /var/run is /run everywhere since 2012."""
    if text.startswith("/run/"):
        return [text, f"/var{text}"]
    return [text] if text else []


def walk(value: Any, replace: Callable[[str], str]) -> Any:
    """Return a value with every text in it replaced, keys included."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, (list, tuple)):
        return [walk(item, replace) for item in value]
    if isinstance(value, dict):
        return {walk(key, replace): walk(item, replace) for key, item in value.items()}
    return value
