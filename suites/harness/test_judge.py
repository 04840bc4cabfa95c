"""The judge itself: verdicts, dialects, names, and what they come to."""

from __future__ import annotations

import msgspec
import offline
import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.judge import dialect as dialects
from startkit.judge.clause import Clause, Source
from startkit.judge.golden import GoldenError
from startkit.judge.judge import UNSET, judge
from startkit.judge.listing import mode
from startkit.judge.needs import unmet
from startkit.judge.normalise import normalise
from startkit.judge.verdict import WORST, Verdict, exit_code, worst

NAMES = {
    "<ID>": "ab" * 32,
    "<ID12>": "ab" * 6,
    "<ROOT>": "/tmp/x/data",
    "<RUN>": "/run/docker",
    "<ROOTFS>": "/tmp/x/data/overlay2/layer/merged",
}


def clause(level="ARTICLE", expected=("a", "b"), **more):
    expected = list(expected) if isinstance(expected, tuple) else expected
    return Clause(
        id="io.x",
        title="X is a and b",
        level=level,
        source=Source(era="5"),
        scene="plain",
        look="ls",
        hint="none",
        killed_by="x",
        expected=expected,
        **more,
    )


def dialect(seen=None, *, kind="difference", clause_id="io.x", link=""):
    entry = dialects.Entry(clause=clause_id, seen=seen, reason="so it is", link=link)
    lists = {"difference": [], "defect": []} | {kind: [entry]}
    return dialects.Dialect(format=1, name="e-1", engine="e", version="1", **lists)


def status(observed, said=None, **more):
    return judge(clause(**more), observed, said, names=NAMES).status


def verdict(status, clause_id="io.x"):
    return Verdict(clause=clause_id, status=status, expected=None, observed=None)


@pytest.mark.parametrize(
    ("observed", "said", "expected"),
    [
        (["a", "b"], None, "conforms"),
        (("a", "b"), None, "conforms"),
        (["b", "a"], None, "differs"),
        (["a", "b"], dialect(["c"], clause_id="io.other"), "conforms"),
        (["c"], dialect(["c"]), "expected-difference"),
        (["a", "b"], dialect(["c"]), "stale"),
        (["d"], dialect(["c"]), "stale"),
        (["c"], dialect(["c"], kind="defect"), "expected-difference"),
        (object(), None, "broken"),
    ],
    ids=["same", "tuple", "order", "other", "told", "unexpected", "otherwise", "defect", "no-data"],
)
def test_a_verdict_follows_from_value_and_dialect(observed, said, expected):
    assert status(observed, said) == expected


@pytest.mark.parametrize(
    ("seen", "observed", "expected"),
    [
        (["c", "d"], ["d", "c"], "expected-difference"),
        (["c", "d"], ["c", "d"], "expected-difference"),
        (["c", "d"], ["c"], "stale"),
        (["c", "d"], ["d", "c", "c"], "stale"),
        (["c", 1], [True, "c"], "stale"),
        (["b", "a"], ["a", "b"], "stale"),  # what the clause says
        ("cd", ["c", "d"], "stale"),
    ],
)
def test_an_order_that_changes_is_told_so(seen, observed, expected):
    said = dialect(seen)
    loose = [msgspec.structs.replace(said.difference[0], any_order=True)]

    assert status(observed, msgspec.structs.replace(said, difference=loose)) == expected
    assert expected == "stale" or status(["d", "c"], said) == "stale"


