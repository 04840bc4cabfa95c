"""What `ps`, `inspect` and `info` say, in the API's own words.

Rule: reads only. Source: Docker Engine API 1.41, ContainerList, ContainerInspect, SystemInfo.
"""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from startkit import __version__
from startkit.daemon import cgroup, options
from startkit.daemon.errors import BadParameter

if TYPE_CHECKING:
    from startkit.daemon.engine import Daemon
    from startkit.daemon.store import Container


def seconds(stamp: str) -> float:
    """Return an RFC 3339 time as Unix seconds."""
    return msgspec.convert(stamp, datetime).timestamp()


def ago(span_s: float) -> str:
    """Return a span as Docker says it: `8 seconds`, `About a minute`, `38 minutes`."""
    if span_s < 1:
        return "Less than a second"
    if 60 <= span_s < 120:
        return "About a minute"
    if 3600 <= span_s < 2 * 3600 - 1800:
        return "About an hour"
    number, unit = int(span_s), "second"
    for limit, size, name in (
        (60, 1, "second"),
        (3600, 60, "minute"),
        (48 * 3600, 3600, "hour"),
        (14 * 86400, 86400, "day"),
        (60 * 86400, 7 * 86400, "week"),
        (2 * 365 * 86400, 30 * 86400, "month"),
        (float("inf"), 365 * 86400, "year"),
    ):
        if span_s < limit:
            number, unit = int(span_s // size), name
            break
    return f"{number} {unit}{'' if number == 1 else 's'}"


def status_of(container: Container) -> str:
    """Return created, running, paused, exited, dead or removing."""
    state = container.record.state
    if state.running:
        return "paused" if state.paused else "running"
    if state.dead:
        return "dead"
    if state.removal_in_progress:
        return "removing"
    return "exited" if container.record.has_been_started_before else "created"


def status_text(container: Container) -> str:
    """Return ps' STATUS: `Up 8 seconds`, `Exited (0) 2 hours ago`, `Created`."""
    state, status = container.record.state, status_of(container)
    if state.running:
        stands = " (Paused)" if state.paused else ""
        return f"Up {ago(time.time() - seconds(state.started_at))}{stands}"
    if status == "exited":
        return f"Exited ({state.exit_code}) {ago(time.time() - seconds(state.finished_at))} ago"
    return {"created": "Created", "dead": "Dead", "removing": "Removal In Progress"}[status]


def rows(
    daemon: Daemon,
    *,
    everything: bool,
    limit: int | None,
    size: bool,
    filters: dict[str, list[str]],
) -> list[dict[str, Any]]:
    """Return the rows of `docker ps`, newest first. Raises BadParameter for an unknown filter."""
    chosen = sorted(daemon.store, key=lambda c: seconds(c.record.created), reverse=True)
    shown = []
    unspecific = not (everything or limit or {"status", "exited"} & set(filters))
    for container in chosen:
        if (unspecific and not container.running) or not passes(daemon, container, filters):
            continue
        shown.append(row(daemon, container, size))
    return shown[:limit]


def passes(daemon: Daemon, container: Container, filters: dict[str, list[str]]) -> bool:
    """Say whether a container passes every filter: one of its values fits."""
    record = container.record
    labels = record.config.labels or {}
    for key, values in filters.items():
        if key == "id":
            fits = any(container.id.startswith(value) for value in values)
        elif key == "name":
            fits = any(is_name(value, container.name) for value in values)
        elif key == "status":
            fits = status_of(container) in values
        elif key == "exited":
            fits = status_of(container) == "exited" and str(record.state.exit_code) in values
        elif key == "label":
            pairs = {*labels, *(f"{name}={value}" for name, value in labels.items())}
            fits = pairs.issuperset(values)
        elif key == "ancestor":
            fits = any(is_image(daemon, record.image, value) for value in values)
        elif key in ("before", "since"):
            other = seconds(daemon.find(values[0]).record.created)
            mine = seconds(record.created)
            fits = mine < other if key == "before" else mine > other
        elif key == "network":
            fits = record_network(container) in values
        else:
            raise BadParameter(f"Invalid filter '{key}'")
        if not fits:
            return False
    return True


def is_name(pattern: str, name: str) -> bool:
    """Say whether an expression is found in a name, with or without Docker's leading slash."""
    try:
        return bool(re.search(pattern, name) or re.search(pattern, f"/{name}"))
    except re.error:
        return False


def is_image(daemon: Daemon, image_id: str, ref: str) -> bool:
    """Say whether a reference names an image; an unknown one names none."""
    from startkit.daemon.errors import ApiError

    try:
        return daemon.images.get(ref).id == image_id
    except ApiError:
        return False


def record_network(container: Container) -> str:
    """Return the network's name as clients know it."""
    mode = container.host.network_mode
    return "bridge" if mode in ("", "default") else mode


def row(daemon: Daemon, container: Container, size: bool) -> dict[str, Any]:
    """Return one row of `docker ps`."""
    record = container.record
    made: dict[str, Any] = {
        "Id": container.id,
        "Names": [record.name],
        "Image": record.config.image,
        "ImageID": record.image,
        "Command": " ".join([record.path, *record.args]),
        "Created": int(seconds(record.created)),
        "Ports": [],
        "Labels": record.config.labels or {},
        "State": status_of(container),
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": container.host.network_mode},
        "NetworkSettings": {"Networks": networks(container)},
        "Mounts": mounts(container),
    }
    if size:
        made["SizeRw"] = daemon.driver.size(record.mount_id)
        made["SizeRootFs"] = made["SizeRw"] + sum(
            daemon.driver.size(layer) for layer in daemon.driver.layers(record.mount_id)
        )
    return made


def networks(container: Container) -> dict[str, Any]:
    """Return the container's networks: one, without addresses (there is no networking here)."""
    endpoint = {"NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "", "MacAddress": ""}
    return {record_network(container): endpoint}


def mounts(container: Container) -> list[dict[str, Any]]:
    """Return the `-v` mounts as clients list them."""
    return [
        {
            "Type": "bind",
            "Source": source,
            "Destination": target,
            "Mode": "" if writable else "ro",
            "RW": writable,
            "Propagation": propagation,
        }
        for source, target, writable, propagation in map(
            options.split_bind, container.host.binds or []
        )
    ]


def document(daemon: Daemon, container: Container) -> dict[str, Any]:
    """Return `docker inspect` of one container."""
    record, state = container.record, container.record.state
    status = status_of(container)
    config = msgspec.to_builtins(record.config)
    config["Cmd"], config["Entrypoint"] = (
        None if value is None else options.words(value)
        for value in (record.config.cmd, record.config.entrypoint)
    )
    return {
        "Id": container.id,
        "Created": record.created,
        "Path": record.path,
        "Args": record.args,
        "State": {
            "Status": status,
            **msgspec.to_builtins(state),
            "Restarting": False,
        },
        "Image": record.image,
        "ResolvConfPath": record.resolv_conf_path,
        "HostnamePath": record.hostname_path,
        "HostsPath": record.hosts_path,
        "LogPath": record.log_path,
        "Name": record.name,
        "RestartCount": record.restart_count,
        "Driver": record.driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": host_config(container),
        "GraphDriver": {"Name": record.driver, "Data": daemon.driver.metadata(record.mount_id)},
        "Mounts": mounts(container),
        "Config": config,
        "NetworkSettings": {
            "Bridge": "",
            "SandboxID": "",
            "Ports": {},
            "IPAddress": "",
            "Gateway": "",
            "MacAddress": "",
            "Networks": networks(container),
        },
    }


def host_config(container: Container) -> dict[str, Any]:
    """Return HostConfig as clients expect it, with the daemon's choices filled in."""
    made: dict[str, Any] = msgspec.to_builtins(container.host)
    made["LogConfig"] = {"Type": "json-file", "Config": {}}
    made["RestartPolicy"] = {"Name": "no", "MaximumRetryCount": 0}
    return made


def info(daemon: Daemon) -> dict[str, Any]:
    """Return `docker info`."""
    containers = list(daemon.store)
    running = sum(container.running for container in containers)
    paused = sum(container.record.state.paused for container in containers)
    cgroup2 = any(os.path.exists(point / "cgroup.controllers") for point in cgroup.hierarchies())
    only_v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return {
        "ID": "",
        "Containers": len(containers),
        "ContainersRunning": running - paused,
        "ContainersPaused": paused,
        "ContainersStopped": len(containers) - running,
        "Images": len(daemon.images.images),
        "Driver": daemon.driver.name,
        "DriverStatus": [["Cgroup layout", "v2" if only_v2 else "hybrid" if cgroup2 else "v1"]],
        "Plugins": {"Volume": [], "Network": ["none", "host", "default"], "Log": ["json-file"]},
        "MemoryLimit": True,
        "PidsLimit": True,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": 1,
        "SystemTime": datetime.now(UTC).isoformat(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if only_v2 else "1",
        "KernelVersion": os.uname().release,
        "OperatingSystem": "startkit",
        "OSType": "linux",
        "Architecture": os.uname().machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DockerRootDir": os.fspath(daemon.config.root),
        "Name": os.uname().nodename,
        "ServerVersion": __version__,
        "Runtimes": {name: {"path": path} for name, path in daemon.runtimes.items()},
        "DefaultRuntime": daemon.config.default_runtime,
        "InitBinary": "",
        "SecurityOptions": [],
        "Swarm": {"LocalNodeState": "inactive"},
        "Labels": [],
        "Warnings": None,
        "ContainerdCommit": {"ID": __version__},
        "RuncCommit": {"ID": __version__},
    }
