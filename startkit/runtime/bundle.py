"""The bundle: config.json, read once and checked before anything is made.

Rule: a config that this runtime would carry out only in part is refused here, with one
line that names the JSON path and the rule. What passes can be relied on by every other
module without asking again.

SHAPE is the check, as data: a dict is an object (a key with `!` is required), a list is an
array of that shape, a type is that type, a function returns the broken rule or "".
Unknown keys pass, as the specification asks.

Source: OCI runtime-spec, config.md and config-linux.md.
"""

from __future__ import annotations

import os

from startkit.runtime.shape import SHAPE, plain
from startkit.runtime.text import ContainerError, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS: dict[type, str] = {str: "text", int: "a whole number", bool: "true or false"}

# Kernel settings that belong to a namespace; all others are the host's.
IPC_SYSCTLS = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
               "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced")  # fmt: skip


class Bundle:
    """A checked config.json and where it lies.

    `path` is the absolute bundle directory, `rootfs` the absolute root file system.
    """

    def __init__(self, path: str, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.process: dict[str, Any] = config["process"]
        self.linux: dict[str, Any] = config["linux"]
        self.rootfs = os.path.realpath(os.path.join(path, config["root"]["path"]))

    def namespace_types(self) -> set[str]:
        """Return the types of namespace that are not the host's."""
        return {entry["type"] for entry in self.linux.get("namespaces") or ()}

    def hooks(self, kind: str) -> list[dict[str, Any]]:
        """Return the hooks of one kind, in order."""
        return (self.config.get("hooks") or {}).get(kind) or []


def read_bundle(path: str) -> Bundle:
    """Return the bundle in the directory `path`. Raises ContainerError."""
    path = os.path.abspath(path)
    name = os.path.join(path, "config.json")
    try:
        with open(name, encoding="utf-8") as file:
            config = parse_json(file.read())
    except FileNotFoundError:
        raise ContainerError(f"JSON specification file {name} not found") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ContainerError(f"{name}: not JSON: {error}") from None
    broken = broken_rule(config, SHAPE, "") or broken_relation(config)
    if broken:
        raise ContainerError(f"config.json {broken}")
    bundle = Bundle(path, config)
    if not os.path.isdir(bundle.rootfs):
        raise ContainerError(f"config.json /root/path: no such directory: {bundle.rootfs}")
    return bundle


def broken_rule(value: Any, shape: Any, path: str) -> str:
    """Return the first rule that `value` breaks, as `/json/path: rule`, or ""."""
    if isinstance(shape, dict):
        return broken_object(value, shape, path)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{path}: must be an array"
        return first(broken_rule(v, shape[0], f"{path}/{i}") for i, v in enumerate(value))
    if isinstance(shape, type):
        if not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
            return f"{path}: must be {KINDS[shape]}"
        bad = shape is str and not plain(value)
        return f"{path}: must not hold a NUL or half a character" if bad else ""
    rule = shape(value)
    return f"{path}: {rule}" if rule else ""


def broken_object(value: Any, shape: dict[str, Any], path: str) -> str:
    """Return the first rule that an object breaks: missing keys first, then each key's own."""
    if not isinstance(value, dict):
        return f"{path or '/'}: must be an object"
    if "*" in shape:
        return first(broken_rule(v, shape["*"], f"{path}/{k}") for k, v in value.items())
    for key, inner in shape.items():
        name = key.rstrip("!")
        entry = value.get(name)
        if entry is None:
            if key != name:
                return f"{path}/{name}: is required"
            continue
        broken = broken_rule(entry, inner, f"{path}/{name}")
        if broken:
            return broken
    return ""


def first(found: Any) -> str:
    """Return the first non-empty text of an iterable, or ""."""
    return next(filter(None, found), "")


def broken_relation(config: dict[str, Any]) -> str:
    """Return the first rule broken between two fields, or ""."""
    linux = config["linux"]
    entries = linux.get("namespaces") or []
    types = [entry["type"] for entry in entries]
    for index, name in enumerate(types):
        if name in types[:index]:
            return f"/linux/namespaces/{index}/type: {name} stands there twice"
    limits = [entry["type"] for entry in config["process"].get("rlimits") or []]
    for index, name in enumerate(limits):
        if name in limits[:index]:
            return f"/process/rlimits/{index}/type: {name} stands there twice"
    if "mount" not in types:
        return "/linux/namespaces: a mount namespace is required"
    own = [entry["type"] for entry in entries if not is_ours(entry)]
    for key, needed in (("hostname", "uts"), ("domainname", "uts")):
        if config.get(key) and needed not in own:
            return f"/{key}: needs a {needed} namespace of its own"
    if linux.get("timeOffsets") and not any(
        e["type"] == "time" and not e.get("path") for e in entries
    ):
        return "/linux/timeOffsets: needs a new time namespace"
    new_user = any(e["type"] == "user" and not e.get("path") for e in entries)
    for key in ("uidMappings", "gidMappings"):
        if bool(linux.get(key)) != new_user:
            rule = "is required with" if new_user else "needs"
            return f"/linux/{key}: {rule} a new user namespace"
    return first(broken_sysctl(name, own) for name in linux.get("sysctl") or ())


def is_ours(entry: dict[str, Any]) -> bool:
    """Whether a namespace by path is the one that we are in: its settings are the host's."""
    try:
        return os.path.samefile(entry.get("path") or "", f"/proc/self/ns/{entry['type'][:3]}")
    except OSError:  # a new one, or a type that nothing is set in
        return False


def broken_sysctl(name: str, types: list[str]) -> str:
    """Return the rule that a kernel setting breaks: it must belong to a namespace of our own."""
    path = f"/linux/sysctl/{name}"
    dotted = name.replace("/", ".")
    if ".." in name:
        return f"{path}: must not hold '..'"
    if dotted.startswith("net."):
        return "" if "network" in types else f"{path}: needs a network namespace of its own"
    if dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        return "" if "ipc" in types else f"{path}: needs an ipc namespace of its own"
    if dotted == "kernel.domainname" and "uts" in types:
        return ""
    return f"{path}: is not a setting of a namespace, it would change the host"
