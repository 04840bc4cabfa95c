"""Evidence as a test reads it: `seen.config.mount("/etc/hosts").options`.

Rule: a view finds and never judges. Where nothing was seen it raises NoEvidence with
the reason; where it was seen that a thing is not there, the thing is `absent` or None.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from startkit.observe import config
from startkit.observe.evidence import Entry, Moment, Mount

if TYPE_CHECKING:
    from startkit.observe.evidence import Answer, End, Process, Scene, Seen

ABSENT = Entry(kind="absent", mode="absent", uid=-1, gid=-1, size=-1)
NOT_MOUNTED = Mount(
    root="absent",
    target="absent",
    fstype="absent",
    source="absent",
    options=[],
    super_options=[],
    propagation="absent",
)
ORDER = ("created", "running", "stopped", "again")


class NoEvidence(Exception):
    """Nothing was seen, and why."""


class MomentView:
    """One moment; every name of `Moment` that must hold something is an attribute here."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment

    def field(self, name: str) -> Any:
        """Return a field that holds something. Raises NoEvidence."""
        value = getattr(self.moment, name)
        if value in (None, "", [], {}):
            raise NoEvidence(f"{name}: {self.moment.missing.get(name, 'nothing was seen')}")
        return value

    @property
    def inspect(self) -> dict[str, Any]:
        """GET /containers/ID/json."""
        return self.field("inspect")  # type: ignore[no-any-return]

    @property
    def row(self) -> dict[str, Any]:
        """The row of `docker ps`."""
        return self.field("row")  # type: ignore[no-any-return]

    @property
    def init(self) -> Process:
        """The container's first process."""
        return self.field("init")  # type: ignore[no-any-return]

    @property
    def ancestors(self) -> list[Process]:
        """The processes above init, nearest first."""
        return self.field("ancestors")  # type: ignore[no-any-return]

    @property
    def shim(self) -> Process:
        """The parent of init."""
        return self.ancestors[0]

    @property
    def hostname(self) -> str:
        """The host name in init's uts namespace."""
        return self.field("hostname")  # type: ignore[no-any-return]

    @property
    def init_fds(self) -> dict[str, str]:
        """What init has open."""
        return self.field("init_fds")  # type: ignore[no-any-return]

    @property
    def container_dir(self) -> str:
        """The container's directory below the data root."""
        return self.field("container_dir")  # type: ignore[no-any-return]

    @property
    def files(self) -> dict[str, Entry]:
        """What stands in the container's directory, relative path -> entry."""
        return self.field("container_files")  # type: ignore[no-any-return]

    def file(self, name: str) -> Entry:
        """Return one name of the container's directory, absent where it is not."""
        return self.files.get(name, ABSENT)

    def text(self, name: str) -> str:
        """Return what a file of the container's directory holds. Raises NoEvidence without one."""
        found = self.file(name).text
        if found is None:
            raise NoEvidence(f"{name}: no text was seen in the container's directory")
        return found

    @property
    def bundle(self) -> str:
        """The bundle's directory."""
        return self.field("bundle")  # type: ignore[no-any-return]

    @property
    def bundle_mode(self) -> str:
        """The mode of the bundle's directory."""
        return self.field("bundle_mode")  # type: ignore[no-any-return]

    @property
    def bundle_files(self) -> dict[str, Entry]:
        """What stands in the bundle."""
        return self.field("bundle_files")  # type: ignore[no-any-return]

    def bundle_file(self, name: str) -> Entry:
        """Return one name of the bundle, absent where it is not."""
        return self.bundle_files.get(name, ABSENT)

    @property
    def config(self) -> config.Config:
        """config.json of the bundle."""
        return config.Config(self.field("config"))

    @property
    def fifos(self) -> dict[str, str]:
        """Role -> path."""
        return self.field("fifos")  # type: ignore[no-any-return]

    def fifo(self, role: str) -> str | None:
        """Return the path of the FIFO for stdin, stdout or stderr, or None."""
        return self.fifos.get(role)

    @property
    def fifo_modes(self) -> dict[str, str]:
        """Role -> mode."""
        return self.field("fifo_modes")  # type: ignore[no-any-return]

    @property
    def holders(self) -> list[str]:
        """Who has an end of some FIFO open, sorted."""
        rows: list[End] = self.field("ends")
        return sorted({end.holder for end in rows})

    def ends(self, holder: str, fifo: str | None = None) -> list[str]:
        """Return how a holder has the FIFOs open: `stdin handle`; with `fifo`, `handle` alone."""
        assert self.fifos
        rows: list[End] = [end for end in self.moment.ends if end.holder == holder]
        if fifo is not None:
            return sorted(end.access for end in rows if end.fifo == fifo)
        return sorted(f"{end.fifo} {end.access}" for end in rows)

    @property
    def rootfs(self) -> str:
        """The merged rootfs on the host."""
        return self.field("rootfs")  # type: ignore[no-any-return]

    @property
    def rootfs_mount(self) -> Mount:
        """The rootfs' line in the host's mountinfo."""
        return self.field("rootfs_mount")  # type: ignore[no-any-return]

    def rootfs_file(self, name: str) -> Entry:
        """Return a name of the rootfs as the host sees it, absent where it is not."""
        found: dict[str, Entry] = self.field("rootfs_files")
        return found.get(name.lstrip("/"), ABSENT)

    @property
    def init_layer_mounted(self) -> bool:
        """Whether something is mounted on the init layer."""
        return self.field("init_layer_mounted")  # type: ignore[no-any-return]

    @property
    def host_mounts(self) -> list[Mount]:
        """The host's mounts of this container; there may be none."""
        return self.moment.host_mounts

    @property
    def mounts(self) -> list[Mount]:
        """The container's own mounts."""
        return self.field("mounts")  # type: ignore[no-any-return]

    def mount(self, target: str) -> Mount:
        """Return what shows at a place of the container: the last mount there, or `absent`."""
        found = [mount for mount in self.mounts if mount.target == target]
        return found[-1] if found else NOT_MOUNTED

    def inside(self, path: str) -> Entry:
        """Return a path as the container sees it, absent where it is not."""
        found: dict[str, Entry] = self.field("inside")
        return found.get(path, ABSENT)

    @property
    def cgroup_dirs(self) -> dict[str, str]:
        """Hierarchy -> directory."""
        return self.field("cgroup_dirs")  # type: ignore[no-any-return]

    def cgroup(self, *names: str) -> str:
        """Return the first cgroup file of these names (`pids.max`), whichever hierarchy has it.

        Raises NoEvidence where there is none of them.
        """
        found: dict[str, str] = self.field("cgroup_files")
        for name in names:
            for path, text in found.items():
                if path.endswith(f"/{name}"):
                    return text
        raise NoEvidence(f"the container's cgroups have no {' or '.join(names)}")

    @property
    def state_dir(self) -> str:
        """Containerd's directory of the container."""
        return self.field("state_dir")  # type: ignore[no-any-return]

    @property
    def state_files(self) -> dict[str, Entry]:
        """What stands in it."""
        return self.field("state_files")  # type: ignore[no-any-return]

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the json log."""
        return self.field("log_text") and self.moment.log


class SceneView(MomentView):
    """One scene. Its own attributes are those of the running container.

    Where the scene never runs, they are those of its last moment.
    """

    def __init__(self, seen: Seen, scene: Scene) -> None:
        self.seen = seen
        self.scene = scene
        last = next((name for name in reversed(ORDER) if name in scene.moments), "running")
        self.main = "running" if "running" in scene.moments else last

    @property
    def moment(self) -> Moment:  # type: ignore[override]
        """The moment that stands for the scene."""
        return self.at(self.main).moment

    def at(self, name: str) -> MomentView:
        """Return one moment. Raises NoEvidence with what stopped the scene before it."""
        found = self.scene.moments.get(name)
        if found is None:
            raise NoEvidence(self.scene.broken or self.refusal() or f"the scene has no `{name}`")
        return MomentView(found)

    def refusal(self) -> str | None:
        """Return the first request of a life that the engine refused."""
        for key in ("create", "start", "stop", "start-again"):
            answer = self.scene.answers.get(key)
            if answer and answer.status >= 400:
                return f"{answer.request}: {answer.status} {answer.message}"
        return None

    @property
    def created(self) -> MomentView:
        """After create, before the first start."""
        return self.at("created")

    @property
    def running(self) -> MomentView:
        """After the first start."""
        return self.at("running")

    @property
    def stopped(self) -> MomentView:
        """After stop, or when the program has ended."""
        return self.at("stopped")

    @property
    def again(self) -> MomentView:
        """After the second start."""
        return self.at("again")

    @property
    def id(self) -> str:
        """The container's id."""
        if not self.scene.id:
            raise NoEvidence(self.scene.broken or self.refusal() or "no container was created")
        return self.scene.id

    def answer(self, key: str) -> Answer:
        """Return the engine's answer to one request of the scene."""
        found = self.scene.answers.get(key)
        if found is None:
            raise NoEvidence(self.scene.broken or self.refusal() or f"`{key}` was not asked")
        return found

    def whole(self) -> None:
        """Make sure that the scene came to its end. Raises NoEvidence."""
        self.answer("remove")
        if self.scene.broken:
            raise NoEvidence(self.scene.broken)

    @property
    def events(self) -> list[str]:
        """The actions of the container's events, oldest first."""
        self.whole()
        return [str(event.get("Action", event.get("status"))) for event in self.scene.events]

    @property
    def leftovers(self) -> list[str]:
        """What was left after the removal; the empty list is the good news."""
        self.whole()
        return self.scene.leftovers

    @property
    def daemon(self) -> Process:
        """The process behind the API socket."""
        return self.known(self.scene.daemon, "nobody was seen listening on the API socket")

    @property
    def containerd(self) -> Process:
        """The daemon's containerd."""
        return self.known(self.scene.containerd, "the daemon has no containerd that can be seen")

    def known(self, process: Process | None, reason: str) -> Process:
        """Return a process that was seen. Raises NoEvidence."""
        if process is None:
            raise NoEvidence(self.scene.broken or reason)
        return process

    def named_rootfs(self) -> str | None:
        """Return the rootfs by what the engine says of its driver, not by config.json."""
        moments = self.scene.moments.values()
        told = (config.graph_driver_place(at.inspect) for at in moments)
        # a driver without MergedDir keeps its merged layers in one directory each
        kept = (
            at.rootfs
            for at in moments
            if at.rootfs
            and os.path.dirname(at.rootfs) in self.layer_places(str(at.inspect.get("Driver")))
        )
        return next((place for place in (*told, *kept) if place), None)

    def layer_places(self, driver: str) -> list[str]:
        """Return the directories in which aufs and vfs keep what a container sees."""
        return [os.path.join(self.scene.root or "/", driver, name) for name in ("mnt", "dir")]

    def named(self) -> str:
        """Return the container's name, which the suite gave it."""
        told = (str(at.inspect.get("Name") or "") for at in self.scene.moments.values())
        return next((name.removeprefix("/") for name in told if name), "")

    def names(self) -> dict[str, str]:
        """Return what differs from run to run: token of golden/README.md -> text seen here."""
        found = {
            "<ID>": self.scene.id,
            "<NAME>": self.named(),
            "<ID12>": self.scene.id[:12],
            "<ROOT>": self.scene.root,
            "<RUN>": config.exec_root(self.scene.daemon),
            "<ROOTFS>": self.named_rootfs(),
        }
        return {token: text for token, text in found.items() if text}
