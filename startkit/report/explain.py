"""`startkit explain`: the start of one running container, step by step, and what each left.

Rule: what was left is read off evidence, so it is the same for our engine and for a real
one; only the names of the steps and what they say are ours. Each clause belongs to the
step with the longest prefix of its id in STEPS.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from startkit.observe.evidence import Entry, Moment, Mount, Process

    Left = Callable[[Moment], list[str]]

LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
INDENT = " " * 13
ROWS = 8  # of one step; the rest is counted


class Explained(NamedTuple):
    """One step of one program: what it left behind, and the clauses about that."""

    left: Left
    clauses: tuple[str, ...] = ()


def rootfs(seen: Moment) -> list[str]:
    """Return the merged tree and what it is made of."""
    mount = seen.rootfs_mount
    return mount_rows([mount]) if mount else [seen.rootfs] if seen.rootfs else []


def mount_rows(mounts: Iterable[Mount]) -> list[str]:
    """Return a line a mount: where, what, how."""
    return [f"{one.target}  {one.fstype} {','.join(one.options)}" for one in mounts]


def files(*names: str) -> Left:
    """Return a look at files of the container's directory; small texts are shown."""

    def left(seen: Moment) -> list[str]:
        return entry_rows(seen.container_dir, seen.container_files, names)

    return left


def entry_rows(place: str | None, entries: Mapping[str, Entry], names: Iterable[str]) -> list[str]:
    """Return a line an entry: path, kind, mode, and its text where that is one short line."""
    rows = []
    for name in names:
        if entry := entries.get(name):
            text = (entry.text or "").strip()
            short = f"  {text}" if text and "\n" not in text and len(text) < 100 else ""
            rows.append(f"{place}/{name}  {entry.kind} {entry.mode} {entry.size} bytes{short}")
    return rows


def shm(seen: Moment) -> list[str]:
    """Return the tmpfs for /dev/shm on the host."""
    return mount_rows(one for one in seen.host_mounts if one.target.rstrip("/").endswith("shm"))


def log(seen: Moment) -> list[str]:
    """Return the json log."""
    names = [name for name in seen.container_files if name.endswith("-json.log")]
    return entry_rows(seen.container_dir, seen.container_files, names)


def cgroups(seen: Moment) -> list[str]:
    """Return the container's cgroups, one a hierarchy."""
    return sorted(seen.cgroup_dirs.values())


def config(seen: Moment) -> list[str]:
    """Return config.json in its bundle."""
    rows = [f"{seen.bundle}  directory {seen.bundle_mode}"] if seen.bundle else []
    return rows + entry_rows(seen.bundle, seen.bundle_files, ["config.json"])


def fifos(seen: Moment) -> list[str]:
    """Return the named pipes."""
    return [f"{path}  fifo {seen.fifo_modes.get(name)}" for name, path in seen.fifos.items()]


def ends(holder: str) -> Left:
    """Return a look at who holds which end, as the article's lsof shows it."""

    def left(seen: Moment) -> list[str]:
        held: dict[str, list[str]] = {}
        for end in seen.ends:
            if end.holder == holder:
                held.setdefault(end.fifo, []).append(end.access)
        return [f"{holder} holds {fifo}: {' '.join(sorted(held[fifo]))}" for fifo in sorted(held)]

    return left


def state(*names: str) -> Left:
    """Return a look at containerd's directory."""

    def left(seen: Moment) -> list[str]:
        return entry_rows(seen.state_dir, seen.state_files, names)

    return left


def process_row(one: Process) -> str:
    """Return a process as ps shows it, with where it stands."""
    return f"{one.pid} {' '.join(one.argv)}  (parent {one.ppid}, in {one.cwd})"


def shim(seen: Moment) -> list[str]:
    """Return the shim."""
    return [process_row(one) for one in seen.ancestors[:1]]


def program(seen: Moment) -> list[str]:
    """Return the user's program."""
    return [process_row(seen.init)] if seen.init else []


def namespaces(seen: Moment) -> list[str]:
    """Return the namespaces of init."""
    return sorted(seen.init.namespaces.values()) if seen.init else []


def status(*keys: str) -> Left:
    """Return a look at lines of init's /proc/PID/status."""

    def left(seen: Moment) -> list[str]:
        found = seen.init.status if seen.init else {}
        return [f"{key}: {' '.join(found[key].split())}" for key in keys if key in found]

    return left


def inside(seen: Moment) -> list[str]:
    """Return what the container has mounted."""
    return mount_rows(seen.mounts)


