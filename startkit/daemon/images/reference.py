"""Image references: what people type, and the one name that it means.

`x`, `x:latest`, `library/x` and `docker.io/library/x` are the same image. The short
form ("familiar") is stored and shown. Nothing here asks a registry.
Source: OCI distribution-spec, names; Docker's normalisation of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from startkit.daemon.errors import BadParameter

PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
PATH = re.compile(rf"{PART}(?:/{PART})*")
HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?\.?)+(?::[0-9]+)?|\[[a-fA-F0-9:]+\](?::[0-9]+)?"
)
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HEX_ID = re.compile(r"[0-9a-f]{64}")
NAME_MAX = 255
INVALID = "invalid reference format"


class Reference(NamedTuple):
    """`name` is familiar; `tag` or `digest` may be empty."""

    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """Return the reference, without adding a tag. Raises BadParameter."""
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise BadParameter(INVALID)
    name, tag = rest, ""
    if ":" in rest.rpartition("/")[2]:
        name, _, tag = rest.rpartition(":")
        if not TAG.fullmatch(tag):
            raise BadParameter(INVALID)
    return Reference(familiar(name), tag, digest)


def parse_tagged(text: str) -> Reference:
    """Return the reference with `latest` where it has no tag. Raises BadParameter for a digest."""
    reference = parse(text)
    if reference.digest:
        raise BadParameter("refusing to create a tag with a digest reference")
    return reference if reference.tag else reference._replace(tag="latest")


def familiar(name: str) -> str:
    """Return the short form of a repository name. Raises BadParameter."""
    host, slash, path = name.partition("/")
    is_host = bool(slash) and (any(c in host for c in ".:[") or host == "localhost")
    if not is_host:
        host, path = "docker.io", name
    if path != path.lower():
        raise BadParameter(f"{INVALID}: repository name must be lowercase")
    if not HOST.fullmatch(host) or not PATH.fullmatch(path) or len(name) > NAME_MAX:
        raise BadParameter(INVALID)
    if HEX_ID.fullmatch(name):
        raise BadParameter(
            f"invalid repository name ({name}), cannot specify 64-byte hexadecimal strings"
        )
    if host in ("docker.io", "index.docker.io"):
        return path.removeprefix("library/")
    return f"{host}/{path}"