@pytest.mark.parametrize(
    ("told", "observed", "expected"),
    [
        ("/run/<...>/x", "/run/a/b/x", "expected-difference"),
        ("/run/<...>/x", "/run//x", "expected-difference"),
        ("/run/<...>/x", "/run/x", "stale"),
        ("/run/<...>/x", "/run/a/x\n", "stale"),
        ("a.c<...>", "abc", "stale"),
        ("<...>", "", "expected-difference"),
        ("<...>", 1, "stale"),
        ("<...>", ["a", "b"], "stale"),  # what the clause says
        (["c", "<...>", "d"], ["c", "d"], "expected-difference"),
        (["c", "<...>", "d"], ["c", "x", "y", "d"], "expected-difference"),
        (["c", "<...>", "d"], ["c", "x", "d", "y"], "stale"),
        (["<...>", "c"], [1, ["x"], "c"], "expected-difference"),
        (["c", "<...>"], ["c"], "expected-difference"),
        ("c<...>d", "c\n\nd", "expected-difference"),
        (["c/<...>", "d"], ["c/1", "d"], "expected-difference"),
        (["c", "d"], ["c", "d", "e"], "stale"),
        (["c", "d", "e"], ["c", "d"], "stale"),
        ([1], [True], "stale"),
    ],
)
def test_an_entry_leaves_open_what_hangs_on_the_engines_start(told, observed, expected):
    assert status(observed, dialect(told)) == expected


def test_an_entry_without_a_value_says_that_nothing_is_seen():
    entry = dialects.Entry(clause="io.x", reason="so it is")
    said = msgspec.structs.replace(dialect(), difference=[entry])

    assert [status(None, said), status("c", said)] == ["expected-difference", "stale"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, 1),
        (False, 0),
        ([True], [1]),
        ({"a": 0}, {"a": False}),
        ("1", 1),
        ({"a": None}, {}),
        ({}, {"a": None}),
        ({"a": None}, {"b": None}),
    ],
)
def test_truth_is_no_number_and_nothing_no_null(one, other):
    assert status(one, expected=other) == "differs"
    assert status(one, expected=one) == "conforms"


def test_a_computed_value_comes_from_the_test():
    one = clause(expected=UNSET, computed="itself")

    assert judge(one, "a", None, want="a", names=NAMES).status == "conforms"
    assert judge(one, "a", None, want="b", names=NAMES).status == "differs"


@pytest.mark.parametrize(("expected", "want"), [(UNSET, UNSET), (("a", "b"), "a")])
def test_a_test_that_gives_the_wrong_half_is_broken(expected, want):
    made = judge(clause(expected=expected), "a", None, want=want, names=NAMES)

    assert (made.status, made.reason.startswith("the test gives")) == ("broken", True)


def test_the_same_evidence_gives_the_same_verdicts():
    seen = offline.reference()

    assert offline.verdicts(seen) == offline.verdicts(seen)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ab" * 32, "<ID>"),
        ("ab" * 6, "<ID12>"),
        (f"/docker/{'ab' * 32}", "/docker/<ID>"),
        (f"/tmp/x/data/containers/{'ab' * 32}/hosts", "<ROOT>/containers/<ID>/hosts"),
        ("/tmp/x/data2", "/tmp/x/data2"),
        ("/tmp/x/data.old", "/tmp/x/data.old"),
        ("/var/run/docker/libcontainerd", "<RUN>/libcontainerd"),
        ("/run/docker", "<RUN>"),
        ("/tmp/x/data/overlay2/layer/merged", "<ROOTFS>"),
        ("<ID> of a text", "<ID> of a text"),
    ],
)
def test_a_name_becomes_its_token(text, tokens):
    assert normalise({text: [text]}, NAMES) == {tokens: [tokens]}


def test_a_name_is_not_looked_for_inside_a_token():
    assert normalise("<ROOT>/ROOT", {"<ID>": "ROOT"}) == "<ROOT>/<ID>"


