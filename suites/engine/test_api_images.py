"""The API's `/images`, from the client's bytes to the disk and back."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from startkit import image as base_image
from startkit.client import Client
from startkit.daemon.api import Api
from startkit.daemon.graph import open_driver
from startkit.daemon.images import Images
from startkit.daemon.listen import Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers need root")
ROOTFS = base_image.layers()[0]


@pytest.fixture
def talk(tmp_path):
    """Give a function that runs a client's side in a thread, against a daemon of images."""

    def run(client_side):
        async def main():
            daemon = SimpleNamespace(
                images=Images(tmp_path, open_driver("vfs", tmp_path / "vfs")),
                events=SimpleNamespace(publish=lambda *event: daemon.published.append(event)),
                published=[],
                used=[],
            )
            daemon.list = lambda **_: [{"Id": "u" * 64, "ImageID": image} for image in daemon.used]
            server = Server(Api(daemon))
            await server.listen(str(tmp_path / "api.sock"))
            try:
                return await asyncio.to_thread(
                    client_side, Client(str(tmp_path / "api.sock")), daemon
                )
            finally:
                await server.close()

        return asyncio.run(main())

    return run


def load(client):
    image_id, archive = base_image.base()
    reply = client.request("POST", "/images/load?quiet=1", iter([archive[:1000], archive[1000:]]))
    assert reply.json() == {"stream": "Loaded image: startkit/base:latest\n"}
    return image_id


def test_an_image_is_shown_by_each_of_its_names(talk):
    def client_side(client, _):
        image_id = load(client)
        refs = ("startkit/base", quote("startkit/base:latest", safe=""), image_id, image_id[7:19])
        return image_id, {client.get(f"/images/{ref}/json").json()["Id"] for ref in refs}

    image_id, seen = talk(client_side)
    assert seen == {image_id}


def test_its_history_has_a_step_a_layer(talk):
    def client_side(client, _):
        load(client)
        return client.get("/v1.41/images/startkit/base/history").json()

    steps = talk(client_side)
    assert [step["Tags"] for step in steps] == [["startkit/base:latest"], None, None, None, None]


def test_a_tag_is_one_more_name(talk):
    def client_side(client, _):
        load(client)
        status = client.post("/images/startkit/base/tag?repo=other&tag=1").status
        return status, client.get("/images/json").json()[0]["RepoTags"]

    assert talk(client_side) == (201, ["other:1", "startkit/base:latest"])


def test_an_image_in_use_is_a_409_and_else_deleted(talk):
    def client_side(client, daemon):
        image_id = load(client)
        daemon.used = [image_id]
        in_use = client.delete("/images/startkit/base")
        daemon.used = []
        return image_id, in_use, client.delete("/images/startkit/base").json()

    image_id, in_use, records = talk(client_side)
    assert in_use.status == 409
    assert "container uuuuuuuuuuuu is using" in in_use.message
    assert records[:2] == [{"Untagged": "startkit/base:latest"}, {"Deleted": image_id}]


def test_what_happens_to_images_is_published(talk):
    def client_side(client, daemon):
        image_id = load(client)
        load(client)
        client.post("/images/startkit/base/tag?repo=other")
        client.delete(f"/images/{image_id}?force=1")
        return image_id, daemon.published

    image_id, events = talk(client_side)
    assert [event[1] for event in events] == ["load", "load", "tag", "untag", "untag", "delete"]
    assert {event[2] for event in events} == {image_id}


def test_a_rootfs_is_imported_with_its_changes(talk):
    def client_side(client, _):
        target = "/images/create?fromSrc=-&repo=r&tag=t&changes=CMD+true&changes=USER+x&message=hi"
        status = client.request("POST", target, iter([ROOTFS])).json()
        return status, client.get("/images/r:t/json").json()

    status, shown = talk(client_side)
    assert status == {"status": shown["Id"]}
    assert (shown["Config"]["Cmd"], shown["Config"]["User"]) == (["/bin/sh", "-c", "true"], "x")
    assert shown["Comment"] == "hi"


@pytest.mark.parametrize("target", ["/images/load", "/images/create?fromSrc=-&repo=x"])
def test_a_cut_upload_is_a_400(talk, target):
    reply = talk(
        lambda client, _: client.request("POST", target, iter([base_image.base()[1][:5000]]))
    )
    assert reply.status == 400
    assert reply.message.startswith("invalid tar archive")


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/images/nothing/json", 404),
        ("DELETE", "/images/nothing", 404),
        ("POST", "/images/nothing/tag?repo=x", 404),
        ("GET", "/images/..%2F..%2Fetc/json", 400),
        ("GET", "/images/UPPER/json", 400),
        ("POST", "/images/create?fromSrc=-&repo=a:b:c", 400),
        ("POST", "/images/create?fromSrc=-&changes=NONSENSE", 400),
        ("POST", "/images/create?fromSrc=-&changes=HEALTHCHECK+NONE", 501),
    ],
)
def test_a_wrong_question_is_answered_with_its_status(talk, method, target, status):
    assert talk(lambda client, _: client.request(method, target)).status == status
