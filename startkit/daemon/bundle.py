"""The OCI bundle: `config.json`, the runtime's whole world.

Rule: `config` is pure; it turns what is known of the container into the document.
Mounts are in `mounts`, the numbers of `--memory` and its like in `resources`.
Source: article, heading on the bundle, listing of config.json; era.md section 4.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from startkit.daemon import caps, cgroup, mounts, options, resources, users
from startkit.daemon.errors import Conflict

if TYPE_CHECKING:
    from startkit.daemon.start import Start
    from startkit.daemon.store import Container
    from startkit.daemon.types import Config, HostConfig

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MASKED = [
    "/proc/kcore",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
]
READONLY = [
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
]


def environment(config: Config) -> list[str]:
    """Return the `K=V` strings: Docker's own, then the user's.

    A user's `K=V` takes the place of Docker's `K`, a bare `K` removes it. What the user
    gives twice is there twice: the runtime takes the last.
    """
    env = [PATH, f"HOSTNAME={config.hostname}"] + ["TERM=xterm"] * config.tty
    places = {known.partition("=")[0]: place for place, known in enumerate(env)}
    for word in config.env or []:
        key, given, _ = word.partition("=")
        if key in places:
            env[places[key]] = word if given else ""
        elif given:
            env.append(word)
    return [word for word in env if word]


def process(container: Container, user: users.User) -> dict[str, Any]:
    """Return `process`: what to run, as whom, with what."""
    config, host = container.record.config, container.host
    granted = caps.resolve(host.cap_add or [], host.cap_drop or [], privileged=host.privileged)
    # a user other than root starts with none in force: exec would drop them anyway
    in_force = granted if user.uid == 0 else []
    made: dict[str, Any] = {
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid},
        "args": [container.record.path, *container.record.args],
        "env": environment(config),
        "cwd": config.working_dir or "/",
        "capabilities": {"bounding": granted, "effective": in_force, "permitted": in_force},
        "noNewPrivileges": container.record.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    }
    if user.groups:
        made["user"]["additionalGids"] = user.groups
    if host.ulimits:
        made["rlimits"] = [rlimit(limit.name, limit.hard, limit.soft) for limit in host.ulimits]
    return made


def rlimit(name: str, hard: int, soft: int) -> dict[str, Any]:
    """Return one of `process.rlimits`; -1 is no limit, the largest unsigned number."""
    return {"type": f"RLIMIT_{name.upper()}", "hard": hard % 2**64, "soft": soft % 2**64}


def namespaces(host: HostConfig, pids: dict[str, int]) -> list[dict[str, str]]:
    """Return the namespaces in Docker's order; one that is shared with the machine is absent.

    `pids`: the init of the container that `--pid` or `--ipc container:X` joins.
    """
    kinds = {
        "mount": "",
        "network": host.network_mode,
        "uts": host.uts_mode,
        "pid": host.pid_mode,
        "ipc": host.ipc_mode,
        "cgroup": host.cgroupns_mode or "host",
    }
    made = []
    for kind, mode in kinds.items():
        if mode.startswith("container:"):
            made.append({"type": kind, "path": f"/proc/{pids[mode]}/ns/{kind}"})
        elif mode != "host":
            made.append({"type": kind})
    return made


def config(
    container: Container, user: users.User, cgroup_parent: str, pids: dict[str, int]
) -> dict[str, Any]:
    """Return config.json for a container whose rootfs is mounted."""
    host, words = container.host, container.record.config
    full = f"{words.hostname}.{words.domainname}" if words.domainname else words.hostname
    in_container, propagation = mounts.of(container)
    linux: dict[str, Any] = {
        "cgroupsPath": cgroup.path_of(container.id, cgroup_parent),
        "namespaces": namespaces(host, pids),
        "resources": resources.of(host),
        "maskedPaths": MASKED if host.masked_paths is None else host.masked_paths,
        "readonlyPaths": READONLY if host.readonly_paths is None else host.readonly_paths,
    }
    if nodes := resources.devices(host):
        linux["devices"] = nodes
    if host.privileged:
        linux["maskedPaths"] = linux["readonlyPaths"] = []
    if host.sysctls:
        linux["sysctl"] = host.sysctls
    if propagation:
        linux["rootfsPropagation"] = propagation
    made = {
        "ociVersion": "1.0.2",
        "process": process(container, user),
        "root": {"path": os.fspath(container.rootfs or ""), "readonly": host.readonly_rootfs},
        "hostname": full,
        "mounts": in_container,
        "linux": linux,
    }
    if host.uts_mode == "host":
        del made["hostname"]
    return made


def joined(start: Start) -> dict[str, int]:
    """Return the inits of the containers whose namespaces are joined. Raises Conflict."""
    host, pids = start.container.host, {}
    for mode in (host.pid_mode, host.ipc_mode):
        if mode.startswith("container:"):
            other = start.daemon.find(mode.partition(":")[2])
            if not other.running:
                raise Conflict(f"cannot join a namespace of a non running container: {other.id}")
            pids[mode] = other.record.state.pid
    return pids


def write_config(start: Start) -> None:
    """Step: the bundle directory, 0700, and its config.json.

    Raises ServerError for a user that the rootfs does not know, OSError.
    """
    container = start.container
    user = users.resolve(
        os.fspath(container.rootfs or ""),
        container.record.config.user,
        container.host.group_add or [],
    )
    container.record.no_new_privileges = any(
        options.no_new_privileges_of(word) for word in container.host.security_opt or []
    )
    document = config(container, user, start.cgroup_parent, joined(start))
    remove(start)
    container.bundle.mkdir(mode=0o700, parents=True)
    path = container.bundle / "config.json"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(document))


def remove(start: Start) -> None:
    """Undo of `write_config`: the bundle directory goes with all that is in it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(start.container.bundle)
