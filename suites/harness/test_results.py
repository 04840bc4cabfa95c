"""What a run comes to: exit status, files, scoreboard."""

from __future__ import annotations

import json

import msgspec
import offline
import pytest

from startkit.judge.verdict import Verdict
from startkit.observe.collect import host
from startkit.observe.evidence import FORMAT, Scene, Seen
from startkit.report import result, text
from startkit.report.run import Run
from startkit.targets.watch import load_evidence


def verdict(status, clause="bundle.x"):
    return Verdict(clause=clause, status=status, expected=None, observed=None)


def run(tmp_path, *verdicts, strict=False, level="ARTICLE"):
    known = offline.CLAUSES["bundle.mode"]
    names = ("bundle.x", "io.y")
    clauses = {name: msgspec.structs.replace(known, id=name, level=level) for name in names}
    return Run(
        target="t", strict=strict, results=tmp_path, clauses=clauses, verdicts=list(verdicts)
    )


def seen(name, **scenes):
    made = {key: Scene(name=key, recipe={}, id=value) for key, value in scenes.items()}
    return Seen(
        format=FORMAT, target=name, engine=name, version=name, info={}, host=host(), scenes=made
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("conforms", 0),
        ("expected-difference", 0),
        ("differs", 1),
        ("stale", 1),
        ("broken", 3),
        ("no-evidence", 3),
        ("not-applicable", 3),
    ],
)
def test_a_lone_verdict_decides_the_exit_status(tmp_path, status, code):
    assert code == run(tmp_path, verdict(status)).code()


def test_no_verdict_at_all_is_broken(tmp_path):
    assert run(tmp_path).code() == 3


@pytest.mark.parametrize(("strict", "code"), [(False, 0), (True, 1)])
def test_a_lesser_level_counts_only_when_strict(tmp_path, strict, code):
    verdicts = verdict("differs"), verdict("conforms", "io.y")

    assert code == run(tmp_path, *verdicts, strict=strict, level="SHOULD").code()


def test_broken_outweighs_differs(tmp_path):
    assert run(tmp_path, verdict("differs"), verdict("broken", "io.y")).code() == 3


def test_a_run_writes_what_can_be_read_again(tmp_path):
    one = run(tmp_path, verdict("differs", "io.y"), verdict("conforms"))
    one.parts.append(seen("a", plain="1"))
    one.write()

    written = result.read(tmp_path)

    assert result.read(tmp_path / "verdicts.json") == written
    assert [row.clause for row in written.verdicts] == ["bundle.x", "io.y"]
    assert (written.exit, written.counts) == (1, {"conforms": 1, "differs": 1})
    assert load_evidence(tmp_path) == one.parts[0]


def written(tmp_path, name):
    """Return a results file of a run with two verdicts."""
    one = run(tmp_path, verdict("conforms"), verdict("differs", "io.y"))
    one.parts.append(seen("a"))
    one.write()
    return tmp_path / name


@pytest.mark.parametrize("name", ["verdicts.json", "results.jsonl"])
@pytest.mark.parametrize("cut", [1, 20, 200, 5000], ids=str)
def test_results_that_were_cut_off_are_refused(tmp_path, name, cut):
    path = written(tmp_path, name)
    path.write_bytes(path.read_bytes()[: -cut - 1])

    with pytest.raises(ValueError, match=rf"^{path}: "):
        result.read(path)


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        ([0, 1, 2], "no footer"),
        ([0, 1, 3], "counts"),
        ([1, 2, 3], "missing required field"),
        ([3], "missing required field"),
        ([0], "no footer"),
        ([], "no footer"),
        ([0, 1, 1, 2, 3], "counts"),
        ([0, 3, 1, 2, 3], "missing required field"),
    ],
    ids=["footer", "verdict", "header", "footer-only", "header-only", "all", "twice", "middle"],
)
def test_a_line_that_is_missing_or_misplaced_is_told(tmp_path, keep, says):
    path = written(tmp_path, "results.jsonl")
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[number] for number in keep))

    with pytest.raises(ValueError, match=says):
        result.read(tmp_path)


@pytest.mark.parametrize("name", ["verdicts.json", "results.jsonl"])
def test_results_of_another_format_are_refused(tmp_path, name):
    path = written(tmp_path, name)
    text = path.read_text()
    path.write_text(text.replace('"format":1', '"format":9').replace('"format": 1', '"format": 9'))

    with pytest.raises(ValueError, match="format 9, this reads format 1"):
        result.read(path)


def test_a_verdict_is_a_line(tmp_path):
    rows = written(tmp_path, "results.jsonl").read_text().splitlines()

    assert [min(json.loads(row)) for row in rows] == ["cgroup", "clause", "clause", "counts"]


def test_evidence_of_another_format_is_refused(tmp_path):
    (tmp_path / "evidence.json").write_text('{"format": 99}')

    with pytest.raises(ValueError, match=r"evidence\.json"):
        load_evidence(tmp_path)


def test_the_evidence_of_workers_becomes_one():
    merged = result.merge([seen("a", plain="1"), seen("a", tty="2")])

    assert {name: one.id for name, one in merged.scenes.items()} == {"plain": "1", "tty": "2"}


def test_a_bar_tells_how_far_where_and_what_is_wrong():
    verdicts = [verdict("differs"), verdict("conforms", "io.y"), verdict("stale", "io.z")]
    lines = [text.progress(verdicts[:count], 4) for count in range(4)]

    assert [line.count("━") for line in lines] == [0, 10, 20, 30]
    assert lines[0].split() == ["0/4"]
    assert lines[3].split()[1:] == ["3/4", "io", "1", "differs", "1", "stale"]


def test_a_scoreboard_has_a_row_an_area_in_the_order_of_the_clauses():
    verdicts = [verdict("conforms", "io.y"), verdict("differs"), verdict("conforms", "bundle.z")]
    rows = text.scoreboard("T", verdicts, ["io", "bundle"]).splitlines()
    words = [row.split() for row in rows if row.strip()]

    assert words[0] == ["T"]
    assert words[3:5] == [["io", "1", "1", "·"], ["bundle", "2", "1", "1"]]
    assert words[-1] == ["all", "3", "2", "1"]
