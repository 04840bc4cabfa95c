"""The json log: lines as entries, 16 KiB at most; `tail`, `since`, `follow` read it back."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon import logs
from startkit.daemon.logs import ENTRY_BYTES, Log, LogOptions, frame

DEADLINE_S = 10


@pytest.fixture
def log(tmp_path):
    """Make an empty log."""
    made = Log(tmp_path / "json.log")
    made.open()
    yield made
    made.close()


def entries(log):
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def texts(log):
    return [entry["log"] for entry in entries(log)]


def read(log, tty=True, running=lambda: False, **options):
    """Return what `docker logs` prints."""

    async def collect():
        return b"".join([b async for b in logs.read(log, LogOptions(**options), tty, running)])

    return asyncio.run(asyncio.wait_for(collect(), DEADLINE_S))


def dated(log, *rows):
    """Write entries of a given second."""
    lines = [
        {"log": f"{s}\n", "stream": "stdout", "time": f"2017-06-25T11:00:{s:02}Z"} for s in rows
    ]
    log.path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_log_is_private_to_the_daemons_group(log):
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o640


def test_opening_it_again_keeps_what_is_there(log):
    log.write("stdout", b"first run\n")
    log.open()
    assert texts(log) == ["first run\n"]


def test_an_entry_has_dockers_three_fields(log):
    log.write("stderr", b"oops\n")
    (entry,) = entries(log)
    assert list(entry) == ["log", "stream", "time"]
    assert (entry["log"], entry["stream"]) == ("oops\n", "stderr")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", entry["time"])


def test_a_partial_line_waits_for_its_end(log):
    log.write("stdout", b"one\ntw")
    assert texts(log) == ["one\n"]
    log.write("stdout", b"o\n")
    assert texts(log) == ["one\n", "two\n"]


def test_a_line_without_an_end_is_written_at_the_end_of_the_stream(log):
    log.write("stdout", b"bye")
    log.end("stdout")
    log.end("stdout")
    assert texts(log) == ["bye"]


def test_partial_lines_of_two_streams_do_not_mix(log):
    log.write("stdout", b"o")
    log.write("stderr", b"e\n")
    log.write("stdout", b"ut\n")
    assert [(e["stream"], e["log"]) for e in entries(log)] == [
        ("stderr", "e\n"),
        ("stdout", "out\n"),
    ]


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_line_is_cut_at_16_kib(log, extra):
    line = b"x" * (ENTRY_BYTES + extra) + b"\n"
    log.write("stdout", line)
    assert [len(text) for text in texts(log)] == [
        size for size in (min(len(line), ENTRY_BYTES), len(line) - ENTRY_BYTES) if size > 0
    ]


@given(st.lists(st.text("ab\n", max_size=40).map(str.encode), max_size=12))
def test_however_it_is_chunked_a_log_says_what_was_said(tmp_path_factory, chunks):
    log = Log(tmp_path_factory.mktemp("log") / "json.log")
    log.open()
    for chunk in chunks:
        log.write("stdout", chunk)
    log.end("stdout")
    log.close()
    assert texts(log) == b"".join(chunks).decode().splitlines(keepends=True)


def test_bytes_that_are_no_text_are_replaced(log):
    log.write("stdout", b"\xff\n")
    assert texts(log) == ["\N{REPLACEMENT CHARACTER}\n"]


def test_without_a_terminal_entries_are_framed(log):
    log.write("stdout", b"out\n")
    log.write("stderr", b"err\n")
    assert read(log, tty=False) == b"\1\0\0\0\0\0\0\4out\n\2\0\0\0\0\0\0\4err\n"


@given(st.sampled_from(["stdin", "stdout", "stderr"]), st.binary(max_size=300))
def test_a_frame_names_its_stream_and_length(stream, data):
    framed = frame(stream, data)
    assert framed[0] == ["stdin", "stdout", "stderr"].index(stream)
    assert framed[1:4] == b"\0\0\0"
    assert int.from_bytes(framed[4:8], "big") == len(data)
    assert framed[8:] == data


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_one_stream_alone_can_be_asked_for(log, stream):
    log.write("stdout", b"stdout\n")
    log.write("stderr", b"stderr\n")
    assert read(log, **{"stdout": False, "stderr": False, stream: True}) == f"{stream}\n".encode()


@given(st.integers(0, 9), st.integers(0, 9))
def test_tail_gives_the_last_lines(tmp_path_factory, written, asked):
    log = Log(tmp_path_factory.mktemp("log") / "json.log")
    log.open()
    log.write("stdout", b"".join(b"%d\n" % number for number in range(written)))
    log.close()
    assert read(log, tail=asked).split() == [
        b"%d" % n for n in range(max(written - asked, 0), written)
    ]


def test_since_and_until_are_both_inclusive(log):
    dated(log, 1, 2, 3, 4)
    noon = 1498388400  # 2017-06-25T11:00:00Z
    assert read(log, since=noon + 2, until=noon + 3) == b"2\n3\n"


def test_timestamps_stand_before_each_line(log):
    dated(log, 7)
    assert read(log, timestamps=True) == b"2017-06-25T11:00:07Z 7\n"


def test_a_cut_line_is_passed_over(log):
    dated(log, 1)
    with log.path.open("a") as file:
        file.write('{"log":"cut\n')
    log.write("stdout", b"after\n")
    assert read(log) == b"1\nafter\n"


def test_a_log_that_was_never_opened_is_empty(tmp_path):
    assert read(Log(tmp_path / "absent")) == b""


def test_follow_gives_what_comes_and_ends_with_the_container(log):
    log.write("stdout", b"before\n")

    async def follow():
        alive = [True]
        stream = logs.read(log, LogOptions(follow=True), True, lambda: alive[0])
        seen = [await anext(stream)]
        more = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        log.write("stdout", b"during\n")
        seen.append(await more)
        alive[0] = False
        log.write("stdout", b"last words\n")
        return seen + [block async for block in stream]

    seen = asyncio.run(asyncio.wait_for(follow(), DEADLINE_S))
    assert seen == [b"before\n", b"during\n", b"last words\n"]


def test_follow_until_a_moment_ends_then(log):
    async def follow():
        soon = LogOptions(follow=True, until=time.time() + 0.2)
        return [entry async for entry in logs.read(log, soon, True, lambda: True)]

    assert asyncio.run(asyncio.wait_for(follow(), DEADLINE_S)) == []


def test_follow_after_tail_goes_on_from_there(log):
    log.write("stdout", b"old\nnew\n")

    async def follow():
        stream = logs.read(log, LogOptions(follow=True, tail=1), True, lambda: True)
        seen = [await anext(stream)]
        log.write("stdout", b"newest\n")
        return [*seen, await anext(stream)]

    assert asyncio.run(asyncio.wait_for(follow(), DEADLINE_S)) == [b"new\n", b"newest\n"]
