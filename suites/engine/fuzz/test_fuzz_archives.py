"""Whatever is loaded or imported: an image or one clear line, and nothing outside of a layer."""

from __future__ import annotations

import pytest
from archives import layers, saved
from asked import Sent
from drawn import LIVE, THOROUGH, none
from hypothesis import given
from hypothesis import strategies as st

AT_ONCE = 5
ARCHIVES = st.tuples(st.just("/images/load"), saved().map(Sent)) | st.tuples(
    st.just("/images/create?fromSrc=-"), layers().map(Sent)
)


def outcome(fuzzed, path, data):
    """Send an archive and make a container of what came of it; return what is wrong."""
    known = fuzzed.named()
    reply = fuzzed.engine.api.post(path, data)
    fuzzed.answers[reply.status] += 1
    full = reply.status == 500 and reply.message == "no space left on device"
    wrong = [] if reply.status in (200, 400, 501) or full else [reply]
    if reply.status != 200 and not reply.json()["message"].isprintable():
        wrong.append(reply)
    for image in fuzzed.named().keys() - known.keys():
        made = fuzzed.engine.api.post("/containers/create", {"Image": image, "Cmd": ["x"]})
        fuzzed.answers[f"create {made.status}"] += 1
        if made.status == 201:
            made = fuzzed.engine.api.post(f"/containers/{made.json()['Id']}/start")
        if made.status not in (201, 204, 400) and b"Error" in made.body:
            wrong.append(made)
    return wrong


@pytest.mark.timeout(0 if THOROUGH else 120)
@LIVE
@given(drawn=st.lists(ARCHIVES, min_size=AT_ONCE, max_size=AT_ONCE))
def test_no_archive_gets_out_or_leaves_half_an_image(fuzzed, drawn):
    wrong = [(data, found) for path, data in drawn if (found := outcome(fuzzed, path, data))]

    none(wrong + fuzzed.settle(), drawn)