pieces = st.sampled_from([*NAMES.values(), *NAMES, "/", "a", "ab", "/var", "<", ">", "\n"])
texts = st.lists(pieces, max_size=6).map("".join)
documents = st.recursive(
    st.one_of(texts, st.booleans(), st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=10,
)


@given(documents)
def test_normalising_twice_changes_nothing(document):
    once = normalise(document, NAMES)

    assert normalise(once, NAMES) == once


@given(st.sets(texts))
def test_a_set_becomes_a_sorted_list(words):
    found = normalise(words, {})

    assert (set(found), found) == (words, sorted(found, key=repr))


@pytest.mark.parametrize(
    ("engine", "version", "name"),
    [
        ("e", "2.9", None),
        ("e", "3.0", "three"),
        ("e", "3.10.1-dev", "three-ten"),
        ("e", "9", "three-ten"),
        ("e", "10", "three-ten"),
        ("f", "9", None),
    ],
)
def test_the_youngest_dialect_that_is_not_younger_is_taken(tmp_path, engine, version, name):
    (tmp_path / "dialects").mkdir()
    for word, number in (("three", "3.0"), ("three-ten", "3.10")):
        text = f'format = 1\nname = "{word}"\nengine = "e"\nversion = "{number}"\n'
        (tmp_path / "dialects" / f"{word}.toml").write_text(text)
    chosen = dialects.choose(tmp_path, engine, version)

    assert (chosen.name if chosen else None) == name


def test_a_dialect_takes_what_it_does_not_say_from_the_one_before(tmp_path):
    (tmp_path / "dialects").mkdir()
    head = 'format = 1\nname = "{0}"\nengine = "e"\nversion = "{0}"\n'
    entry = '[[difference]]\nclause = "io.{}"\nseen = "{}"\nreason = "r"\n'
    for name, after, entries in (
        ("1", "", [("x", "old"), ("y", "old")]),
        ("2", 'after = "1"\n', [("x", "new"), ("z", "new")]),
        ("3", 'after = "2"\n', []),
    ):
        text = head.format(name) + after + "".join(entry.format(*one) for one in entries)
        (tmp_path / "dialects" / f"{name}.toml").write_text(text)

    found = dialects.choose(tmp_path, "e", "3").difference
    said = sorted((one.clause, one.seen) for one in found)
    assert said == [("io.x", "new"), ("io.y", "old"), ("io.z", "new")]


def test_what_an_engine_has_mended_is_taken_out_of_the_dialect_before(tmp_path):
    (tmp_path / "dialects").mkdir()
    head = 'format = 1\nname = "{0}"\nengine = "e"\nversion = "{0}"\n'
    entry = '[[difference]]\nclause = "io.x"\nseen = 1\nreason = "r"\n'
    mended = '[[mended]]\nclause = "io.{}"\nreason = "r"\nsince = "2"\n'
    (tmp_path / "dialects" / "1.toml").write_text(head.format("1") + entry)
    new = tmp_path / "dialects" / "2.toml"
    new.write_text(head.format("2") + 'after = "1"\n' + mended.format("x"))

    assert dialects.choose(tmp_path, "e", "1").entry("io.x")
    assert not dialects.choose(tmp_path, "e", "2").entry("io.x")
    new.write_text(head.format("2") + 'after = "1"\n' + mended.format("y"))
    with pytest.raises(GoldenError, match=r"io\.y: mended, and never differed"):
        dialects.load_dialects(tmp_path)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [(["a", "b"], "conforms"), (["c"], "expected-difference"), (["d"], "stale")],
)
def test_a_race_may_be_won(observed, expected):
    said = dialect(["c"])
    raced = [msgspec.structs.replace(said.difference[0], sometimes=True)]

    assert status(observed, msgspec.structs.replace(said, difference=raced)) == expected


@pytest.mark.parametrize(("cgroup", "holds"), [("v2", True), ("hybrid", False), ("v1", False)])
def test_an_entry_holds_on_the_hosts_that_it_needs(cgroup, holds):
    entry = dialects.Entry(clause="io.x", reason="so it is", needs=["cgroup-v2"])
    said = msgspec.structs.replace(dialect(), difference=[entry])
    seen = offline.reference()
    seen = msgspec.structs.replace(seen, host=msgspec.structs.replace(seen.host, cgroup=cgroup))

    assert bool(said.on(seen).entry("io.x")) is holds


