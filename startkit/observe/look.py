"""One moment of one container, looked at from outside, source after source.

Rule: a look returns the fields that it saw; why the others stay empty stands in
`WHY`. An engine that lies or lets go halfway makes a field missing, not an exception.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.client import ClientError
from startkit.observe import cgroups, config, disk, fifos, procfs
from startkit.observe.evidence import Moment, Mount, Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from startkit.observe.api import Api

# the names that the article lists with `ls -l` from the host
ROOTFS_NAMES = ("dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
# what a container finds below its own root; scenes may name more
INSIDE_NAMES = (
    *("/", "/.dockerenv", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf"),
    *("/dev", "/dev/console", "/dev/core", "/dev/fd", "/dev/full", "/dev/mqueue", "/dev/null"),
    *("/dev/ptmx", "/dev/pts", "/dev/random", "/dev/shm", "/dev/stderr", "/dev/stdin"),
    *("/dev/stdout", "/dev/tty", "/dev/urandom", "/dev/zero", "/proc", "/sys", "/sys/fs/cgroup"),
)
STOPPED = "the container is not running"
WHY = {
    "inspect": "the engine does not inspect it",
    "row": "the engine does not list it",
    "init": STOPPED,
    "ancestors": "the parents of init cannot be seen",
    "container_dir": "no containers/ID below DockerRootDir of GET /info, no HostnamePath",
    "container_files": "no directory of the container was found",
    "bundle": "neither the shim's arguments nor its working directory hold a config.json",
    "bundle_mode": "no bundle was found",
    "bundle_files": "no bundle was found",
    "config": "no readable config.json was found",
    "fifos": "no FIFO named after stdin, stdout or stderr was found",
    "fifo_modes": "no FIFO was found",
    "ends": "nobody holds a FIFO of the container",
    "rootfs": "neither config.json nor GraphDriver names a rootfs",
    "rootfs_mount": "the rootfs is no mount of the host",
    "rootfs_files": "none of the names stands in the rootfs",
    "init_layer_mounted": "no rootfs was found",
    "host_mounts": "the host has no mount of this container",
    "mounts": "the container's mountinfo cannot be read",
    "hostname": "the uts namespace of init cannot be entered",
    "init_fds": "the descriptors of init cannot be read",
    "inside": "/proc/PID/root cannot be read",
    "cgroup_dirs": "no directory named after the container below /sys/fs/cgroup",
    "cgroup_files": "no cgroup of the container was found",
    "state_dir": "no directory named after the container holds the shim",
    "state_files": "no state directory was found",
    "log_text": "no json log was found",
}
OF_INIT = {"ancestors", "ends", "mounts", "hostname", "init_fds", "inside"}
# places that only a running container shows, and that are looked at again when it has stopped
PLACES = ("bundle", "container_dir", "rootfs", "state_dir", "fifos")


class Subject(msgspec.Struct, kw_only=True):
    """What the looks share: whom to ask, and what earlier looks have found."""

    api: Api
    id: str
    root: str | None  # DockerRootDir
    daemon: Process | None
    containerd: Process | None
    inside: tuple[str, ...] = ()  # names beyond INSIDE_NAMES
    seen: dict[str, Any] = {}  # fields of this moment so far
    places: dict[str, Any] = {}  # PLACES of an earlier moment


def look_api(subject: Subject) -> dict[str, Any]:
    """Return the engine's own words: inspect, and the row of `docker ps`."""
    return {"inspect": subject.api.inspect(subject.id), "row": subject.api.row(subject.id)}


def look_processes(subject: Subject) -> dict[str, Any]:
    """Return init by State.Pid, and everybody above it.

    Raises ValueError where neither its cgroups nor its parent name the container: whoever
    it is, another container's init or ours, it is not this one's.
    """
    state = subject.seen.get("inspect", {}).get("State")
    pid = state.get("Pid") if isinstance(state, dict) else None
    init = procfs.process(pid) if isinstance(pid, int) and pid > 0 else None
    if init is None:
        return {}
    above = procfs.ancestors(init)
    names = [word for shim in above[:1] for word in (*shim.argv, shim.cwd)]
    if not any(subject.id in text for text in (*init.cgroups, *names)):
        raise ValueError(f"State.Pid {init.pid} is {init.comm}, and nothing of this container")
    return {
        "init": init,
        "ancestors": above,
        "mounts": procfs.mounts(init.pid),
        "hostname": procfs.hostname(init.pid),
        "init_fds": {str(number): target for number, target in fifos.descriptors(init.pid)},
        "inside": disk.listing(f"/proc/{init.pid}/root", (*INSIDE_NAMES, *subject.inside)),
    }


def look_directory(subject: Subject) -> dict[str, Any]:
    """Return the container's directory, and the json log in it.

    It lies below the data root, or is where the engine says that host name or log stand:
    a directory whose path has the container's id, else it is anybody's.
    """
    inspect = subject.seen.get("inspect", {})
    told = [os.path.dirname(str(inspect.get(key))) for key in ("HostnamePath", "LogPath")]
    places = (os.path.join(subject.root or "/", "containers", subject.id), *told)
    directory = next(
        (
            place
            for place in places
            if os.path.isabs(place) and subject.id in place and disk.kind_of(place) == "directory"
        ),
        None,
    )
    if directory is None:
        return {}
    files = disk.tree(directory)
    log = files.get(f"{subject.id}-json.log")
    text = log.text if log else None
    return {
        "container_dir": directory,
        "container_files": files,
        "log_text": text,
        "log": parse_lines(text or ""),
    }


