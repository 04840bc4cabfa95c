"""A runtime at work on a bundle: what of the host it is given."""

from __future__ import annotations

import json

import offline

from startkit.observe.trials.attempt import Attempt, Runtime, load_bundles

GOLDEN = offline.ROOT / "golden"


def test_no_runtime_gets_the_hosts_null_device(tmp_path):
    program = tmp_path / "runtime"
    program.write_text('#!/bin/sh\nreadlink /proc/$$/fd/0 >> "$0.input"\nexit 1\n')
    program.chmod(0o755)
    base = json.loads((GOLDEN / "bundle.json").read_text())
    place = tmp_path / "place"
    place.mkdir()

    Attempt(Runtime(program=str(program)), load_bundles(GOLDEN)["life"], base, place).run()

    given = (tmp_path / "runtime.input").read_text().split("\n")
    assert len(given) > 10
    assert "/dev/null" not in given
