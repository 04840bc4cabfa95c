"""report.html: whole, safe and without anything from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import offline
import pytest

from startkit.judge.verdict import WORST, Verdict
from startkit.report import html, result

VOID = {"meta", "input"}
EVIL = "</pre><script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>"


class Reader(HTMLParser):
    """Notes what a browser would: elements, ids, links, text; and what is left open."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], [], [], {}

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        key = self.open[-1] if self.open else ""
        self.text[key] = self.text.get(key, "") + data

    def values(self, tag, name):
        return [found[name] for one, found in self.attributes if one == tag and name in found]


def document(verdicts, target="t-1"):
    header = result.Header(
        target=target, engine="e", version="1", dialect=None, kernel="6", strict=False,
        taken="2026-01-01", startkit="0",
    )  # fmt: skip
    return result.Result(
        header=header, verdicts=verdicts, notes=[], exit=0, counts=result.count(verdicts)
    )


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def text():
    found = list(offline.verdicts(offline.reference()).values())
    return html.page(document(found), offline.CLAUSES, None)


def each_status():
    """Return a verdict of each status, on different clauses."""
    names = list(offline.CLAUSES)
    return [
        Verdict(clause=name, status=status, expected="x", observed="y", reason="r", scene="plain")
        for name, status in zip(names, WORST, strict=False)
    ]


def test_every_clause_has_its_place(text):
    assert read(text).values("details", "id") == list(offline.CLAUSES)


def test_nothing_is_fetched_and_nothing_runs(text):
    page = read(text)

    assert not {"script", "link", "img", "iframe", "base", "object"} & set(page.seen)
    assert not re.search(r"url\(|@import|https?:", page.text["style"])
    assert {found for found in page.values("a", "href") if found[0] != "#"} == {"evidence.json"}
    assert not [name for _, found in page.attributes for name in found if name.startswith("on")]


def test_the_scoreboard_leads_to_the_areas(text):
    page = read(text)
    areas = [found[1:] for found in page.values("a", "href") if found[0] == "#"]

    assert areas == page.values("h2", "id")
    total = len(offline.CLAUSES)
    assert page.text["td"].endswith(f"{total}{total}")  # clauses, conforms


@pytest.mark.parametrize("status", WORST)
def test_a_status_has_a_colour_by_day_and_one_by_night(text, status):
    assert len(re.findall(rf"--{status}: (#[0-9a-f]{{6}})", text)) == 2
    assert "prefers-color-scheme: dark" in text


def test_what_is_not_as_expected_stands_open_and_can_be_chosen():
    page = read(html.page(document(each_status()), offline.CLAUSES, None))
    opened = [found["class"] for one, found in page.attributes if "open" in found]

    assert opened == ["differs", "stale", "broken"]
    assert page.values("input", "id") == [f"show-{status}" for status in html.STATUSES]


def test_expected_and_observed_stand_side_by_side_or_as_a_diff():
    one = each_status()[WORST.index("differs")]
    words = [f"word-{number}" for number in range(40)]
    short = read(html.page(document([one]), offline.CLAUSES, None))
    long = msgspec.structs.replace(one, expected=words, observed=words[1:])
    page = read(html.page(document([long]), offline.CLAUSES, None))

    assert "  expected  x\n  observed  y\n" in short.text["pre"]
    assert ('- "word-0"' in page.text["del"], "word-0" in page.text.get("ins", "")) == (True, False)


def test_an_engine_that_lies_puts_nothing_on_the_page():
    one = each_status()[WORST.index("differs")]
    lying = [
        msgspec.structs.replace(one, observed=EVIL, reason=EVIL),
        msgspec.structs.replace(one, clause=f"nobody.{EVIL}", status="broken", reason=EVIL),
    ]
    page = read(html.page(document(lying, target=EVIL), offline.CLAUSES, None))

    assert not {"script", "img"} & set(page.seen)
    assert "alert(1)" in page.text["pre"]
