"""What a person reads when a clause does not conform, kept word for word.

The texts lie in golden/snapshots/test_failure_texts/, and only `--snapshot-update`
changes them: wording is reviewed like code.
"""

from __future__ import annotations

import offline
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from startkit.judge.dialect import Dialect, Entry
from startkit.judge.judge import judge, verdict_of
from startkit.judge.text import failure_text, value_text

PATH = ".startkit/run/evidence.json"
NAMES = {"<ID>": "ab" * 32}
OPTIONS = "bundle.mounts.resolv-conf.options"
pytestmark = pytest.mark.snapshot


class TextExtension(SingleFileSnapshotExtension):
    """One text file a test, below golden/snapshots/."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT

    @classmethod
    def dirname(cls, *, test_location):
        return str(offline.GOLDEN / "snapshots" / test_location.basename)


@pytest.fixture
def texts(snapshot):
    return snapshot.use_extension(TextExtension)


def dialect(clause, seen, *, kind="difference", link=""):
    entry = Entry(clause=clause, seen=seen, reason="it is made elsewhere", link=link)
    lists = {"difference": [], "defect": []} | {kind: [entry]}
    return Dialect(format=1, name="engine-1", engine="engine", version="1", **lists)


def judged(clause, observed, said=None):
    """Return the text on what was observed."""
    one = offline.CLAUSES[clause]
    return failure_text(judge(one, observed, said, names=NAMES), one, said, PATH) + "\n"


def unjudged(clause, status, reason):
    """Return the text on a verdict that nobody judged."""
    one = offline.CLAUSES[clause]
    return failure_text(verdict_of(one, status, reason), one, None, PATH) + "\n"


def test_words_stand_side_by_side(texts):
    assert judged(OPTIONS, ["rbind", "ro", "rprivate"]) == texts


def test_a_long_list_is_a_diff(texts):
    observed = ["CAP_CHOWN", *offline.CLAUSES["bundle.process.capabilities"].expected, "CAP_BPF"]

    assert judged("bundle.process.capabilities", observed) == texts


def test_a_text_of_several_lines_is_a_diff_that_shows_blanks(texts):
    observed = "127.0.0.1 localhost\n\x1b[31m::1\tlocalhost ip6-localhost ip6-loopback"

    assert judged("files.hosts.default", observed) == texts


def test_a_document_is_json(texts):
    assert judged("process.user", {"uid": "0 0 0 0", "gid": "29 29 29 29"}) == texts


def test_nothing_and_odd_values_are_told_apart(texts):
    lines = [value_text(value) for value in (None, "", " a", "a b", ["a b", "c"], [], 0, True)]

    assert "\n".join(lines) + "\n" == texts


def test_a_number_and_its_text_are_told_apart(texts):
    assert judged("process.pid", 1) == texts


def test_a_run_s_own_names_are_tokens(texts):
    assert judged("cgroup.path.default", f"/kubepods/{'ab' * 32}") == texts


def test_a_listing_s_rows_are_named(texts):
    assert judged("io.ends.shim.stdin", ["handle", "read"]) == texts


def test_an_expected_difference_gives_the_reason(texts):
    assert judged(OPTIONS, ["bind"], dialect(OPTIONS, ["bind"])) == texts


def test_an_entry_that_no_longer_holds_is_stale(texts):
    assert judged(OPTIONS, ["rbind", "rprivate"], dialect(OPTIONS, ["bind"])) == texts


def test_another_difference_is_stale(texts):
    assert judged(OPTIONS, ["rbind"], dialect(OPTIONS, ["bind"])) == texts


def test_a_defect_names_its_issue(texts):
    said = dialect("process.pid", "2", kind="defect", link="https://example.org/issues/1")

    assert judged("process.pid", "3", said) == texts


def test_no_evidence_says_why(texts):
    assert unjudged(OPTIONS, "no-evidence", "config: no readable config.json was found") == texts


def test_a_clause_that_does_not_apply_says_why(texts):
    reason = "the layers are not in overlay2"

    assert unjudged("rootfs.layers.type", "not-applicable", reason) == texts


def test_a_broken_test_is_not_the_engine_s_fault(texts):
    reason = "KeyError: 'mounts' (test_bundle.py:12)"

    assert unjudged(OPTIONS, "broken", reason) == texts


@pytest.mark.parametrize("clause", offline.CLAUSES)
def test_the_first_line_has_id_level_and_title(clause):
    one = offline.CLAUSES[clause]
    text = unjudged(clause, "no-evidence", "nothing")

    assert text.splitlines()[0] == f"{one.id} [{one.level}] {one.title}"
    assert not any(line != line.rstrip() for line in text.splitlines())


values = st.recursive(
    st.one_of(st.text(), st.integers(), st.none(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(values, st.text())
@example(["\x7f"], "\x7f\n\x1b[31m")
@example(["\x7f" * 99], "")
@example("\x7f\n\x9b", "")
def test_nothing_that_an_engine_says_reaches_the_terminal_raw(value, reason):
    text = judged(OPTIONS, value) + unjudged(OPTIONS, "no-evidence", reason)

    assert all(line.isprintable() for line in text.split("\n"))
