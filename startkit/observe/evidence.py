"""What was seen of one target, as plain frozen types that go to JSON and back.

Rule: no code that looks and no code that judges stands here. Every field that an
engine may leave without an answer is None or empty, and `missing` says why.

Units: modes are octal strings such as `0644`, sizes bytes, times RFC 3339 strings, pids
those of the observer's own pid namespace.
"""

from __future__ import annotations

from typing import Any

import msgspec

FORMAT = 1


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One name in a directory."""

    kind: str  # file directory symlink fifo socket char block
    mode: str
    uid: int
    gid: int
    size: int
    link: str | None = None  # a symlink's target
    text: str | None = None  # content of a regular file up to 64 KiB, where it is UTF-8
    device: str | None = None  # "MAJOR:MINOR" of a char or block device


class Mount(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of /proc/PID/mountinfo. Source: proc(5)."""

    root: str
    target: str
    fstype: str
    source: str
    options: list[str]
    super_options: list[str]
    propagation: str  # "" private, "shared", "master", ...


class Process(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One process as /proc shows it from outside."""

    pid: int
    ppid: int
    comm: str
    argv: list[str]
    cwd: str
    exe: str
    pgid: int
    sid: int
    namespaces: dict[str, str] = {}  # "mnt" -> "mnt:[4026531841]"
    status: dict[str, str] = {}  # /proc/PID/status: Uid Gid Groups CapEff NoNewPrivs NSpid ...
    cgroups: list[str] = []  # lines of /proc/PID/cgroup
    limits: dict[str, tuple[str, str]] = {}  # "Max open files" -> (soft, hard)
    oom_score_adj: int | None = None


class End(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One row of the article's lsof table: somebody holds one end of a FIFO."""

    holder: str  # daemon, shim, containerd or other
    fifo: str  # role: stdin stdout stderr
    access: str  # handle (O_PATH), read, write, both


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One reply of the engine's API."""

    request: str  # "POST /containers/{id}/start"
    status: int
    body: Any = None

    @property
    def message(self) -> str:
        """The engine's words, where it has any."""
        return str(self.body.get("message", "") if isinstance(self.body, dict) else self.body)


class Moment(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was seen of one container at one point of its life."""

    inspect: dict[str, Any] = {}
    row: dict[str, Any] = {}  # the container's row of GET /containers/json?all=1
    init: Process | None = None
    ancestors: list[Process] = []  # init's parent first, up to pid 1 or the observer
    container_dir: str | None = None
    container_files: dict[str, Entry] = {}  # relative path -> entry
    bundle: str | None = None
    bundle_mode: str | None = None
    bundle_files: dict[str, Entry] = {}
    config: dict[str, Any] | None = None  # config.json of the bundle
    fifos: dict[str, str] = {}  # role -> path of the FIFO
    fifo_modes: dict[str, str] = {}  # role -> mode
    ends: list[End] = []
    rootfs: str | None = None  # path of the merged rootfs on the host
    rootfs_mount: Mount | None = None  # its line in the host's mountinfo
    rootfs_files: dict[str, Entry] = {}  # the names the article lists, seen from the host
    init_layer_mounted: bool | None = None
    host_mounts: list[Mount] = []  # the host's mountinfo, what belongs to this container
    mounts: list[Mount] = []  # the container's own mountinfo
    hostname: str | None = None  # of the init process's uts namespace
    init_fds: dict[str, str] = {}  # "0" -> what init has open there
    inside: dict[str, Entry] = {}  # "/etc/hosts" ... read through /proc/PID/root
    cgroup_dirs: dict[
        str, str
    ] = {}  # hierarchy ("memory", "unified") -> directory named after the id
    cgroup_files: dict[str, str] = {}  # "memory/memory.limit_in_bytes" -> text
    state_dir: str | None = None  # containerd's directory of the container
    state_files: dict[str, Entry] = {}
    log: list[dict[str, Any]] = []  # the json log's lines
    log_text: str | None = None
    missing: dict[str, str] = {}  # field -> why nothing could be seen


class Scene(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One container's life: how it was made and what was seen at each moment.

    `moments`: created, running, again (after stop and a second start), stopped, removed,
    as far as the scene goes.
    """

    name: str
    recipe: dict[str, Any]  # body of POST /containers/create
    id: str = ""
    answers: dict[
        str, Answer
    ] = {}  # create, start, start-running, stop, wait, remove, unknown, ...
    moments: dict[str, Moment] = {}
    events: list[dict[str, Any]] = []  # GET /events of this container, oldest first
    leftovers: list[str] = []  # mounts, cgroups, FIFOs, processes of it after removal
    broken: str | None = None  # why the observation itself failed
    # a run with several workers has an engine each, so these belong to the scene
    root: str | None = None  # DockerRootDir
    daemon: Process | None = None
    containerd: Process | None = None


class Ran(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One call of a runtime's command line."""

    argv: list[str]
    status: int
    said: str = ""  # stdout and stderr


class Glimpse(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was seen of a runtime's container from outside, at one call of `state`."""

    state: dict[str, Any] | None = None  # what `state` printed
    init: Process | None = None  # by the pid in it
    cgroup_dirs: dict[str, str] = {}
    cgroup_files: dict[str, str] = {}
    output: str = ""  # what the program had said so far


class Trial(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One bundle's life under a runtime: calls in their order, glimpses between them."""

    name: str
    id: str
    bundle: str
    config: dict[str, Any]
    calls: dict[str, Ran] = {}
    glimpses: dict[str, Glimpse] = {}
    output: str = ""
    files: dict[str, str] = {}  # what hooks wrote: name -> text
    leftovers: list[str] = []
    broken: str | None = None


class Host(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The machine on which it was seen."""

    kernel: str
    cgroup: str  # v1 hybrid v2
    aufs: bool
    root: bool
    resolv_conf: str
    namespaces: dict[str, str] = {}  # the observer's own


class Seen(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything that was seen of one target: the content of evidence.json."""

    format: int
    target: str  # "dockerd-20.10.24"
    engine: str  # dockerd podman startkit
    version: str
    info: dict[str, Any]  # GET /info
    host: Host
    daemon: Process | None = None  # the first worker's, like `containerd` and `info`
    containerd: Process | None = None
    taken: str = ""
    scenes: dict[str, Scene] = {}
    trials: dict[str, Trial] = {}
    runtime: str = ""  # "runc-1.1.5": who ran the trials
