"""Liars: evidence with one fact falsified turns one clause red, and no other.

The evidence is `reference.json`, in which every clause conforms; the lies stand in
`lies.toml`.
"""

from __future__ import annotations

import copy
import functools
import tomllib

import msgspec
import offline
import pytest

from startkit.observe.evidence import Seen
from startkit.targets.watch import view

LIES = tomllib.loads((offline.ROOT / "suites" / "harness" / "lies.toml").read_text())
MOMENTS = {"created", "running", "stopped", "again"}
EMPTY = {"host_mounts": [], "leftovers": [], "cgroup_dirs": {}, "fifos": {}}


@functools.cache
def reference():
    return offline.reference()


def spoken(value, names):
    """Return a value with tokens turned into what they stand for in the evidence."""
    if isinstance(value, str):
        for token, text in names.items():
            value = value.replace(token, text)
        return value
    if isinstance(value, list):
        return [spoken(item, names) for item in value]
    if isinstance(value, dict):
        return {key: spoken(item, names) for key, item in value.items()}
    return value


def falsified(value):
    """Return something else of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else "a lie"


def tell(scene, lie):
    """Change one fact of a scene, in place."""
    if "old" in lie:
        assert scene["output"].count(lie["old"]) >= 1
        scene["output"] = scene["output"].replace(lie["old"], lie["new"])
        return
    *way, last = lie["at"]
    here = scene["moments"] if lie["at"][0] in MOMENTS else scene
    for word in way:
        here = here.setdefault(word, EMPTY.get(word)) if isinstance(here, dict) else here[word]
    if lie.get("gone"):
        del here[last]
    elif "add" in lie:
        here[last] = [*here.get(last, []), lie["add"]]
    elif "swap" in lie:
        one, other = lie["swap"]
        here[last][one], here[last][other] = here[last][other], here[last][one]
    else:
        here[last] = lie["say"] if "say" in lie else falsified(here[last])


def liar(clause):
    """Return the reference with the clause's lie in it."""
    seen = reference()
    scene = offline.CLAUSES[clause].scene
    names = view(seen, scene).names()
    document = copy.deepcopy(msgspec.to_builtins(seen))
    told = document["trials" if scene in seen.trials else "scenes"]
    tell(told[scene], spoken(LIES[clause], names))
    return msgspec.convert(document, Seen)


def red(seen):
    """Return the clauses that do not conform, with their status."""
    found = offline.verdicts(seen).values()
    return {one.clause: one.status for one in found if one.status != "conforms"}


def test_everything_conforms_in_the_reference():
    assert red(reference()) == {}


def test_every_clause_has_its_lie():
    assert list(LIES) == list(offline.CLAUSES)


@pytest.mark.parametrize("clause", LIES)
def test_one_lie_turns_one_clause_red(clause):
    assert red(liar(clause)) == {clause: "differs"}
