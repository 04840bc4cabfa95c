"""`/images`: import, load, list, inspect, tag, delete, history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from startkit.daemon.errors import BadParameter, NotSupported
from startkit.daemon.images import listing

if TYPE_CHECKING:
    from startkit.daemon.images import Image
    from startkit.daemon.routes.call import Call


def publish(call: Call, action: str, image: str, name: str = "") -> None:
    """Tell of an image: Docker's attribute `name` is the id where no name is at hand."""
    call.daemon.events.publish("image", action, image, {"name": name or image})


async def create(call: Call) -> None:
    """Import a rootfs tar (`fromSrc=-`); a pull is refused."""
    query = call.query
    source, pulled = query.text("fromSrc"), query.text("fromImage")
    if pulled:
        raise NotSupported(
            f"startkit does not pull images (wanted {pulled}): docker import a rootfs tar, "
            "or docker load an archive"
        )
    if source != "-":
        raise NotSupported(f"startkit does not import from {source!r}: send the tar (fromSrc=-)")
    repo, tag = query.text("repo"), query.text("tag")
    ref = f"{repo}:{tag}" if repo and tag else repo
    image = await call.daemon.images.import_tar(
        call.exchange.read, ref, query.many("changes"), query.text("message")
    )
    publish(call, "import", image.id)
    await call.exchange.reply(200, msgspec.json.encode({"status": image.id}) + b"\r\n")


async def load(call: Call) -> None:
    """Take in a `docker save` archive."""
    loaded, told = await call.daemon.images.load(call.exchange.read)
    for image in loaded:
        publish(call, "load", image)
    lines = [msgspec.json.encode({"stream": line}) for line in told]
    await call.exchange.reply(200, b"".join(line + b"\r\n" for line in lines))


async def list_all(call: Call) -> None:
    """Answer `docker images`."""
    await call.exchange.json(call.daemon.images.list(call.query.filters()))


async def inspect(call: Call) -> None:
    """Answer `docker image inspect`."""
    await call.exchange.json(call.daemon.images.inspect(call.name))


async def history(call: Call) -> None:
    """Answer `docker history`."""
    images = call.daemon.images
    image: Image = images.get(call.name)
    await call.exchange.json(listing.history(images, image))


async def tag(call: Call) -> None:
    """Give an image one more name."""
    repo = call.query.text("repo")
    if not repo:
        raise BadParameter("repo is missing")
    image, name = call.daemon.images.tag(call.name, repo, call.query.text("tag"))
    publish(call, "tag", image.id, name)
    await call.exchange.reply(201)


async def delete(call: Call) -> None:
    """Untag or delete; an image that a container uses stays."""
    daemon = call.daemon

    def used_by(image: str) -> list[str]:
        everyone = daemon.list(all=True, limit=None, size=False, filters={})
        return [shown["Id"] for shown in everyone if shown["ImageID"] == image]

    image = daemon.images.get(call.name).id
    records = await daemon.images.delete(call.name, used_by, force=call.query.flag("force"))
    for record in records:
        if "Untagged" in record:
            publish(call, "untag", image)
        elif record["Deleted"] == image:
            publish(call, "delete", image)
    await call.exchange.json(records)
