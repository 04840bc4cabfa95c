"""What all of this room draws from: odd values, documents with some of them, edited bytes.

One mechanism for each kind of input: a JSON document gets values exchanged at its places
(`altered`), a typed one is drawn from its type (`typed`), bytes are edited (`edited`).
"""

from __future__ import annotations

import copy
import types
import typing

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

# What a live daemon has been asked before counts, too: a failure says all of it, unshrunk.
THOROUGH = settings().max_examples >= 1000
LIVE = settings(
    max_examples=1000 if THOROUGH else 12,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

WRONG = [None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, 1.5, 1e308, "", "\0", "\ud800", "\udc80",
         "x", "é" * 99,
         "/", "..", "a=b", [], [[]], [None], {},
         {"": 1}, {"x": None}]  # fmt: skip
WORDS = ["one", "two", "none", "host", "private", "container:one", "startkit/base", "KILL", "9",
         "A=1", "NET_ADMIN", "ALL", "nofile", "10.0.0.1", "h:10.0.0.1", "/dev/null", "rwm", "0",
         "/startkit-bound:/y:ro", "/y", "size=1m", "no-new-privileges", "no", "json-file", "runc",
         "net.ipv4.nothing", "root", "65534:65534", "/../..", "..%2f", "a\nb", "\0", "\x1b[2J"]  # fmt: skip
TEXT = st.sampled_from(WORDS) | st.text(max_size=8)
NUMBERS = st.sampled_from([0, 1, -1, 2, 4096, 2**23, 2**31, 2**63 - 1]) | st.integers()
PLAIN = {str: TEXT, int: NUMBERS, bool: st.booleans(), types.NoneType: st.none()}
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
GONE = object()  # stands for a value that is taken out


def none(wrong, asked):
    """Fail with one line for each thing that is wrong; what was asked stands in the output."""
    if wrong:
        print(*wrong, *asked, sep="\n")  # noqa: T201 -- what does not come again, too
        pytest.fail("\n".join(map(str, wrong)), pytrace=False)


def typed(kind):
    """Return a strategy of JSON values of a type, msgspec's structs among them."""
    arguments = typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: typed(field.type) for field in msgspec.structs.fields(kind)}
        return st.fixed_dictionaries({}, optional=fields)
    if kind in PLAIN:
        return PLAIN[kind]
    if typing.get_origin(kind) is list:
        return st.lists(typed(arguments[0]), max_size=3)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(TEXT, typed(arguments[1]), max_size=3)
    return st.one_of(map(typed, arguments)) if arguments else JSON


def places(value, path=()):
    """Return the path of every value in a JSON document, as tuples of keys."""
    inner = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inner = dict(enumerate(value))
    found = [path] if path else []
    for key, entry in inner.items():
        found += places(entry, (*path, key))
    return found


def altered(document, path, value):
    """Return a document with one value exchanged, or with GONE removed, where there is one."""
    made = copy.deepcopy(document)
    parent = made
    try:
        for key in path[:-1]:
            parent = parent[key]
        if value is GONE:
            del parent[path[-1]]
        else:
            parent[path[-1]] = value
    except (LookupError, TypeError):
        pass  # an earlier change took it away
    return made


@st.composite
def odd(draw, document, changes=3, keep=()):
    """Draw a document of which up to some values are gone or wrong, none of them below `keep`."""
    free = [path for path in places(document) if path[: len(keep)] != keep or not keep]
    for path in draw(st.lists(st.sampled_from(free), max_size=changes)):
        document = altered(document, path, draw(st.sampled_from([GONE, *WRONG])))
    return document


def edited(data, kind, at, token):
    """Return bytes with one edit at a place, in 65536ths: an insertion, a flip, a cut ..."""
    where = at * len(data) >> 16
    head, tail = data[:where], data[where:]
    return {
        "insert": lambda: head + token + tail,
        "flip": lambda: head + bytes([tail[0] ^ 1 << at % 8]) + tail[1:] if tail else data,
        "cut": lambda: head,
        "drop": lambda: head + tail[len(token) :],
        "repeat": lambda: head + head[-len(token) :] + tail,
        "put": lambda: head + token + tail[len(token) :],
    }[kind]()


@st.composite
def mangled(draw, data, tokens):
    """Draw bytes that were edited up to four times."""
    kinds = st.sampled_from(["insert", "flip", "cut", "drop", "repeat", "put"])
    edit = st.tuples(kinds, st.integers(0, 2**16 - 1), st.sampled_from(tokens))
    for one in draw(st.lists(edit, min_size=1, max_size=4)):
        data = edited(data, *one)
    return data
