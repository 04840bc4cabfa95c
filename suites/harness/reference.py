"""Cuts the evidence of a run down to what the suite looks at: reference.json.

`python suites/harness/reference.py EVIDENCE` after a run in which everything
conformed. What says something of the machine that it was taken on, and nothing of the
engine (most of /proc/PID/status, counters), is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

PLACE = Path(__file__).parent / "reference.json"
STATUS = ("Uid", "Gid", "NSpid", "CapBnd", "PPid")
INFO = ("DockerRootDir", "Driver")
INSPECT = ("Id", "Name", "State", "GraphDriver")
STATE = ("Status", "Pid", "ExitCode", "Error")
ROW = ("Id", "Names", "State", "Status", "Image", "Command")
MOUNTS = ("/", "/dev/shm", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
CGROUP = ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.shares", "devices.list")


def kept(mapping, names):
    """Return the named items of a dict."""
    return {name: mapping[name] for name in names if name in mapping}


def trim_process(process):
    """Cut a process down, in place."""
    for name in ("limits", "oom_score_adj"):
        process.pop(name, None)
    process["status"] = kept(process.get("status", {}), STATUS)


def trim_moment(moment):
    """Cut a moment down, in place."""
    moment["ancestors"] = moment.get("ancestors", [])[:3]
    for process in moment["ancestors"]:
        process.pop("namespaces", None)
        process.pop("cgroups", None)
    for process in (moment.get("init"), *moment["ancestors"]):
        if process:
            trim_process(process)
    moment["inspect"] = kept(moment.get("inspect", {}), INSPECT)
    moment["inspect"]["State"] = kept(moment["inspect"].get("State", {}), STATE)
    moment.get("bundle_files", {}).get("config.json", {}).pop("text", None)
    moment.pop("missing", None)
    moment["row"] = kept(moment.get("row", {}), ROW)
    moment["mounts"] = [one for one in moment.get("mounts", []) if one["target"] in MOUNTS]
    files = moment.get("cgroup_files", {})
    moment["cgroup_files"] = {k: v for k, v in files.items() if k.rpartition("/")[2] in CGROUP}
    for name, entry in moment.get("container_files", {}).items():
        if name.endswith((".v2.json", "hostconfig.json")):
            entry.pop("text", None)


def trim_trial(trial):
    """Cut a trial down, in place."""
    for call in trial["calls"].values():
        call["argv"] = []
    for glimpse in trial.get("glimpses", {}).values():
        files = glimpse.get("cgroup_files", {})
        glimpse["cgroup_files"] = {k: v for k, v in files.items() if len(v) < 200}
        if init := glimpse.get("init"):
            init["status"] = kept(init["status"], ("NSpid", "Uid"))
            init["limits"] = kept(init["limits"], ("Max open files",))
    trial["config"] = {
        "process": kept(trial["config"]["process"], ("args",)),
        "linux": kept(trial["config"]["linux"], ("cgroupsPath",)),
        "hooks": {kind: [] for kind in trial["config"].get("hooks", {})},
    }


def trim(document):
    """Return evidence, cut down."""
    document["info"] = kept(document["info"], INFO)
    for scene in (document, *document["scenes"].values()):
        for name in ("daemon", "containerd"):
            if scene.get(name):
                trim_process(scene[name])
    for scene in document["scenes"].values():
        scene.pop("events", None)
        for moment in scene["moments"].values():
            trim_moment(moment)
    for trial in document["trials"].values():
        trim_trial(trial)
    # what the specification asks for; no runtime known here does it
    document["trials"]["deleted-unstarted"]["calls"]["delete-created"]["status"] = 1
    return document


if __name__ == "__main__":
    evidence = trim(msgspec.json.decode(Path(sys.argv[1]).read_bytes()))
    PLACE.write_bytes(msgspec.json.format(msgspec.json.encode(evidence), indent=0) + b"\n")
