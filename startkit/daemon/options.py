"""The body of `docker create`, checked before anything is made.

Rule: every key of the request is used, or is known to change nothing, or is
refused by its name. Nothing is silently dropped, nothing is touched on disk.
"""

from __future__ import annotations

import ipaddress
import os
import re
import signal
from typing import Any

import msgspec

from startkit.daemon import caps, limits
from startkit.daemon.errors import BadParameter, NotSupported
from startkit.daemon.types import Config, HostConfig

# Keys that only matter to the client, to other systems, or to `docker build`.
HARMLESS = {"ContainerIDFile", "ConsoleSize", "OnBuild", "ArgsEscaped", "Shell"}
# A value that asks for nothing, for any key: what clients send for an option not given.
NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})
# Values beside those that ask for what happens anyway.
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "Isolation": ("default",),
    "MemorySwappiness": (-1,),
    "UsernsMode": ("host",),
    "VolumeDriver": ("local",),
}
HOSTNAME = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
PROPAGATION = ("shared", "rshared", "slave", "rslave", "private", "rprivate")
# what the third part of a `-v` may say, one word of each kind
BIND_WORDS = {
    "access": ("ro", "rw"),
    "propagation": PROPAGATION,
    "label": ("z", "Z"),
    "consistency": ("consistent", "cached", "delegated"),
}


def parse(body: bytes) -> tuple[Config, HostConfig]:
    """Return the two halves of the body.

    Raises BadParameter with the field's JSON path, NotSupported with its name.
    """
    try:
        raw = msgspec.json.decode(body or b"null", type=dict[str, Any])
        halves = dict(raw)
        host_raw = halves.pop("HostConfig", None)
        host_raw = {} if host_raw is None else host_raw
        if not isinstance(host_raw, dict):
            raise BadParameter("invalid JSON: Expected `object` - at `$.HostConfig`")
        networking = halves.pop("NetworkingConfig", None)
        config = msgspec.convert(halves, Config)
        host = msgspec.convert(host_raw, HostConfig)
    except msgspec.DecodeError as error:  # a wrong type is one too
        raise BadParameter(f"invalid JSON: {error}") from None
    refuse_unknown(halves, Config, "")
    refuse_unknown(host_raw, HostConfig, "HostConfig.")
    refuse_networking(networking)
    check_config(config, host)
    check_host(host)
    limits.check(host)
    return config, host


def refuse_unknown(raw: dict[str, Any], known: type[msgspec.Struct], prefix: str) -> None:
    """Raise NotSupported for the first key that asks for something nobody here does."""
    names = {field.encode_name for field in msgspec.structs.fields(known)}
    for key, value in raw.items():
        if key in names or key in HARMLESS or value in NOTHING + DEFAULTS.get(key, ()):
            continue
        raise NotSupported(f"startkit does not support {prefix}{key} (got {value!r})")


def refuse_networking(networking: Any) -> None:
    """Raise NotSupported where an endpoint asks for an address, an alias, a driver option."""
    if not isinstance(networking, dict | None):
        raise BadParameter("invalid JSON: Expected `object` - at `$.NetworkingConfig`")
    endpoints = (networking or {}).get("EndpointsConfig")
    if not isinstance(endpoints, dict | None):
        raise BadParameter(
            "invalid JSON: Expected `object` - at `$.NetworkingConfig.EndpointsConfig`"
        )
    for name, endpoint in (endpoints or {}).items():
        if not isinstance(endpoint, dict | None):
            where = f"$.NetworkingConfig.EndpointsConfig.{name}"
            raise BadParameter(f"invalid JSON: Expected `object` - at `{where}`")
        for key, value in (endpoint or {}).items():
            if value not in NOTHING:
                raise NotSupported(
                    f"startkit does not support NetworkingConfig.EndpointsConfig.{name}.{key}"
                )


def check_config(config: Config, host: HostConfig) -> None:
    """Check the container's half. Raises BadParameter or NotSupported."""
    if config.volumes:
        raise NotSupported("startkit does not support Volumes: mount a host directory with -v")
    for name, value in (("hostname", config.hostname), ("domainname", config.domainname)):
        if value and (len(value) > 63 or not HOSTNAME.fullmatch(value)):
            raise BadParameter(
                f"invalid {name} format: {value!r} (1 to 63 letters, digits, - and .)"
            )
    if config.hostname and host.uts_mode == "host":
        raise BadParameter("conflicting options: hostname and the UTS mode")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise BadParameter(
            f"the working directory '{config.working_dir}' is invalid, "
            "it needs to be an absolute path"
        )
    for variable in config.env or []:
        if not variable or variable.startswith("=") or "\0" in variable:
            raise BadParameter(f"invalid environment variable: {variable!r}")
    for word in [*words(config.entrypoint), *words(config.cmd)]:
        if "\0" in word:
            raise BadParameter(f"invalid Cmd or Entrypoint: {word!r}: a NUL byte")
    if config.stop_signal:
        signal_number(config.stop_signal)


def words(value: list[str] | str | None) -> list[str]:
    """Return a command as words; a bare string is one word, as in dockerd."""
    return [value] if isinstance(value, str) else list(value or [])


