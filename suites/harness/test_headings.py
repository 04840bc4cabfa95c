"""Every place of the article has a clause, or a reason why it has none."""

from __future__ import annotations

import headings

from startkit.judge.clause import load_clauses
from startkit.judge.listing import load_article

PLACES = headings.places(load_clauses(headings.GOLDEN), load_article(headings.GOLDEN).index)


def test_every_place_of_the_article_has_clauses_or_a_reason():
    empty = {place for place, ids in PLACES.items() if not ids and place[1] != "the whole"}

    assert empty == headings.EMPTY.keys()


def test_the_page_is_what_the_clauses_say():
    page = (headings.GOLDEN / "TABLE.md").read_text()

    assert page == headings.text(), "run python suites/harness/headings.py"
