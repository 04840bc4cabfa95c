"""Events: none is missed, filters let through what fits, `until` ends the stream."""

from __future__ import annotations

import asyncio
import time

import pytest

from startkit.daemon.events import KEPT, Events

ID = "ab" * 32
DEADLINE_S = 10


def publish(events, *actions, **attributes):
    for action in actions:
        events.publish("container", action, ID, {"name": "calm", "image": "base"} | attributes)


def past(events, filters=None, since=0.0):
    """Return the actions of all that has happened, as a client asks for it with `until`."""

    async def collect():
        stream = events.subscribe(since, time.time(), filters or {})
        return [event["Action"] async for event in stream]

    return asyncio.run(asyncio.wait_for(collect(), DEADLINE_S))


def test_past_events_come_in_order():
    events = Events()
    publish(events, "create", "start", "die")
    assert past(events) == ["create", "start", "die"]


def test_only_the_last_256_are_kept():
    events = Events()
    publish(events, *(str(number) for number in range(KEPT + 2)))
    assert past(events) == [str(number) for number in range(2, KEPT + 2)]


def test_since_leaves_out_what_was_before():
    events = Events()
    publish(events, "create")
    events.past[0]["timeNano"] -= 10**10
    publish(events, "start")
    assert past(events, since=time.time() - 5) == ["start"]


def test_what_happens_between_subscribe_and_the_first_read_is_not_missed():
    events = Events()

    async def late_reader():
        stream = events.subscribe(None, None, {})
        publish(events, "start")
        return (await anext(stream))["Action"]

    assert asyncio.run(asyncio.wait_for(late_reader(), DEADLINE_S)) == "start"


def test_without_since_the_past_is_not_told():
    events = Events()
    publish(events, "create")
    assert past(events, since=None) == []


def test_until_ends_a_stream_in_which_nothing_happens():
    async def quiet():
        stream = Events().subscribe(None, time.time() + 0.01, {})
        return [event async for event in stream]

    assert asyncio.run(asyncio.wait_for(quiet(), DEADLINE_S)) == []


def test_two_clients_see_the_same():
    events = Events()

    async def both():
        streams = [events.subscribe(None, None, {}) for _ in range(2)]
        publish(events, "start")
        return [(await anext(stream))["Action"] for stream in streams]

    assert asyncio.run(asyncio.wait_for(both(), DEADLINE_S)) == ["start", "start"]


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["die", "start"]}, True),
        ({"event": ["die"]}, False),
        ({"container": [ID]}, True),
        ({"container": [ID[:12]]}, True),
        ({"container": ["calm"]}, True),
        ({"container": ["other"]}, False),
        ({"image": ["base"]}, True),
        ({"image": ["other"]}, False),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=db"]}, True),
        ({"label": ["tier=web"]}, False),
        ({"event": ["start"], "container": ["other"]}, False),
    ],
)
def test_a_filter_lets_through_what_fits(filters, fits):
    events = Events()
    publish(events, "start", tier="db")
    assert past(events, filters) == (["start"] if fits else [])


def test_an_event_has_dockers_fields():
    events = Events()
    publish(events, "start")
    (event,) = events.past
    assert event["from"] == "base"
    assert (event["status"], event["id"], event["Type"]) == ("start", ID, "container")
    assert event["Actor"]["ID"] == ID
    assert event["timeNano"] // 10**9 == event["time"]
