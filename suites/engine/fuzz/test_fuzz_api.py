"""Whatever is asked of the API: one clear line, and nothing is half made or outside."""

from __future__ import annotations

import json
import re

import pytest
from asked import GOOD, Sent, ask, may_wait, requests
from drawn import LIVE, THOROUGH, none
from hypothesis import given
from hypothesis import strategies as st

AT_ONCE = 20  # times 1000 in the profile `thorough`
BEGINNINGS = [[], GOOD[:1], GOOD, GOOD]
LINE_MAX = 100_000  # a message may quote what was sent, which is at most a head or a name


def unclear(data, got, ended):
    """Return what is wrong with the answer to one request's bytes."""
    wrong = [] if ended or may_wait(data) else ["no end"]
    may_be_cut = re.search(rb"\r\n\r\n|\n\n", data) and re.search(rb"chunked|Length: [^0]", data)
    if ended and not got and data.strip() and not may_be_cut:
        wrong.append("no answer")
    for status in map(int, re.findall(rb"^HTTP/1.1 (\d+)", got, re.MULTILINE)):
        # dockerd's own answer where the kernel or the runtime does not want a container so
        refused = status == 500 and re.search(rb"/(re)?start\b", data)
        if status >= 500 and status != 501 and not refused:
            wrong.append(status)
    for found in re.findall(rb'^{"message":.*$', got, re.MULTILINE):
        words = json.loads(found)["message"]
        if not words or "\n" in words.strip() or "Traceback" in words or len(words) > LINE_MAX:
            wrong.append(words)
    return [(what, Sent(got)) for what in wrong]


@pytest.mark.timeout(0 if THOROUGH else 120)
@LIVE
@given(
    begun=st.sampled_from(BEGINNINGS),
    drawn=st.lists(requests(), min_size=AT_ONCE, max_size=AT_ONCE),
)
def test_no_request_makes_the_daemon_stumble(fuzzed, begun, drawn):
    wrong = []
    for data in begun + drawn:
        got, ended = ask(fuzzed.engine.socket, data)
        fuzzed.answers[got[9:12].decode() or "closed"] += 1
        wrong += [(data, what) for what in unclear(data, got, ended)]

    none(wrong + fuzzed.settle(), begun + drawn)
