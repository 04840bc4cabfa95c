"""`mounts` of config.json: what the container sees mounted, in the order it is mounted.

Rule: pure, but for the look whether a bind's source exists and is shared.
Source: article, listing of config.json; era.md section 4, mounts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from startkit.daemon.errors import BadParameter
from startkit.daemon.options import PROPAGATION, split_bind

if TYPE_CHECKING:
    from startkit.daemon.store import Container
    from startkit.daemon.types import HostConfig

Mount = dict[str, Any]

TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev", "rprivate")
TMPFS_SETTINGS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")
# option -> the question it answers; of each question one answer is kept
TMPFS_FLAGS = {
    **{f"{no}{name}": name for name in ("exec", "suid", "dev", "diratime") for no in ("", "no")},
    **dict.fromkeys(("ro", "rw"), "write"),
    **dict.fromkeys(("atime", "noatime", "relatime", "norelatime", "strictatime"), "atime"),
    **dict.fromkeys(("sync", "async", "dirsync"), "sync"),
    **dict.fromkeys(PROPAGATION, "propagation"),
}


def mount(destination: str, fstype: str, source: str, options: str) -> Mount:
    """Return one entry; `options` are separated by spaces."""
    return {
        "destination": destination,
        "type": fstype,
        "source": source,
        "options": options.split(),
    }


def defaults() -> list[Mount]:
    """Return the mounts that every container has."""
    return [
        mount("/proc", "proc", "proc", "nosuid noexec nodev"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755"),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5",
        ),
        mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro nosuid noexec nodev"),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ]


def binds(host: HostConfig) -> tuple[list[Mount], str]:
    """Return the `-v` mounts, and the rootfs propagation that they ask for.

    A source that is absent is made, as dockerd does. Raises BadParameter where a shared
    or slave mount is asked for of a source that is on a private one.
    """
    made, wanted = [], ""
    for word in host.binds or []:
        source, target, writable, propagation = split_bind(word)
        if not os.path.lexists(source):
            os.makedirs(source, exist_ok=True)
        if propagation.endswith("shared"):
            require_propagation(source, "shared")
            wanted = "shared"
        elif propagation.endswith("slave"):
            require_propagation(source, "slave")
            wanted = wanted or "slave"
        readonly = "" if writable else "ro "
        made.append(mount(target, "bind", source, f"rbind {readonly}{propagation}"))
    return made, wanted


def require_propagation(source: str, kind: str) -> None:
    """Raise BadParameter unless the mount that holds `source` is shared (or slave, for `slave`)."""
    path = os.path.realpath(source)
    best, fields = "", ""
    with open("/proc/self/mountinfo") as table:
        for line in table:
            left = line.partition(" - ")[0].split()
            point = left[4].encode().decode("unicode_escape")
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, fields = point, " ".join(left[6:])
    known = ("shared:",) if kind == "shared" else ("shared:", "master:")
    if not any(word in fields for word in known):
        more = "a shared mount" if kind == "shared" else "a shared or slave mount"
        raise BadParameter(f"path {source} is mounted on {best} but it is not {more}")


def from_container_dir(container: Container) -> list[Mount]:
    """Return the binds of the files that the daemon wrote, in the article's order."""
    readonly = "ro " if container.host.readonly_rootfs else ""
    made = [
        mount(f"/etc/{name}", "bind", os.fspath(container.dir / name), f"rbind {readonly}rprivate")
        for name in ("resolv.conf", "hostname", "hosts")
    ]
    return [*made, mount("/dev/shm", "bind", container.record.shm_path, "rbind rprivate")]


def tmpfs(host: HostConfig) -> list[Mount]:
    """Return the `--tmpfs` mounts. Raises BadParameter for an option that no tmpfs has."""
    return [
        mount(target, "tmpfs", "tmpfs", " ".join(tmpfs_words(text.split(","))))
        for target, text in (host.tmpfs or {}).items()
    ]


def tmpfs_words(given: list[str]) -> list[str]:
    """Return dockerd's options and the user's: of two that contradict, the last one stays."""
    kept: dict[str, str] = {}
    for word in [*TMPFS_DEFAULTS, *filter(None, given)]:
        name, equals, _ = word.partition("=")
        kind = name if equals else TMPFS_FLAGS.get(name)
        if kind is None or (equals and name not in TMPFS_SETTINGS):
            raise BadParameter(f"invalid tmpfs option {word!r}")
        kept.pop(kind, None)
        kept[kind] = word
    return list(kept.values())


def merge(base: list[Mount], added: list[Mount]) -> list[Mount]:
    """Return `base` without what `added` replaces, then `added`, shallow destinations first.

    The sort is stable. A mount of the user's on /dev drops the defaults below it.
    """
    targets = {entry["destination"] for entry in added}
    kept = [
        entry
        for entry in base
        if entry["destination"] not in targets
        and not ("/dev" in targets and entry["destination"].startswith("/dev/"))
    ]
    return kept + sorted(added, key=lambda entry: str(entry["destination"]).rstrip("/").count("/"))


def of(container: Container) -> tuple[list[Mount], str]:
    """Return all mounts of a container, and the rootfs propagation, empty for the default."""
    host = container.host
    users, propagation = binds(host)
    users += tmpfs(host)
    given = {entry["destination"] for entry in users}
    ours = [entry for entry in from_container_dir(container) if entry["destination"] not in given]
    base = defaults()
    if host.privileged:  # writable on a read-only root, too
        for entry in base:
            if entry["destination"] in ("/sys", "/sys/fs/cgroup"):
                entry["options"].remove("ro")
    return merge(base, binds_first(users, ours)), propagation


def binds_first(users: list[Mount], ours: list[Mount]) -> list[Mount]:
    """Return volumes, then the daemon's own binds, then tmpfs: the order before the sort."""
    volumes = [entry for entry in users if entry["type"] == "bind"]
    return volumes + ours + [entry for entry in users if entry["type"] != "bind"]