def parse_lines(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a text, one a line; what is none becomes {"unreadable": line}."""
    found = []
    for line in text.splitlines():
        try:
            row = msgspec.json.decode(line)
        except (ValueError, RecursionError):
            row = None
        found.append(row if isinstance(row, dict) else {"unreadable": line})
    return found


def shim_of(subject: Subject) -> Process | None:
    """Return init's parent."""
    above = subject.seen.get("ancestors")
    return above[0] if above else None


def look_bundle(subject: Subject) -> dict[str, Any]:
    """Return the bundle and config.json; for a stopped container, the place where they were."""
    shim = shim_of(subject)
    bundle = config.find_bundle(shim) if shim else subject.places.get("bundle")
    entry = disk.entry(bundle) if bundle else None
    if bundle is None or entry is None:
        return {}
    return {
        "bundle": bundle,
        "bundle_mode": entry.mode,
        "bundle_files": config.bundle_files(bundle),
        "config": config.read_config(bundle),
    }


def look_state(subject: Subject) -> dict[str, Any]:
    """Return containerd's directory of the container."""
    shim = shim_of(subject)
    place = config.find_state_dir(shim, subject.id) if shim else subject.places.get("state_dir")
    if not place or not os.path.isdir(place):
        return {}
    return {"state_dir": place, "state_files": disk.tree(place)}


def look_fifos(subject: Subject) -> dict[str, Any]:
    """Return the FIFOs and who holds which end."""
    known = (
        ("daemon", subject.daemon),
        ("shim", shim_of(subject)),
        ("containerd", subject.containerd),
    )
    holders = {one.pid: name for name, one in known if one}
    bundle = subject.seen.get("bundle")
    places = [bundle] if bundle else disk.named(config.exec_root(subject.daemon), subject.id)
    paths = fifos.locate(places, subject.id, holders)
    if not paths:
        remembered = subject.places.get("fifos", {})
        paths = {role: path for role, path in remembered.items() if fifos.inode_of(path)}
    return {"fifos": paths, "fifo_modes": fifos.modes(paths), "ends": fifos.ends(paths, holders)}


def look_rootfs(subject: Subject) -> dict[str, Any]:
    """Return the merged rootfs as the host sees it, and the mounts of this container."""
    bundle, spec = subject.seen.get("bundle"), subject.seen.get("config")
    place = config.find_rootfs(bundle, spec) if bundle and spec else subject.places.get("rootfs")
    place = place or config.graph_driver_place(subject.seen.get("inspect", {}))
    if place and os.path.exists(place) and os.path.samefile(place, "/"):
        raise ValueError(f"the rootfs {place} is the host's root")
    mounts = procfs.mounts()
    own = [one for one in mounts if subject.id in one.target or is_below(one.target, place)]
    if not place:
        return {"host_mounts": own}
    layer = os.path.basename(place.removesuffix("/merged"))
    return {
        "rootfs": place,
        "rootfs_mount": next((one for one in reversed(mounts) if one.target == place), None),
        "rootfs_files": disk.listing(place, ROOTFS_NAMES),
        "init_layer_mounted": is_mounted(mounts, f"{layer}-init"),
        "host_mounts": own,
    }


def is_below(path: str, place: str | None) -> bool:
    """Say whether a path is a place or lies below it."""
    return place is not None and (path == place or path.startswith(f"{place}/"))


def is_mounted(mounts: list[Mount], layer: str) -> bool:
    """Say whether some mount stands on a directory of a layer."""
    return any(layer in one.target.split("/") for one in mounts)


def look_cgroups(subject: Subject) -> dict[str, Any]:
    """Return the directories named after the container, and the limits written in them."""
    directories = cgroups.find(subject.id)
    return {"cgroup_dirs": directories, "cgroup_files": cgroups.files(directories)}


FAILURES = (ClientError, OSError, ValueError, TypeError, AttributeError, LookupError)
LOOKS: tuple[Callable[[Subject], dict[str, Any]], ...] = (
    look_api,
    look_processes,
    look_directory,
    look_bundle,
    look_state,
    look_fifos,
    look_rootfs,
    look_cgroups,
)


def look(subject: Subject) -> Moment:
    """Look at everything once; remember the places for the moments to come."""
    subject.seen = {}
    failures = []
    for source in LOOKS:
        try:
            subject.seen |= source(subject)
        except FAILURES as error:
            failures.append(f"{source.__name__.removeprefix('look_')}: {error}")
    subject.places |= {name: subject.seen[name] for name in PLACES if subject.seen.get(name)}
    return Moment(**subject.seen, missing=reasons(subject.seen, failures))


def reasons(seen: dict[str, Any], failures: list[str]) -> dict[str, str]:
    """Return why each empty field is empty."""
    halted = "; ".join(failures)
    empty = [name for name in WHY if seen.get(name) in (None, "", [], {})]
    stopped = set() if seen.get("init") else OF_INIT
    return {name: halted or (STOPPED if name in stopped else WHY[name]) for name in empty}