def test_a_dialect_after_none_is_refused(tmp_path):
    (tmp_path / "dialects").mkdir()
    text = 'format = 1\nname = "1"\nengine = "e"\nversion = "1"\nafter = "0"\n'
    (tmp_path / "dialects" / "1.toml").write_text(text)

    with pytest.raises(GoldenError, match="after: no dialect 0"):
        dialects.load_dialects(tmp_path)


@pytest.mark.parametrize(
    ("level", "said", "says"),
    [
        ("ARTICLE", dialect("c", clause_id="io.nowhere"), "no such clause"),
        ("MUST", dialect("c"), "no dialect excuses a MUST"),
        ("MUST", dialect("c", kind="defect"), "a defect without a link"),
        ("SHOULD", dialect("c", kind="defect", link="https://e/1"), "not a MUST"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(tmp_path, level, said, says):
    with pytest.raises(GoldenError, match=says):
        dialects.check(said, {"io.x": clause(level)}, tmp_path / "e-1.toml")


def test_a_lack_of_an_unknown_word_is_refused(tmp_path):
    lack = dialects.Lack(what="wheels", reason="r", evidence="e")
    said = dialects.Dialect(format=1, name="e-1", engine="e", version="1", lack=[lack])

    with pytest.raises(GoldenError, match="wheels: nothing that an engine may lack: one of cont"):
        dialects.check(said, {}, tmp_path / "e-1.toml")


@pytest.mark.parametrize(
    ("level", "said"),
    [("SHOULD", dialect("c")), ("MUST", dialect("c", kind="defect", link="https://e/1"))],
)
def test_an_entry_that_fits_is_taken(tmp_path, level, said):
    dialects.check(said, {"io.x": clause(level)}, tmp_path / "e-1.toml")


@pytest.mark.parametrize("place", range(len(WORST)))
def test_the_worst_verdict_wins(place):
    assert worst(verdict(one) for one in WORST[: place + 1]) == WORST[place]


@pytest.mark.parametrize(
    ("statuses", "level", "strict", "code"),
    [
        (["conforms", "not-applicable", "expected-difference"], "MUST", False, 0),
        (["conforms", "no-evidence"], "SHOULD", False, 3),
        (["differs", "no-evidence"], "MUST", False, 1),
        (["conforms", "differs"], "MUST", False, 1),
        (["conforms", "differs"], "ARTICLE", False, 1),
        (["conforms", "differs"], "SHOULD", False, 0),
        (["conforms", "differs"], "SHOULD", True, 1),
        (["conforms", "stale"], "SHOULD", False, 1),
        (["differs", "stale", "broken"], "MUST", False, 3),
        (["no-evidence", "not-applicable"], "MUST", False, 3),
        ([], "MUST", False, 3),
    ],
)
def test_an_exit_status_follows_from_the_verdicts(statuses, level, strict, code):
    verdicts = [verdict(one) for one in statuses]

    assert exit_code(verdicts, {"io.x": clause(level)}, strict=strict) == code


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ([], None),
        (["overlay2"], None),
        (["aufs"], "the layers are not in aufs"),
        (["cgroup-v2"], "the host has not cgroup v2 alone"),
        (["fifos"], None),
    ],
)
def test_a_need_that_is_unmet_has_a_reason(needs, reason):
    seen = offline.reference()
    seen = msgspec.structs.replace(seen, host=msgspec.structs.replace(seen.host, cgroup="v1"))

    assert unmet(needs, seen) == reason


def test_of_an_engine_that_tells_nothing_nothing_is_said_to_be_unmet():
    seen = msgspec.structs.replace(offline.reference(), info={})

    assert unmet(["aufs", "overlay2"], seen) is None


@pytest.mark.parametrize(
    ("text", "octal"), [("-rwxr-xr-x", "0755"), ("drwx------", "0700"), ("prw-r-----", "0640")]
)
def test_a_mode_in_letters_becomes_octal(text, octal):
    assert mode(text) == octal
