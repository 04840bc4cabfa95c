"""`docker import --change`: one line of a Dockerfile, applied to an image's config.

Rule: an instruction that is not here is refused by name, never dropped.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec

from startkit.daemon.errors import BadParameter, NotSupported

UNSUPPORTED = ("HEALTHCHECK", "ONBUILD", "SHELL", "VOLUME")
PORT = re.compile(r"\d{1,5}(/(tcp|udp|sctp))?")


def apply(config: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """Return Docker's config object with every line applied.

    Raises BadParameter or NotSupported.
    """
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        instruction, rest = word.upper(), rest.strip()
        if instruction in UNSUPPORTED:
            raise NotSupported(f"startkit does not do {instruction} in changes")
        if instruction not in APPLY:
            raise BadParameter(f"{word} is not a valid change command")
        if not rest:
            raise BadParameter(f"{instruction} requires an argument")
        APPLY[instruction](config, rest)
    return config


def command(rest: str) -> list[str]:
    """Return the words of `["a", "b"]`, or the shell line that the text is else."""
    if rest.startswith("["):
        try:
            return msgspec.json.decode(rest, type=list[str])
        except msgspec.DecodeError:
            pass  # Docker takes it for a shell line as well
    return ["/bin/sh", "-c", rest]


def pairs(rest: str, instruction: str) -> dict[str, str]:
    """Return `k=v k2="v 2"` or the old form `k v` as a dict. Raises BadParameter."""
    first = rest.split(maxsplit=1)
    if "=" not in first[0]:
        if len(first) != 2:
            raise BadParameter(f"{instruction} must have two arguments")
        return {first[0]: first[1]}
    try:
        words = [word.partition("=") for word in shlex.split(rest)]
    except ValueError as error:
        raise BadParameter(f"{instruction}: {error}") from None
    if not all(key and sign for key, sign, _ in words):
        raise BadParameter(f"Syntax error - can't find = in {instruction} {rest!r}")
    return {key: value for key, _, value in words}


def set_environment(config: dict[str, Any], rest: str) -> None:
    """ENV: a later value takes the place of an earlier one."""
    known = dict(entry.split("=", 1) for entry in config["Env"] or [])
    config["Env"] = [f"{k}={v}" for k, v in (known | pairs(rest, "ENV")).items()]


def set_labels(config: dict[str, Any], rest: str) -> None:
    """LABEL."""
    config["Labels"] = (config["Labels"] or {}) | pairs(rest, "LABEL")


def set_ports(config: dict[str, Any], rest: str) -> None:
    """EXPOSE."""
    ports = dict(config.get("ExposedPorts") or {})
    for port in rest.split():
        if not PORT.fullmatch(port):
            raise BadParameter(f"Invalid containerPort: {port}")
        ports[port if "/" in port else f"{port}/tcp"] = {}
    config["ExposedPorts"] = ports


def set_directory(config: dict[str, Any], rest: str) -> None:
    """WORKDIR: relative to the one before."""
    import posixpath

    config["WorkingDir"] = posixpath.join(config["WorkingDir"] or "/", rest)


APPLY = {
    "CMD": lambda config, rest: config.update(Cmd=command(rest)),
    "ENTRYPOINT": lambda config, rest: config.update(Entrypoint=command(rest)),
    "USER": lambda config, rest: config.update(User=rest),
    "STOPSIGNAL": lambda config, rest: config.update(StopSignal=rest),
    "ENV": set_environment,
    "LABEL": set_labels,
    "EXPOSE": set_ports,
    "WORKDIR": set_directory,
}
