"""The documents of the Docker Engine API and of the container's directory, as types.

Rule: shapes only, in Docker's own names (`OpenStdin` on the wire is `open_stdin`
here); what a value means stands in the room that uses it.
Source: Docker Engine API 1.41, ContainerCreate; era.md section 3.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Document(msgspec.Struct, rename="pascal", kw_only=True):
    """A JSON object whose keys are written in PascalCase."""


class Config(Document):
    """What the container is, wherever it runs. Null lists mean `not given`."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, dict[str, Any]] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None


class Ulimit(Document):
    """One `--ulimit`. A hard limit that is left out is -1 on the wire."""

    name: str
    soft: int
    hard: int


class Device(Document):
    """One `--device`."""

    path_on_host: str
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


class RestartPolicy(Document):
    """`--restart`: only `no` is here."""

    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(Document):
    """`--log-driver`: only json-file without options is here."""

    type: str = ""
    config: dict[str, str] | None = None


class HostConfig(Document):
    """What the container is given by this host. Memory and shm in bytes."""

    binds: list[str] | None = None
    tmpfs: dict[str, str] | None = None
    log_config: LogConfig | None = None
    network_mode: str = ""
    restart_policy: RestartPolicy | None = None
    auto_remove: bool = False
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    pid_mode: str = ""
    uts_mode: str = msgspec.field(name="UTSMode", default="")
    cgroupns_mode: str = ""
    privileged: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    shm_size: int | None = None
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    cgroup_parent: str = ""
    cpu_shares: int = 0
    nano_cpus: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    pids_limit: int | None = None
    oom_score_adj: int = 0
    ulimits: list[Ulimit] | None = None
    devices: list[Device] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None


class State(Document):
    """Where the container is in its life, as config.v2.json and `inspect` tell it."""

    running: bool = False
    paused: bool = False
    dead: bool = False
    removal_in_progress: bool = False
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = "0001-01-01T00:00:00Z"
    finished_at: str = "0001-01-01T00:00:00Z"


class Record(Document):
    """config.v2.json: everything of the container but its HostConfig."""

    state: State
    id: str = msgspec.field(name="ID")
    created: str
    path: str
    args: list[str]
    config: Config
    image: str
    name: str
    driver: str
    log_path: str
    mount_id: str = msgspec.field(name="MountID")
    restart_count: int = 0
    has_been_started_before: bool = False
    has_been_manually_stopped: bool = False
    hostname_path: str = ""
    hosts_path: str = ""
    resolv_conf_path: str = ""
    shm_path: str = ""
    no_new_privileges: bool = False


class AttachOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an attach asks for. `logs`: first what was said before; `stream`: then what comes."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = False
    logs: bool = False
