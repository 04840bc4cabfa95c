"""`docker create`: a container on disk, with two layers of its own, that has not run.

Rule: the request is checked whole before anything is made, and what was made goes
again when a later part fails.
Source: article, heading on the rootfs; era.md sections 2 and 3.
"""

from __future__ import annotations

import posixpath
import secrets
import shutil
import socket
from typing import TYPE_CHECKING

from startkit.daemon import layers, options, store
from startkit.daemon.errors import ApiError, BadParameter, NotFound, ServerError
from startkit.daemon.io import Streams
from startkit.daemon.types import Config, HostConfig, Record, State

if TYPE_CHECKING:
    from startkit.daemon.engine import Daemon
    from startkit.daemon.images import Image
    from startkit.daemon.store import Container


def clean(path: str) -> str:
    """Return a directory's path without `.`, `..` and doubled slashes; empty stays empty."""
    return "/" + posixpath.normpath(path).lstrip("/") if path else ""


def merge(config: Config, image: Image) -> None:
    """Fill in what the image says and the request does not. Raises BadParameter.

    An entrypoint of the request's own voids the image's command.
    """
    from_image = image.config.config or Config()
    if not config.entrypoint:
        if not config.cmd:
            config.cmd = options.words(from_image.cmd)
        if config.entrypoint is None:
            config.entrypoint = from_image.entrypoint
    if config.entrypoint == [""]:
        config.entrypoint = None
    config.user = config.user or from_image.user
    config.working_dir = clean(config.working_dir or from_image.working_dir)
    config.stop_signal = config.stop_signal or from_image.stop_signal
    config.labels = {**(from_image.labels or {}), **(config.labels or {})}
    own = config.env or []
    named = {variable.partition("=")[0] for variable in own}
    inherited = [v for v in from_image.env or [] if v.partition("=")[0] not in named]
    config.env = own + inherited
    if from_image.volumes:
        raise BadParameter(
            f"the image declares volumes ({', '.join(from_image.volumes)}), "
            "which startkit does not have"
        )
    if not options.words(config.entrypoint) + options.words(config.cmd):
        raise BadParameter("No command specified")


def create(daemon: Daemon, name: str | None, body: bytes) -> dict[str, object]:
    """Make a container; return `Id` and `Warnings`. Raises ApiError, with nothing left behind."""
    config, host = options.parse(body)
    if host.runtime and host.runtime not in daemon.runtimes:
        raise BadParameter(f"Unknown runtime specified {host.runtime}")
    check_joined(daemon, host)
    name = daemon.store.free_name(name)
    if not config.image:
        raise BadParameter("config.Image: no image given")
    image = daemon.images.get(config.image)
    merge(config, image)
    container_id, mount_id = secrets.token_hex(32), secrets.token_hex(32)
    if not config.hostname:
        on_machine = host.network_mode == "host"
        config.hostname = socket.gethostname() if on_machine else container_id[:12]
    complete(host, daemon)
    command = options.words(config.entrypoint) + options.words(config.cmd)
    directory = daemon.store.root / container_id
    record = Record(
        state=State(),
        id=container_id,
        created=store.now(),
        path=command[0],
        args=command[1:],
        config=config,
        image=image.id,
        name=f"/{name}",
        driver=daemon.driver.name,
        log_path=str(directory / f"{container_id}-json.log"),
        mount_id=mount_id,
        hostname_path=str(directory / "hostname"),
        hosts_path=str(directory / "hosts"),
        resolv_conf_path=str(directory / "resolv.conf"),
    )
    container = make(daemon, record, host, image.top_layer)
    daemon.store.add(container)
    daemon.publish(container, "create")
    return {"Id": container_id, "Warnings": []}


def check_joined(daemon: Daemon, host: HostConfig) -> None:
    """Raise BadParameter where `--pid` or `--ipc container:X` names nobody.

    Not NotFound: at this place a client takes 404 for a missing image, and pulls it.
    """
    for mode in (host.pid_mode, host.ipc_mode):
        if mode.startswith("container:"):
            try:
                daemon.find(mode.partition(":")[2])
            except NotFound as error:
                raise BadParameter(error.message) from None


def complete(host: HostConfig, daemon: Daemon) -> None:
    """Write down what the request left to the daemon, so that `inspect` shows it."""
    host.network_mode = host.network_mode or "default"
    host.runtime = host.runtime or daemon.config.default_runtime
    host.ipc_mode = host.ipc_mode or "private"
    host.shm_size = host.shm_size or 64 * 1024 * 1024


def make(daemon: Daemon, record: Record, host: HostConfig, top: str | None) -> Container:
    """Make the layers and the directory. Raises ApiError, and removes what it had made."""
    try:
        layers.make(daemon.driver, record.mount_id, top)
    except OSError as error:
        raise ServerError(f"cannot make the container's layers: {error}") from error
    directory = daemon.store.root / record.id
    try:
        directory.mkdir(mode=0o700)
        (directory / "checkpoints").mkdir(mode=0o700)
        container = adopt(daemon, record, host)
        container.save()
    except (OSError, ApiError) as error:
        shutil.rmtree(directory, ignore_errors=True)
        layers.remove(daemon.driver, record.mount_id)
        raise ServerError(f"cannot write the container's directory: {error}") from error
    return container


def adopt(daemon: Daemon, record: Record, host: HostConfig) -> Container:
    """Return the container of a record, with what it needs in this run."""
    directory, bundle = daemon.store.root / record.id, daemon.store.bundles / record.id
    streams = Streams(directory, bundle, record.id, record.config.tty)
    return store.Container(directory, bundle, record, host, streams)
