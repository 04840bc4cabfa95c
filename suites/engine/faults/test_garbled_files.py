"""A file of the engine's that was cut or garbled is one line in the log, and loses nobody else."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from startkit.observe import procfs

RECORDS = ("config.v2.json", "hostconfig.json")
EXAMPLES = max(4, settings().max_examples // 12)


def garbled(data, at, cut):
    """Return a file's bytes, cut at a place in 65536ths or with a few of them changed there."""
    where = at * len(data) >> 16
    return (
        data[:where] if cut else data[:where] + random.Random(at).randbytes(4) + data[where + 4 :]
    )


@pytest.fixture
def stocked(make_engine):
    """Give a daemon, killed, that had two containers; and all its files."""
    engine = make_engine()
    made = [engine.ok("create", "$IMAGE", "true") for _ in range(2)]
    engine.crash()
    data = engine.root / "data"
    files = [data / "containers" / made[0] / name for name in RECORDS]
    files += [path for path in data.glob("image/overlay2/**/*") if path.is_file()]
    whole = engine.root / "whole"
    for name in ("containers", "image"):
        shutil.copytree(data / name, whole / name)
    yield engine, made, sorted(files)
    restore(engine)
    engine.up()


def restore(engine):
    """Put all the files back as they were."""
    for name in ("containers", "image"):
        shutil.rmtree(engine.root / "data" / name)
        shutil.copytree(engine.root / "whole" / name, engine.root / "data" / name)


@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data(), at=st.integers(0, 2**16 - 1), cut=st.booleans())
def test_a_daemon_starts_over_any_garbled_file_and_has_the_others(stocked, data, at, cut):
    engine, made, files = stocked
    restore(engine)
    path = data.draw(st.sampled_from(files), label="file")
    path.write_bytes(garbled(path.read_bytes(), at, cut))
    if "layerdb" not in path.parts:  # those come by a rename of their directory
        (path.parent / f".{path.name}.abcd1234").write_bytes(b"half")
    (engine.root / "log").write_bytes(b"")

    engine.up()

    rows = engine.api.get("/containers/json", all=True).json()
    engine.crash()
    log = (engine.root / "log").read_text()
    aside = [str(found) for found in (engine.root / "data").rglob("*.broken")]
    assert {row["Id"] for row in rows} | set(made[:1]) == set(made)
    assert "Traceback" not in log
    assert [log.count(f"set aside as {found}:") for found in aside] == [1] * len(aside)
    assert not list((engine.root / "data").rglob("*.abcd1234"))


def test_a_running_container_whose_state_file_is_garbled_stays_attached(make_engine):
    engine = make_engine()
    made = engine.ok("run", "-d", "-i", "$IMAGE", "sh", "-c", "read line; echo got $line; exit 7")
    state = engine.root / f"exec/libcontainerd/containerd/{made}/state.json"
    state.write_bytes(state.read_bytes()[:9])
    containerd = engine.containerd()
    engine.crash()
    os.kill(containerd, signal.SIGKILL)

    engine.up()

    said, _ = engine.popen("attach", made).communicate(b"a\n", timeout=10)
    assert (said, engine.ok("wait", made)) == (b"got a\n", "7")
    assert engine.ok("rm", made) == made


def test_a_running_container_whose_record_is_garbled_is_ended_and_the_others_go_on(make_engine):
    engine = make_engine()
    script = "read line; echo got $line; exit 7"
    other = engine.ok("run", "-d", "-i", "$IMAGE", "sh", "-c", script)
    before = traces(engine, other)
    loud = "while echo up; do :; done"
    lost = [engine.ok("run", "-d", *more, "$IMAGE", "sh", "-c", loud) for more in ([], ["-t"])]
    lost += [engine.ok("run", "-d", "$IMAGE", "sleep", "1000") for _ in range(2)]
    engine.ok("pause", lost[2])
    pids = [engine.state(made)["Pid"] for made in lost]
    engine.crash()
    os.kill(pids[3], signal.SIGKILL)
    for made in lost:
        record = engine.root / "data/containers" / made / RECORDS[0]
        record.write_bytes(record.read_bytes()[:99])

    engine.up()

    log = (engine.root / "log").read_text()
    assert [log.count(f"{made[:12]} has no record: ended") for made in lost] == [1] * len(lost)
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert traces(engine, other) == before
    said, _ = engine.popen("attach", other).communicate(b"a\n", timeout=10)
    assert (said, engine.ok("wait", other)) == (b"got a\n", "7")


def traces(engine, running):
    """Return what running containers have: mounts, cgroups, bundles and state directories."""
    places = ("libcontainerd/*", "libcontainerd/containerd/*", "runtime-runc/*")
    made = [path for place in places for path in (engine.root / "exec").glob(place)]
    mounts = [mount.target for mount in procfs.mounts() if str(engine.root) in mount.target]
    return sorted([*map(str, made), *mounts, *engine.cgroups()])
