"""The Engine API's table: method and path on one side, what they call on the other.

Rule: no logic here. Paths come with or without a version (`/v1.24` to `/v1.41`); what
Docker has and startkit leaves out answers 501 and says what it is.
Source: Docker Engine API 1.41.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from startkit.daemon.errors import BadParameter, NotFound, NotSupported
from startkit.daemon.http import SERVER
from startkit.daemon.query import Query
from startkit.daemon.routes import containers, images, system
from startkit.daemon.routes.call import Call
from startkit.daemon.routes.system import API_VERSION, MIN_API_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from startkit.daemon.engine import Daemon
    from startkit.daemon.http import Exchange

    Route = Callable[[Call], Awaitable[None]]

# `{name}` stands for a container; `{image}` may hold slashes.
ROUTES: tuple[tuple[str, str, Route], ...] = (
    ("GET", "/_ping", system.ping),
    ("HEAD", "/_ping", system.ping),
    ("GET", "/version", system.version),
    ("GET", "/info", system.info),
    ("GET", "/events", system.events),
    ("POST", "/images/create", images.create),
    ("POST", "/images/load", images.load),
    ("GET", "/images/json", images.list_all),
    ("GET", "/images/{image}/json", images.inspect),
    ("GET", "/images/{image}/history", images.history),
    ("POST", "/images/{image}/tag", images.tag),
    ("DELETE", "/images/{image}", images.delete),
    ("POST", "/containers/create", containers.create),
    ("GET", "/containers/json", containers.list_all),
    ("GET", "/containers/{name}/json", containers.inspect),
    ("POST", "/containers/{name}/start", containers.start),
    ("POST", "/containers/{name}/stop", containers.stop),
    ("POST", "/containers/{name}/restart", containers.restart),
    ("POST", "/containers/{name}/kill", containers.kill),
    ("POST", "/containers/{name}/pause", containers.pause),
    ("POST", "/containers/{name}/unpause", containers.unpause),
    ("POST", "/containers/{name}/wait", containers.wait),
    ("GET", "/containers/{name}/logs", containers.logs),
    ("POST", "/containers/{name}/attach", containers.attach),
    ("POST", "/containers/{name}/resize", containers.resize),
    ("POST", "/containers/{name}/rename", containers.rename),
    ("DELETE", "/containers/{name}", containers.delete),
)
# What startkit does not do, by path. Asked only after ROUTES.
LEFT_OUT = (
    ("/images/get|/images/{image}/get", "image save"),
    ("/images/{image}/push", "image push"),
    ("/images/search", "image search"),
    ("/(images|containers|volumes|networks|build)/prune", "prune"),
    ("/containers/{name}/(archive|copy)", "docker cp"),
    ("/containers/{name}/export", "container export"),
    ("/containers/{name}/(stats|top|changes)", "stats, top and diff"),
    ("/containers/{name}/update", "update"),
    ("/containers/{name}/attach/ws", "attach over websockets"),
    ("/(containers/{name}/exec|exec/.*)", "exec"),
    ("/(containers/{name}/)?checkpoints.*", "checkpoints"),
    ("/networks.*", "networks"),
    ("/volumes.*", "volumes"),
    ("/(build|commit|session|grpc)(/.*)?", "build and commit"),
    ("/(auth|distribution/.*)", "registries"),
    ("/(swarm|nodes|services|tasks|secrets|configs)(/.*)?", "swarm"),
    ("/plugins.*", "plugins"),
    ("/system/df", "disk usage"),
)
# Things of which there are none here: `docker inspect NAME` asks for each kind in turn.
NONE_OF = (
    "/(networks|volumes)/{name}",
    "/(services|tasks|nodes|secrets|configs)/{name}",
    "/plugins/{name}/json",
)
VERSIONED = re.compile(r"/v([0-9]{1,9})\.([0-9]{1,9})(/.*)")


def pattern(path: str) -> re.Pattern[str]:
    """Return the expression that a path of the table stands for."""
    return re.compile(path.replace("{name}", "(?P<name>[^/]+)").replace("{image}", "(?P<name>.+)"))


TABLE = [(method, pattern(path), route) for method, path, route in ROUTES]
ABSENT = [pattern(path) for path in NONE_OF]
REFUSED = [
    (re.compile(path.replace("{image}", ".+").replace("{name}", "[^/]+")), what)
    for path, what in LEFT_OUT
]


class Api:
    """Routes an exchange of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request. Raises ApiError."""
        exchange.extra_headers.update(
            {
                "Api-Version": API_VERSION,
                "Docker-Experimental": "false",
                "Ostype": "linux",
                "Server": SERVER,
            }
        )
        path = without_version(exchange.path)
        route, name = find(exchange.method, path)
        await route(Call(self.daemon, exchange, Query(exchange.query), name))


def without_version(path: str) -> str:
    """Return the path after `/v1.N`. Raises BadParameter for a version out of range."""
    found = VERSIONED.fullmatch(path)
    if not found:
        return path
    version = (int(found[1]), int(found[2]))
    text = f"{found[1]}.{found[2]}"
    if version > numbers(API_VERSION):
        raise BadParameter(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )
    if version < numbers(MIN_API_VERSION):
        raise BadParameter(
            f"client version {text} is too old. Minimum supported API version is "
            f"{MIN_API_VERSION}, please upgrade your client to a newer version"
        )
    return found[3]


def numbers(version: str) -> tuple[int, ...]:
    """Return `1.41` as (1, 41)."""
    return tuple(int(part) for part in version.split("."))


def find(method: str, path: str) -> tuple[Route, str]:
    """Return the route and the decoded name in the path. Raises NotFound or NotSupported."""
    for known, expression, route in TABLE:
        if known == method and (match := expression.fullmatch(path)):
            return route, unquote(match.groupdict().get("name", ""))
    for expression in ABSENT:
        if method == "GET" and (match := expression.fullmatch(path)):
            raise NotFound(f"No such object: {unquote(match['name'])}")
    for expression, what in REFUSED:
        if expression.fullmatch(path):
            raise NotSupported(f"startkit does not do {what}")
    raise NotFound("page not found")
