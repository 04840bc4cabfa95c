"""`startkit bench`: what it prints, what it leaves, what it refuses; never how fast."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from startkit import cli
from startkit.bench import load, runtime, start
from startkit.client import Client
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


@pytest.fixture
def place(monkeypatch):
    """Have temporary files in a directory of its own, whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="startkit-") as made:
        monkeypatch.setattr(tempfile, "tempdir", made)
        yield Path(made)


@needs_root
def test_an_engine_bears_load_beside_another_one_and_both_are_left_as_they_were(
    place, monkeypatch, capsys
):
    monkeypatch.setattr(load, "LOG_BYTES", 1_000_000)
    with start.our_engine(None) as other:
        words = ["bench", "load", "--against", f"unix://{other}", "--at-once", "2"]
        status = cli.main([*words, "--in-a-row", "2"])
        left = [start.ask(Client(other), "GET", f"/v1.41/{of}/json?all=1")
                for of in ("containers", "images")]  # fmt: skip

    parts = [part.splitlines() for part in capsys.readouterr().out.split("\n\n")]
    assert (status, left) == (0, [[], []])
    assert [len(part) for part in parts] == [3, 5, 3]
    assert parts[0][0].startswith("2 at once by 16 clients")
    lost = [re.split("  +", line)[2] for line in parts[2]]
    assert lost == ["lines lost", "0", "0"]
    assert list(place.iterdir()) == []


@needs_root
def test_a_bench_that_is_broken_off_removes_what_it_made(place, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(load.Side, "remove", interrupt)
    with start.our_engine(None) as other:
        monkeypatch.setattr(load, "CLIENTS", 2)
        assert cli.main(["bench", "load", "--against", f"unix://{other}"]) == 130
        rows = start.ask(Client(other), "GET", "/v1.41/containers/json?all=1")

    assert rows == []
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["runtime", "--runs", "0"], 2, "--runs: want 1 or more"),
        (["runtime", "--at-once", "0"], 2, "--at-once: want 1 or more"),
        (["runtime", "/no/such/runtime"], 1, "/no/such/runtime: not here"),
        (["runtime", "false"], 1, "false --version: "),
        (["start", "--runs", "0"], 2, "--runs: want 1 or more"),
        (["start", "--against", "tcp://1"], 2, "want unix:///PATH"),
        (["load", "--in-a-row", "0"], 2, "--in-a-row: want 1 or more"),
        (["load", "--against", "unix:///no/such/socket"], 1, "/no/such/socket: No such file"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(words, status, said, capsys):
    assert cli.main(["bench", *words]) == status

    out, errors = capsys.readouterr()
    assert out == ""
    assert said in errors
    assert errors.count("\n") == 1