def devices(seen: Moment) -> list[str]:
    """Return the nodes and links below /dev."""
    kinds = ("char", "block", "symlink")
    return [
        f"{name}  {entry.kind} {entry.device or entry.link}"
        for name, entry in seen.inside.items()
        if name.startswith("/dev/") and entry.kind in kinds
    ]


def record(seen: Moment) -> list[str]:
    """Return what the engine now says of the container."""
    told = seen.inspect.get("State")
    keys = ("Status", "Pid", "StartedAt")
    return [f"State.{key}: {told[key]}" for key in keys if isinstance(told, dict) and key in told]


# "PROGRAM STEP"
STEPS = {
    "dockerd mount-rootfs": Explained(rootfs, ("rootfs",)),
    "dockerd write-hostname": Explained(
        files("hostname"), ("files", "files.hostname", "files.restart.hostname")
    ),
    "dockerd write-hosts": Explained(files("hosts"), ("files.hosts", "files.restart.hosts")),
    "dockerd write-resolv-conf": Explained(
        files("resolv.conf", "resolv.conf.hash"),
        ("files.resolv-conf", "files.resolv-conf-hash", "files.restart.resolv-conf"),
    ),
    "dockerd mount-shm": Explained(shm, ("files.shm",)),
    "dockerd open-log": Explained(log, ("files.log",)),
    "dockerd make-cgroup": Explained(cgroups, ("cgroup.path",)),
    "dockerd write-config": Explained(config, ("bundle",)),
    "dockerd open-fifos": Explained(fifos, ("io.bundle", "io.fifos")),
    "dockerd open-fifos ends": Explained(ends("daemon"), ("io.ends.daemon", "io.ends.holders")),
    "containerd write-state": Explained(
        state("state.json", "init/process.json", "init/exit", "init/control"),
        ("containerd", "containerd.state", "containerd.init"),
    ),
    "containerd spawn-shim": Explained(shim, ("process.shim",)),
    "shim open-fifos": Explained(ends("shim"), ("io.ends.shim",)),
    "runtime make-cgroups": Explained(cgroups, ("cgroup",)),
    "runtime clone-init": Explained(namespaces, ("process.namespaces", "process.pid", "runtime")),
    "runtime write-pid-file": Explained(state("init/pid"), ()),
    "init name-host": Explained(
        lambda seen: [f"hostname {seen.hostname}"] if seen.hostname else [], ("process.hostname",)
    ),
    "init mount-all": Explained(inside, ()),
    "init fill-dev": Explained(devices, ()),
    "init become-user": Explained(
        status("Uid", "Gid", "Groups", "CapBnd", "NoNewPrivs"),
        ("process.user", "process.capabilities", "process.cwd"),
    ),
    "shim start": Explained(program, ("process", "process.argv", "process.stdio")),
    "shim report": Explained(state("init/starttime"), ()),
    "dockerd record-running": Explained(record, ("lifecycle",)),
}


def owner(clause: str) -> tuple[str, str]:
    """Return the step that a clause is about, and the prefix that says so; "" where none is.

    A step's second row of leftovers has a key of its own, ` ends`, but is the same step.
    """
    words = clause.split(".")
    for length in range(len(words), 0, -1):
        prefix = ".".join(words[:length])
        for step, explained in STEPS.items():
            if prefix in explained.clauses:
                return step.removesuffix(" ends"), prefix
    return "", ""


def owned(clauses: Iterable[str]) -> dict[str, str]:
    """Return step -> its clauses in short: `files.hosts (2)`."""
    found: dict[str, Counter[str]] = {}
    for clause in clauses:
        step, prefix = owner(clause)
        found.setdefault(step, Counter())[prefix] += 1
    return {
        step: ", ".join(f"{prefix} ({number})" for prefix, number in counts.items())
        for step, counts in found.items()
    }


def explain(seen: Moment, steps: Sequence[tuple[str, str, str]], clauses: Iterable[str]) -> str:
    """Return the text. `steps`: (program, step, what it says) in the order they are done."""
    about = owned(clauses)
    rows = []
    for who, name, says in steps:
        step = f"{who} {name}"
        rows.append(f"{who:<11}{name:<20}{says}")
        keys = [key for key in (step, f"{step} ends") if key in STEPS]
        left = [row for key in keys for row in STEPS[key].left(seen)]
        rows += [f"{INDENT}{row}" for row in left[:ROWS]]
        if len(left) > ROWS:
            rows.append(f"{INDENT}... and {len(left) - ROWS} more")
        if step in about:
            rows.append(f"{INDENT}clauses: {about[step]}")
    return LONG_ID.sub(r"\1...", "\n".join(rows))