def check_host(host: HostConfig) -> None:
    """Check the host's half but its limits. Raises BadParameter or NotSupported."""
    modes = (
        ("NetworkMode", host.network_mode, {"", "default", "bridge", "none", "host"}),
        ("PidMode", host.pid_mode, {"", "private", "host"}),
        ("IpcMode", host.ipc_mode, {"", "private", "shareable", "host"}),
        ("UTSMode", host.uts_mode, {"", "private", "host"}),
        ("CgroupnsMode", host.cgroupns_mode, {"", "private", "host"}),
    )
    for key, mode, known in modes:
        joinable = key in ("PidMode", "IpcMode") and mode.startswith("container:")
        if mode not in known and not joinable:
            raise NotSupported(f"startkit does not support HostConfig.{key} {mode!r}")
    policy = host.restart_policy
    if policy and policy.name not in ("", "no"):
        raise NotSupported(f"startkit does not support HostConfig.RestartPolicy {policy.name!r}")
    log = host.log_config
    if log and (log.type not in ("", "json-file") or log.config):
        raise NotSupported(
            f"startkit does not support HostConfig.LogConfig {log.type!r} with options"
        )
    for address in host.dns or []:
        check_address(address, "Dns")
    for entry in host.extra_hosts or []:
        name, colon, address = entry.partition(":")
        if not name or not colon:
            raise BadParameter(f"bad format for add-host: {entry!r} (want NAME:ADDRESS)")
        check_address(address, "ExtraHosts")
    for text in [*(host.dns_search or []), *(host.dns_options or []), *(host.extra_hosts or [])]:
        if "\n" in text or "\0" in text:
            raise BadParameter(f"invalid DNS setting: {text!r}")
    for option in host.security_opt or []:
        no_new_privileges_of(option)
    check_mounts(host)
    caps.resolve(host.cap_add or [], host.cap_drop or [])
    for device in host.devices or []:
        if not device.cgroup_permissions or set(device.cgroup_permissions) - set("rwm"):
            raise BadParameter(f"invalid device mode: {device.cgroup_permissions!r} (some of rwm)")


def check_mounts(host: HostConfig) -> None:
    """Check `-v` and `--tmpfs`. Raises BadParameter, NotSupported."""
    targets = [split_bind(bind)[1] for bind in host.binds or []]
    for target in host.tmpfs or {}:
        check_target(target, target)
        targets.append(os.path.normpath(target))
    for target in targets:
        if targets.count(target) > 1:
            raise BadParameter(f"Duplicate mount point: {target}")


def check_address(text: str, key: str) -> None:
    """Raise BadParameter unless `text` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise BadParameter(f"invalid IP address in HostConfig.{key}: {text!r}") from None


def check_target(target: str, whole: str) -> None:
    """Raise BadParameter unless `target` is a path in the container that can be mounted on."""
    if not target.startswith("/") or "\0" in target:
        raise BadParameter(
            f"invalid volume specification: '{whole}': the target is not an absolute path"
        )
    if os.path.normpath(target) in ("/", "//"):
        raise BadParameter(f"invalid volume specification: '{whole}': destination can't be '/'")


def split_bind(bind: str) -> tuple[str, str, bool, str]:
    """Return (source, target, writable, propagation) of a `-v` word.

    Raises BadParameter for a bad one, NotSupported for a named volume.
    """
    parts = bind.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise BadParameter(f"invalid volume specification: '{bind}'")
    source, target = parts[0], parts[1]
    if not source.startswith("/"):
        raise NotSupported(f"startkit does not support named volumes: '{bind}'")
    check_target(target, bind)
    words = parts[2].split(",") if len(parts) == 3 else []
    said = {kind: [word for word in words if word in known] for kind, known in BIND_WORDS.items()}
    if len(words) != sum(map(len, said.values())) or any(len(of) > 1 for of in said.values()):
        raise BadParameter(f"invalid mode: {parts[2]}")
    if said["label"]:
        raise NotSupported(f"startkit does not support SELinux labels: '{bind}'")
    writable = said["access"] != ["ro"]
    propagation = (said["propagation"] or ["rprivate"])[0]
    return source, os.path.normpath(target), writable, propagation


def no_new_privileges_of(option: str) -> bool:
    """Return what a `--security-opt` word says of no-new-privileges; others change nothing here.

    Raises NotSupported for a profile or label, BadParameter for a word that nobody knows.
    """
    key, _, value = option.replace("=", ":", 1).partition(":")
    if key == "no-new-privileges" and value in ("", "true", "false"):
        return value != "false"
    if option.replace("=", ":") in ("seccomp:unconfined", "apparmor:unconfined", "label:disable"):
        return False
    if key in ("seccomp", "apparmor", "label", "systempaths"):
        raise NotSupported(f"startkit does not support HostConfig.SecurityOpt {option!r}")
    raise BadParameter(f"invalid --security-opt: {option!r}")


def signal_number(text: str) -> int:
    """Return the number of a signal given as `9`, `KILL` or `SIGKILL`.

    Raises BadParameter.
    """
    name = text.upper().removeprefix("SIG")
    if name.isdecimal() and 0 < int(name) <= signal.SIGRTMAX:
        return int(name)
    if name.startswith(("RTMIN+", "RTMAX-")) and name[6:].isdecimal():
        offset = int(name[6:])
        if offset <= signal.SIGRTMAX - signal.SIGRTMIN:
            return signal.SIGRTMIN + offset if name[3:5] == "IN" else signal.SIGRTMAX - offset
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise BadParameter(f"Invalid signal: {text}") from None
