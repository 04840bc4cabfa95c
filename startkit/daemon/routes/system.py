"""`_ping`, `version`, `info`, `events`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from startkit import __version__
from startkit.daemon.images.model import architecture

if TYPE_CHECKING:
    from startkit.daemon.routes.call import Call

API_VERSION, MIN_API_VERSION = "1.41", "1.24"


async def ping(call: Call) -> None:
    """Answer OK; the versions stand in the headers."""
    call.exchange.extra_headers["Cache-Control"] = "no-cache, no-store, must-revalidate"
    call.exchange.extra_headers["Pragma"] = "no-cache"
    body = b"" if call.exchange.method == "HEAD" else b"OK"
    await call.exchange.reply(200, body, "text/plain; charset=utf-8")


async def version(call: Call) -> None:
    """Answer `docker version`."""
    await call.exchange.json(version_document())


def version_document() -> dict[str, Any]:
    """Return what runs here. GoVersion says Python's: there is no Go."""
    kernel = os.uname().release
    python = f"python{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    details = {
        "ApiVersion": API_VERSION,
        "Arch": architecture(),
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": python,
        "KernelVersion": kernel,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
    }
    parts = [{"Name": "Engine", "Version": __version__, "Details": details}]
    parts += [
        {"Name": name, "Version": __version__, "Details": {"GitCommit": ""}}
        for name in ("startkit-containerd", "startkit-runc")
    ]
    return {
        "Platform": {"Name": "startkit"},
        "Components": parts,
        "Version": __version__,
        **{key: value for key, value in details.items() if key != "Experimental"},
    }


async def info(call: Call) -> None:
    """Answer `docker info`."""
    await call.exchange.json(call.daemon.info())


async def events(call: Call) -> None:
    """Answer `docker events`: one JSON object a line, until `until` or for ever."""
    query = call.query
    since, until, filters = query.moment("since"), query.moment("until"), query.filters()
    stream = call.daemon.events.subscribe(since, until, filters)
    await call.exchange.stream()
    async for event in stream:
        await call.exchange.write(msgspec.json.encode(event) + b"\n")
    await call.exchange.end()
