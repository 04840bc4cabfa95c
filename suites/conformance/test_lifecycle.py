"""From docker start to the container's end, as the API tells it."""

from __future__ import annotations

import pytest

clause = pytest.mark.clause


def state(moment):
    """Return State of inspect, {} where it is no object."""
    found = moment.inspect.get("State")
    return found if isinstance(found, dict) else {}


def exit_codes(seen):
    """Return the exit status by wait and by inspect."""
    body = seen.answer("wait").body
    waited = body.get("StatusCode") if isinstance(body, dict) else body
    return [waited, state(seen.stopped).get("ExitCode")]


def part(answer, first, last):
    """Return an answer's message from one phrase to another, or all of it."""
    text = answer.body.get("message") if isinstance(answer.body, dict) else answer.body
    text = str(text)
    start, end = text.find(first), text.find(last)
    return text[start : end + len(last)] if 0 <= start < end else text


@clause("lifecycle.create.state")
def test_a_container_that_never_ran_is_created(seen, expect):
    expect(state(seen.created).get("Status"))


@clause("lifecycle.start.status")
def test_a_start_is_answered_with_204(seen, expect):
    expect(seen.answer("start").status)


@clause("lifecycle.start.again")
def test_starting_a_running_container_changes_nothing(seen, expect):
    expect(seen.answer("start-running").status)


@clause("lifecycle.start.unknown")
def test_starting_an_unknown_container_is_a_404(seen, expect):
    expect(seen.answer("unknown").status)


@clause("lifecycle.running.state")
def test_a_started_container_is_running(seen, expect):
    expect(state(seen.running).get("Status"))


@clause("lifecycle.ps.id")
def test_ps_shows_the_short_id(seen, expect):
    expect(str(seen.row.get("Id"))[:12])


@clause("lifecycle.ps.status")
def test_ps_says_that_it_is_up(seen, expect):
    expect(" ".join(str(seen.row.get("Status")).split()[:1]))


@clause("lifecycle.stopped.state")
def test_a_container_that_ended_is_exited(seen, expect):
    expect(state(seen.stopped).get("Status"))


@clause("lifecycle.exit.own")
def test_the_programs_exit_status_is_the_containers(seen, expect):
    expect(exit_codes(seen))


@clause("lifecycle.exit.signal")
def test_death_by_a_signal_is_128_and_its_number(seen, expect):
    expect(exit_codes(seen))


@clause("lifecycle.missing.exit-code")
def test_a_missing_program_is_exit_code_127(seen, expect):
    expect(state(seen.stopped).get("ExitCode"))


@clause("lifecycle.missing.message")
def test_words_on_a_missing_program_reach_the_client(seen, expect):
    expect(part(seen.answer("start"), "exec:", "$PATH"))


@clause("lifecycle.missing.undone")
def test_a_failed_start_leaves_no_mount_fifo_or_cgroup(seen, expect):
    left = seen.stopped.moment
    mounts = [mount.target for mount in left.host_mounts]
    expect(sorted([*mounts, *left.fifos.values(), *left.cgroup_dirs.values()]))


@clause("lifecycle.forbidden.exit-code")
def test_a_forbidden_program_is_exit_code_126(seen, expect):
    expect(state(seen.stopped).get("ExitCode"))


@clause("lifecycle.forbidden.message")
def test_words_on_a_forbidden_program_reach_the_client(seen, expect):
    expect(part(seen.answer("start"), "exec:", "denied"))


@clause("lifecycle.removed.unknown")
def test_a_removed_container_is_unknown(seen, expect):
    expect(seen.answer("inspect-removed").status)


@clause("lifecycle.removed.leftovers")
def test_a_removed_container_leaves_nothing(seen, expect):
    expect(seen.leftovers)
