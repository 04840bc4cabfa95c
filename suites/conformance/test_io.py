"""The named pipes, and who holds which end."""

from __future__ import annotations

import pytest

clause = pytest.mark.clause


@clause("io.bundle.names")
def test_two_fifos_lie_beside_config_json(seen, expect):
    expect(sorted(seen.bundle_files))


@clause("io.fifos.stdin.kind")
def test_init_stdin_is_a_named_pipe(seen, expect):
    expect(seen.bundle_file("init-stdin").kind)


@clause("io.fifos.stdout.kind")
def test_init_stdout_is_a_named_pipe(seen, expect):
    expect(seen.bundle_file("init-stdout").kind)


@clause("io.fifos.modes")
def test_the_fifos_are_for_their_owner_alone(seen, expect):
    expect(seen.fifo_modes)


@clause("io.fifos.with-terminal")
def test_with_a_terminal_there_are_two_fifos(seen, expect):
    expect(sorted(seen.fifos))


@clause("io.fifos.without-terminal")
def test_without_a_terminal_stderr_has_its_own_fifo(seen, expect):
    expect(sorted(seen.fifos))


@clause("io.ends.holders")
def test_daemon_and_shim_hold_the_fifos_and_nobody_else(seen, expect):
    expect(seen.holders)


@clause("io.ends.daemon.stdin")
def test_the_daemon_has_a_handle_on_stdin_and_writes(seen, expect):
    expect(seen.ends("daemon", "stdin"))


@clause("io.ends.daemon.stdout")
def test_the_daemon_has_a_handle_on_stdout_and_reads(seen, expect):
    expect(seen.ends("daemon", "stdout"))


@clause("io.ends.shim.stdin")
def test_the_shim_has_both_ends_of_stdin(seen, expect):
    expect(seen.ends("shim", "stdin"))


@clause("io.ends.shim.stdout")
def test_the_shim_has_both_ends_of_stdout(seen, expect):
    expect(seen.ends("shim", "stdout"))


@clause("io.ends.shim.stderr")
def test_the_shim_has_both_ends_of_stderr(seen, expect):
    expect(seen.ends("shim", "stderr"))


@clause("io.fifos.removed")
def test_the_fifos_go_when_the_container_stops(seen, expect):
    were = seen.running.fifos
    expect(sorted(were.keys() & seen.stopped.moment.fifos))
