"""`/containers`: the way of a container, from create to delete."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

import msgspec

from startkit.daemon.errors import BadParameter, NotSupported
from startkit.daemon.http import RAW_STREAM
from startkit.daemon.images.model import architecture
from startkit.daemon.logs import LogOptions
from startkit.daemon.routes.call import finish
from startkit.daemon.types import AttachOptions

if TYPE_CHECKING:
    from startkit.daemon.routes.call import Call

CHUNK = 64 * 1024
LINGER_S = 5  # a client closes at the end of the output; one that does not is cut off
CONDITIONS = ("not-running", "next-exit", "removed")


async def create(call: Call) -> None:
    """Answer 201 with the id."""
    platform = call.query.text("platform")
    if platform not in ("", "linux", f"linux/{architecture()}"):
        raise NotSupported(f"startkit does not run the platform {platform!r}")
    body = await call.exchange.body()
    await call.exchange.json(call.daemon.create(call.query.text("name") or None, body), 201)


async def list_all(call: Call) -> None:
    """Answer `docker ps`."""
    query = call.query
    limit = query.number("limit")
    shown = call.daemon.list(
        all=query.flag("all"),
        limit=limit if limit and limit > 0 else None,
        size=query.flag("size"),
        filters=query.filters(),
    )
    await call.exchange.json(shown)


async def inspect(call: Call) -> None:
    """Answer `docker inspect`."""
    await call.exchange.json(call.daemon.inspect(call.daemon.find(call.name)))


async def start(call: Call) -> None:
    """Start. 204, or 304 where it runs already."""
    if call.query.text("checkpoint"):
        raise NotSupported("startkit does not do checkpoints")
    if len(await call.exchange.body()) > len(b"{}\n"):
        raise BadParameter(
            "starting container with non-empty request body was deprecated since API v1.22 "
            "and removed in v1.24"
        )
    await finish(call.daemon.start(call.daemon.find(call.name)))
    await call.exchange.reply(204)


async def stop(call: Call) -> None:
    """Stop: the stop signal, then after `t` seconds SIGKILL."""
    await finish(call.daemon.stop(call.daemon.find(call.name), call.query.number("t")))
    await call.exchange.reply(204)


async def restart(call: Call) -> None:
    """Stop, then start."""
    await finish(call.daemon.restart(call.daemon.find(call.name), call.query.number("t")))
    await call.exchange.reply(204)


async def kill(call: Call) -> None:
    """Send a signal."""
    signal = call.query.text("signal") or None
    await finish(call.daemon.kill(call.daemon.find(call.name), signal))
    await call.exchange.reply(204)


async def pause(call: Call) -> None:
    """Let all processes stand still."""
    await finish(call.daemon.pause(call.daemon.find(call.name), paused=True))
    await call.exchange.reply(204)


async def unpause(call: Call) -> None:
    """Let them go on."""
    await finish(call.daemon.pause(call.daemon.find(call.name), paused=False))
    await call.exchange.reply(204)


async def wait(call: Call) -> None:
    """Answer with the exit status once the condition holds.

    The head goes out at once: `docker run` starts the container only when it has come.
    The waiter stands before the head is sent, so a container that is quick is not missed.
    """
    condition = call.query.text("condition") or "not-running"
    if condition not in CONDITIONS:
        raise BadParameter(f"invalid condition: {condition!r}")
    waiter = asyncio.ensure_future(call.daemon.wait(call.daemon.find(call.name), condition))
    try:
        await asyncio.sleep(0)
        if waiter.done():
            await call.exchange.json(waiter.result())
            return
        await call.exchange.stream()
        await call.exchange.write(msgspec.json.encode(await waiter) + b"\n")
        await call.exchange.end()
    finally:
        waiter.cancel()


async def logs(call: Call) -> None:
    """Stream the log: framed, or raw where the container has a tty."""
    query = call.query
    container = call.daemon.find(call.name)
    options = LogOptions(
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        follow=query.flag("follow"),
        since=query.moment("since"),
        until=query.moment("until"),
        timestamps=query.flag("timestamps"),
        tail=None if query.text("tail", "all") in ("all", "") else query.number("tail"),
    )
    if not (options.stdout or options.stderr):
        raise BadParameter("Bad parameters: you must choose at least one stream")
    await call.exchange.stream(RAW_STREAM)
    async for block in call.daemon.logs(container, options):
        await call.exchange.write(block)
    await call.exchange.end()


async def attach(call: Call) -> None:
    """Take the connection over and hand it to the container's streams."""
    query = call.query
    if query.text("detachKeys"):
        raise NotSupported("startkit does not do detach keys of your own")
    container = call.daemon.find(call.name)
    options = AttachOptions(
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        stream=query.flag("stream"),
        logs=query.flag("logs"),
    )
    reader, writer = await call.exchange.hijack()
    await call.daemon.attach(container, options, cast("asyncio.StreamReader", reader), writer)
    # A close over input that nobody has read resets the connection, and the client loses
    # output that it has not read yet: so say that this was all, and read its input away.
    with contextlib.suppress(OSError):
        writer.write_eof()
        async with asyncio.timeout(LINGER_S):
            while await reader.read(CHUNK):
                pass


async def resize(call: Call) -> None:
    """Set the size of the tty."""
    height, width = call.query.number("h"), call.query.number("w")
    if height is None or width is None:
        raise BadParameter(f"missing parameter: {'h' if height is None else 'w'}")
    await call.daemon.resize(call.daemon.find(call.name), height, width)
    await call.exchange.reply(200)


async def rename(call: Call) -> None:
    """Give another name."""
    call.daemon.rename(call.daemon.find(call.name), call.query.text("name"))
    await call.exchange.reply(204)


async def delete(call: Call) -> None:
    """Remove; a running one only with force."""
    query = call.query
    if query.flag("link"):
        raise NotSupported("startkit does not do links")
    container = call.daemon.find(call.name)
    removal = call.daemon.remove(container, force=query.flag("force"), volumes=query.flag("v"))
    await finish(removal)
    await call.exchange.reply(204)
