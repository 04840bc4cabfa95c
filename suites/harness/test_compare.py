"""`startkit diff`: what two runs saw, side by side."""

from __future__ import annotations

import msgspec
import offline
import pytest

from startkit import cli
from startkit.judge.verdict import Verdict
from startkit.report import compare, result

NAMES = sorted(offline.CLAUSES)[:3]


def verdict(name, observed, status="conforms"):
    return Verdict(
        clause=name, status=status, expected="x", observed=observed, reason="", scene="plain"
    )


def document(target, *verdicts, taken="2026-01-01"):
    header = result.Header(
        target=target, engine="e", version="1", dialect=None, kernel="6", strict=False,
        taken=taken, startkit="0",
    )  # fmt: skip
    return result.Result(
        header=header, verdicts=list(verdicts), notes=[], exit=0, counts=result.count(verdicts)
    )


def test_the_same_run_is_alike():
    one = document("a", *(verdict(name, name) for name in NAMES))

    said, unlike = compare.report(one, one)

    assert (said, unlike) == (f"a {one.header.taken} beside a 2026-01-01: 3 of 3 clauses alike", 0)


def test_what_was_seen_decides_and_not_the_verdict():
    ours = document("a", verdict("x.y", "seen", "differs"), verdict("x.z", "one"))
    theirs = document("b", verdict("x.y", "seen", "expected-difference"), verdict("x.z", "two"))

    said, unlike = compare.report(ours, theirs)

    assert unlike == 1
    assert said.splitlines() == [
        "a beside b: 1 of 2 clauses alike",
        "",
        "x.z",
        "  a: conforms, one",
        "  b: conforms, two",
    ]


@pytest.mark.parametrize("status", ["no-evidence", "not-applicable", "broken"])
def test_a_side_without_a_value_is_unlike_one_with(status):
    pair = compare.Pair("x.y", verdict("x.y", "seen"), verdict("x.y", None, status))

    assert not pair.alike()
    assert compare.Pair("x.y", pair.second, pair.second).alike()


def test_a_clause_of_one_run_only_is_told():
    said, unlike = compare.report(document("a", verdict("x.y", 1)), document("b"))

    assert (unlike, said.splitlines()[-1]) == (1, "  b: no verdict")


def test_a_long_value_is_told_as_a_diff():
    first = [f"word-{number}" for number in range(40)]

    said, _ = compare.report(
        document("a", verdict("x.y", first)), document("b", verdict("x.y", first[1:]))
    )

    assert '    - "word-0",' in said
    assert "word-30" not in said


def test_the_command_exits_as_diff_does(tmp_path, capsys):
    one, other = document("a", verdict("x.y", "one")), document("b", verdict("x.y", "two"))
    result.write_whole(tmp_path / "a" / "results.jsonl", result.lines(one))
    result.write(tmp_path / "b" / "verdicts.json", other)
    (tmp_path / "cut").write_bytes(msgspec.json.encode(one)[:-20])
    a, b, cut = (str(tmp_path / name) for name in ("a", "b/verdicts.json", "cut"))

    assert [cli.main(["diff", a, a]), cli.main(["diff", a, b]), cli.main(["diff", a, cut])] == [
        0,
        1,
        2,
    ]
    assert capsys.readouterr().err.count("\n") == 1
