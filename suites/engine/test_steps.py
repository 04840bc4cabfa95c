"""A list of steps: done in order, undone in reverse, whatever fails."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit import steps
from startkit.steps import Step


def recorder(names, failing=(), failing_undo=()):
    """Return (steps, log): each step writes `+name` when done and `-name` when undone."""
    log = []

    def act(sign, name, fails):
        def work(_):
            if fails:
                raise ValueError(f"{sign}{name}")
            log.append(f"{sign}{name}")

        return work

    made = [Step(n, act("+", n, n in failing), act("-", n, n in failing_undo)) for n in names]
    return made, log


def failure_of(made):
    """Run steps that fail; return the error."""
    with pytest.raises(ValueError, match=r"\+") as caught:
        steps.run(made, None)
    return caught.value


def test_steps_are_done_in_order():
    made, log = recorder("abc")
    steps.run(made, None)
    assert log == ["+a", "+b", "+c"]


@given(st.integers(0, 8), st.integers(0, 8))
def test_a_failing_step_has_exactly_those_before_it_undone_in_reverse(before, after):
    names = [str(number) for number in range(before + 1 + after)]
    made, log = recorder(names, failing=[str(before)])
    failure_of(made)
    done = names[:before]
    assert log == [f"+{n}" for n in done] + [f"-{n}" for n in reversed(done)]


def test_an_undo_that_fails_does_not_stop_the_others():
    made, log = recorder("abc", failing="c", failing_undo="b")
    error = failure_of(made)
    assert log == ["+a", "+b", "-a"]
    assert error.__notes__ == ["undoing b: -b"]


def test_a_step_without_undo_is_passed_over():
    made, log = recorder("abc", failing="c")
    made[1].undo = None
    failure_of(made)
    assert log == ["+a", "+b", "-a"]


def test_every_step_gets_the_same_subject():
    seen, subject = [], object()
    steps.run([Step("a", seen.append), Step("b", seen.append)], subject)
    assert seen == [subject, subject]


def test_an_awaitable_step_has_ended_before_the_next_one_begins():
    made, log = recorder("ac")

    async def late(_):
        await asyncio.sleep(0)
        log.append("+b")

    made.insert(1, Step("b", late))
    asyncio.run(steps.run_async(made, None))
    assert log == ["+a", "+b", "+c"]


def test_an_awaitable_step_that_fails_has_those_before_it_undone():
    made, log = recorder("ab")

    async def fails(_):
        raise OSError("late")

    with pytest.raises(OSError, match="late"):
        asyncio.run(steps.run_async([*made, Step("c", fails)], None))
    assert log == ["+a", "+b", "-b", "-a"]


def test_a_cancelled_start_is_undone():
    made, log = recorder("a")

    async def cancelled():
        waiting = Step("wait", lambda _: asyncio.get_running_loop().create_future())
        task = asyncio.ensure_future(steps.run_async([*made, waiting], None))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert log == ["+a", "-a"]
