"""A target: who it is, whether it can be watched at all, and one scene after the other.

Rule: an engine that hangs or lies costs its scene, which is then `broken` or has
fields `missing`, and never the run.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import TYPE_CHECKING, Any

from startkit.client import Client, ClientError
from startkit.observe import cgroups, look, procfs
from startkit.observe.api import Api
from startkit.observe.evidence import FORMAT, Host, Moment, Process, Scene, Seen
from startkit.observe.life import IMAGE, Life, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST_S = 15.0  # one request, a stop included
LOAD_S = 60.0  # loading the image
CLEAR_S = 15.0  # taking a container away


class ObserveError(Exception):
    """The target cannot be watched at all; one line that says why."""


class Collector:
    """Watches one target. `tag` makes the names of its containers unique among workers."""

    def __init__(self, socket_path: str, *, tag: str = "", timeout_s: float = REQUEST_S) -> None:
        self.client = Client(socket_path, timeout_s=timeout_s)
        self.api = Api(self.client)
        self.tag = tag or str(os.getpid())
        self.seen = self.introduce()

    def introduce(self) -> Seen:
        """Return who the target is: version, processes, host. Raises ObserveError."""
        require_root()
        try:
            version, info = self.api.document("/version"), self.api.document("/info")
            if not isinstance(info.get("DockerRootDir"), str | None):
                raise ClientError(f"GET /info: DockerRootDir is {info['DockerRootDir']!r}"[:300])
        except ClientError as error:
            raise ObserveError(str(error)) from None
        engine, number = identify(version)
        daemon = find_daemon(self.client.path)
        return Seen(
            format=FORMAT,
            target=f"{engine}-{number}",
            engine=engine,
            version=number,
            info=info,
            host=host(),
            daemon=daemon,
            containerd=find_containerd(daemon),
            taken=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )

    def load_image(self, archive: Iterator[bytes]) -> None:
        """Give the target the image of the scenes, unless it has it. Raises ObserveError."""
        try:
            if self.client.get(f"/images/{IMAGE}/json").status == 200:
                return
            answer = self.client.request("POST", "/images/load", archive, timeout_s=LOAD_S)
            have = self.client.get(f"/images/{IMAGE}/json")
        except ClientError as error:
            raise ObserveError(str(error)) from None
        if have.status != 200:
            raise ObserveError(f"loading {IMAGE}: {answer.status} {answer.message[:300]}")

    def remove_image(self) -> None:
        """Take the image away again; whatever the target says to that."""
        with contextlib.suppress(ClientError):
            self.client.delete(f"/images/{IMAGE}", force=True)

    def smoke(self) -> None:
        """Create, start and remove one container. Raises ObserveError with the first refusal."""
        body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
        name = f"startkit-smoke-{self.tag}"
        steps: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("POST", "/containers/create", {"name": name, "body": body}),
            ("POST", f"/containers/{name}/start", {}),
            ("DELETE", f"/containers/{name}", {"force": True, "v": True}),
        )
        try:
            for method, template, query in steps:
                answer = self.api.ask(method, template, **query)
                if answer.status >= 300:  # which success it is, clauses judge
                    self.clear(name)
                    said = f"{answer.status} {answer.body}"[:300]
                    raise ObserveError(f"smoke: {answer.request}: {said}")
        except ClientError as error:
            self.clear(name)
            raise ObserveError(f"smoke: {error}") from None

    def clear(self, ref: str) -> None:
        """Remove a container, whatever state it is in, and however late it is."""
        late = self.client.by(time.monotonic() + CLEAR_S)
        with late, contextlib.suppress(ClientError):
            self.client.delete(f"/containers/{ref}", force=True, v=True)

    def moment(self, ref: str) -> Moment:
        """Return what is to be seen of a running container. Raises ObserveError."""
        try:
            answer = self.client.get(f"/containers/{ref}/json")
            found = answer.json() if answer.status == 200 else {}
        except ClientError as error:
            raise ObserveError(str(error)) from None
        if not found:
            raise ObserveError(f"{ref}: {answer.message}")
        if not found["State"]["Running"]:
            raise ObserveError(f"{ref} does not run: start it, its start is then to be seen")
        return look.look(self.subject(found["Id"]))

    def subject(self, container: str) -> look.Subject:
        """Return what is to be looked at of a container, by its id."""
        seen = self.seen
        return look.Subject(
            api=self.api, id=container, root=seen.info.get("DockerRootDir"),
            daemon=seen.daemon, containerd=seen.containerd,
        )  # fmt: skip

    def scene(self, recipe: Recipe) -> Scene:
        """Return one container's life."""
        return Life(self, recipe).run()


def require_root() -> None:
    """Raise ObserveError unless we may look everywhere."""
    if os.geteuid() != 0:
        raise ObserveError("watching an engine needs root: /proc and its files are closed")


def identify(version: dict[str, Any]) -> tuple[str, str]:
    """Return engine (dockerd podman startkit ...) and version number, as GET /version has them."""
    parts = version.get("Components")
    told = [version.get("Platform"), *(parts[:1] if isinstance(parts, list) else [])]
    names = " ".join(str(one.get("Name")) for one in told if isinstance(one, dict)).lower()
    known = next((name for name in ("startkit", "podman") if name in names), "dockerd")
    return known, str(version.get("Version", "unknown")).partition("+")[0]


def host() -> Host:
    """Return the machine that we look from."""
    return Host(
        kernel=platform.release(),
        cgroup=cgroups.version(),
        aufs="\taufs\n" in procfs.read("/proc/filesystems"),
        root=os.geteuid() == 0,
        resolv_conf=procfs.read("/etc/resolv.conf"),
        namespaces=procfs.namespaces("self"),
    )


def find_daemon(socket_path: str) -> Process | None:
    """Return the process that listens on the API socket; not the one that passed it on."""
    pid = procfs.listener(socket_path)
    return procfs.process(pid) if pid else None


def find_containerd(daemon: Process | None) -> Process | None:
    """Return the nearest containerd below the daemon, or who listens on `--containerd SOCKET`."""
    if daemon is None:
        return None
    near = [daemon.pid]
    for pid in near:  # which grows on the way
        for child in filter(None, map(procfs.process, procfs.children(pid))):
            name = " ".join([child.comm, *child.argv[:1]])
            if "containerd" in name and "shim" not in name:
                return child
            near.append(child.pid)
    elsewhere = procfs.option(daemon.argv, "--containerd")
    return find_daemon(elsewhere) if elsewhere else None
