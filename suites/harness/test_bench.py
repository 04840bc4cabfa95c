"""`startkit bench`: what it prints, what it leaves, what it refuses; never how fast."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from startkit import cli
from startkit.bench import runtime
from startkit.observe import cgroups

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("busybox"), reason="needs root and busybox-static"
)


@needs_root
def test_a_runtime_is_measured_beside_another_one_and_nothing_is_left(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    status = cli.main(["bench", "runtime", "startkit-runc", "--runs", "1", "--at-once", "2"])

    head, ours, floor = capsys.readouterr().out.splitlines()
    assert status == 0
    assert head.split()[:3] == ["runtime", "run", "ms"]
    assert "2 at once" in head
    name, _version, run, _least, ratio, *others = ours.split()
    assert (name, ratio) == ("startkit-runc", "1.00")
    assert all(float(figure) > 0 for figure in [run, *others])
    assert len(others) == 5
    assert floor.startswith("the floor")
    assert list(tmp_path.iterdir()) == []
    tops = cgroups.hierarchies().values()
    assert [top for top in tops if Path(top, runtime.PARENT).exists()] == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["runtime", "--runs", "0"], 2, "--runs: want 1 or more"),
        (["runtime", "--at-once", "0"], 2, "--at-once: want 1 or more"),
        (["runtime", "/no/such/runtime"], 1, "/no/such/runtime: not here"),
        (["runtime", "false"], 1, "false --version: "),
        (["start", "--runs", "0"], 2, "--runs 0: want 1 or more"),
        (["start", "--against", "tcp://1"], 2, "want unix:///PATH"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(words, status, said, capsys):
    assert cli.main(["bench", *words]) == status

    out, errors = capsys.readouterr()
    assert out == ""
    assert said in errors
    assert errors.count("\n") == 1
