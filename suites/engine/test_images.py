"""Images: import, load, tag, delete, and that a bad archive leaves nothing of itself."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import tarfile

import pytest

from startkit import image as base_image
from startkit import kernel
from startkit.daemon.errors import BadParameter, Conflict, NotFound, ServerError
from startkit.daemon.graph import MAX_IMAGE_LAYERS, open_driver
from startkit.daemon.images import Images, model

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers need root")


def reader(data, at_once=50_000):
    """Return an async body that gives `data` piece by piece."""
    file = io.BytesIO(data)

    async def read():
        return file.read(at_once)

    return read


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def saved(layers, tags=("x:1",), config=None, **extra):
    """Make a `docker save` archive of layer tars."""
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    document = {"os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}}
    entry = {
        "Config": "c.json",
        "RepoTags": list(tags),
        "Layers": [f"{n}.tar" for n in range(len(layers))],
    }
    files = {"c.json": json.dumps(document | (config or {})).encode(),
             "manifest.json": json.dumps([entry]).encode()}  # fmt: skip
    files |= {f"{n}.tar": layer for n, layer in enumerate(layers)}
    return tar(files | extra)


ROOTFS = tar({"bin/sh": b"#!", "etc/x": b"x"})


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path, open_driver("overlay2", tmp_path / "overlay2"))


def load(images, data):
    return asyncio.run(images.load(reader(data)))[1]


def imported(images, data=ROOTFS, ref="x", **more):
    return asyncio.run(images.import_tar(reader(data), ref, **more))


def delete(images, ref, *, users=(), **more):
    return asyncio.run(images.delete(ref, lambda _: list(users), **more))


def layer_names(images):
    root = images.driver.root
    return sorted(path.name for path in root.iterdir() if path.name != "l")


def assert_nothing_is_left(images):
    assert images.images == {}
    assert layer_names(images) == []
    assert os.listdir(images.driver.links) == []
    assert os.listdir(images.layers.root) == os.listdir(images.layers.pending) == []
    assert os.listdir(images.tmp) == os.listdir(images.contents) == []


def test_an_imported_tar_is_an_image_of_one_layer(images):
    image = imported(images, message="by hand")
    assert image.config.rootfs.diff_ids == [f"sha256:{hashlib.sha256(ROOTFS).hexdigest()}"]
    assert image.config.comment == "by hand"
    assert images.tags(image) == ["x:latest"]
    assert (images.driver.diff(image.top_layer) / "etc/x").read_bytes() == b"x"


def test_a_compressed_import_has_the_digest_of_its_content(images):
    image = imported(images, gzip.compress(ROOTFS))
    assert image.config.rootfs.diff_ids == [f"sha256:{hashlib.sha256(ROOTFS).hexdigest()}"]


def test_changes_are_in_the_imported_config(images):
    lines = [
        'CMD ["/bin/sh"]',
        "ENV A=1 B='2 3'",
        "env A 4",
        "LABEL k=v",
        "USER guest",
        "WORKDIR /w",
        "WORKDIR d",
        "EXPOSE 80 53/udp",
        "ENTRYPOINT run it",
        "STOPSIGNAL 9",
    ]
    config = imported(images, lines=lines).config.config
    assert config.cmd == ["/bin/sh"]
    assert config.env == ["A=4", "B=2 3"]
    assert config.labels == {"k": "v"}
    assert (config.user, config.working_dir, config.stop_signal) == ("guest", "/w/d", "9")
    assert config.entrypoint == ["/bin/sh", "-c", "run it"]
    assert list(config.exposed_ports) == ["80/tcp", "53/udp"]


def test_a_loaded_image_has_the_id_that_docker_gives_it(images):
    image_id, archive = base_image.base()
    assert load(images, archive) == ["Loaded image: startkit/base:latest\n"]
    assert images.get("startkit/base").id == image_id


def test_the_merged_base_image_is_what_its_layers_say(images):
    load(images, base_image.base()[1])
    top = "f" * 64
    images.driver.create(top, images.get("startkit/base").top_layer)
    merged = images.driver.mount(top)
    try:
        assert not (merged / "etc/gone").exists()
        assert os.listdir(merged / "opt/dir") == ["three"]
        assert os.readlink(merged / "opt/link") == "dir/three"
        assert (merged / "usr/bin/setuid-true").stat().st_mode & 0o7777 == 0o4755
    finally:
        images.driver.unmount(top)


def test_a_new_daemon_finds_the_images_again(images, tmp_path):
    imported(images)
    load(images, saved([ROOTFS, tar({"y": b"y"})]))
    again = Images(tmp_path, images.driver)
    assert again.list() == images.list()
    assert again.inspect("x:1") == images.inspect("x:1")


def test_layers_lie_on_disk_as_docker_lays_them_out(images, tmp_path):
    upper = tar({"y": b"y"})
    load(images, saved([ROOTFS, upper]))
    first, second = images.get("x:1").config.rootfs.diff_ids
    chain = f"sha256:{hashlib.sha256(f'{first} {second}'.encode()).hexdigest()}"
    home = tmp_path / "image/overlay2/layerdb/sha256" / chain[7:]
    assert {path.name: path.read_text() for path in home.iterdir()} == {
        "diff": second, "parent": first, "size": "1", "cache-id": images.get("x:1").top_layer,
    }  # fmt: skip
    names = json.loads((tmp_path / "image/overlay2/repositories.json").read_text())
    assert names == {"Repositories": {"x": {"x:1": images.get("x:1").id}}}


def test_links_between_the_archives_entries_are_followed(images):
    buffer = io.BytesIO(saved([ROOTFS]))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        archive.getmember("0.tar")
        member = tarfile.TarInfo("other/0.tar")
        member.type, member.linkname = tarfile.SYMTYPE, "../0.tar"
        archive.addfile(member)
        entry = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": ["other/0.tar"]}])
        manifest = tarfile.TarInfo("manifest.json")
        manifest.size = len(entry)
        archive.addfile(manifest, io.BytesIO(entry.encode()))
    (told,) = load(images, buffer.getvalue())
    assert told.startswith("Loaded image ID: sha256:")


def test_a_name_moves_to_the_image_loaded_last(images):
    old = imported(images, ref="x:1")
    told = load(images, saved([tar({"new": b""})]))
    assert f"renaming the old one with ID {old.id} to empty string" in told[0]
    assert images.tags(old) == []


BAD_ARCHIVES = {
    "empty": (b"", "invalid tar archive"),
    "cut": (saved([ROOTFS])[:3000], "invalid tar archive"),
    "a plain tar": (ROOTFS, "no manifest.json"),
    "cut layer": (saved([ROOTFS[:1500]]), "invalid tar archive"),
    "layer climbs": (saved([ROOTFS, tar({"../x": b""})]), "leads out of the layer"),
    "other content": (
        saved([ROOTFS, ROOTFS], **{"1.tar": tar({"changed": b""})}),
        'invalid diffID for layer 1: expected "sha256:',
    ),
    "too few layers": (
        saved([ROOTFS], config={"rootfs": {"type": "layers", "diff_ids": []}}),
        "layers length mismatch: expected 0, got 1",
    ),
    "not our system": (saved([ROOTFS], config={"os": "windows"}), "cannot load windows image"),
    "config is no object": (saved([ROOTFS], **{"c.json": b"[]"}), "invalid image config"),
    "config type": (saved([ROOTFS], config={"config": {"Cmd": 1}}), r"\$.config.Cmd"),
    "manifest type": (saved([ROOTFS], **{"manifest.json": b'[{"Config":1}]'}), r"\$\[0\].Config"),
    "layer is absent": (
        saved([ROOTFS], **{"manifest.json": b'[{"Config":"c.json","Layers":["no"]}]'}),
        "no file 'no'",
    ),
    "config climbs": (
        saved([ROOTFS], **{"manifest.json": b'[{"Config":"../../etc/passwd","Layers":[]}]'}),
        "no file",
    ),
    "bad name": (saved([ROOTFS], tags=["x/../y"]), "invalid reference format"),
    "too deep": (
        saved([tar({f"f{n}": b""}) for n in range(MAX_IMAGE_LAYERS + 1)]),
        "max depth exceeded",
    ),
}


@pytest.mark.parametrize("which", BAD_ARCHIVES)
def test_a_bad_archive_is_a_400_and_leaves_no_half_image(images, which):
    data, text = BAD_ARCHIVES[which]
    with pytest.raises(BadParameter, match=text):
        load(images, data)
    assert_nothing_is_left(images)


@pytest.mark.parametrize(
    "data",
    [b"", ROOTFS[:1500], gzip.compress(ROOTFS, mtime=0)[:60], tar({"../x": b""})],
    ids=["empty", "cut", "cut gzip", "climbs out"],
)
def test_a_bad_import_is_a_400_and_leaves_no_half_image(images, data):
    with pytest.raises(BadParameter, match="invalid tar archive"):
        imported(images, data)
    assert_nothing_is_left(images)


def test_a_failed_load_keeps_what_was_there_before(images):
    image = imported(images, tar({"mine": b""}))
    with pytest.raises(BadParameter):
        load(images, saved([tar({"mine": b""}), tar({"../x": b""})]))
    assert layer_names(images) == [image.top_layer]


def test_a_client_that_breaks_off_leaves_no_half_image(images):
    async def read():
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(images.import_tar(read, "x"))
    assert_nothing_is_left(images)


def test_a_full_disk_is_a_500_and_leaves_no_half_image(tmp_path):
    kernel.mount("tmpfs", tmp_path, "tmpfs", 0, "size=8m")
    try:
        images = Images(tmp_path, open_driver("vfs", tmp_path / "vfs"))
        for data in (
            tar({"big": bytes(20_000_000)}),
            gzip.compress(tar({"big": bytes(20_000_000)})),
        ):
            with pytest.raises(ServerError, match="no space left on device"):
                imported(images, data)
            assert os.listdir(tmp_path / "vfs/dir") == os.listdir(tmp_path / "tmp") == []
    finally:
        kernel.umount(tmp_path)


def test_a_layer_that_a_killed_daemon_left_half_done_is_removed_at_the_next_start(images, tmp_path):
    half = "a" * 64
    (images.layers.pending / half).touch()
    images.driver.create(half, None)
    assert_nothing_is_left(Images(tmp_path, images.driver))


def test_a_shared_layer_goes_with_its_last_image(images):
    load(images, saved([ROOTFS, tar({"one": b""})], tags=["one"]))
    load(images, saved([ROOTFS, tar({"two": b""})], tags=["two"]))
    assert len(layer_names(images)) == 3
    records = delete(images, "one")
    assert [list(record) for record in records] == [["Untagged"], ["Deleted"], ["Deleted"]]
    assert len(layer_names(images)) == 2
    delete(images, "two")
    assert_nothing_is_left(images)


def test_deleting_one_of_two_names_only_untags(images):
    imported(images)
    images.tag("x", "docker.io/library/y", "")
    assert delete(images, "y") == [{"Untagged": "y:latest"}]
    assert images.get("x")


def test_an_id_with_several_names_is_deleted_only_by_force(images):
    image = imported(images)
    images.tag("x", "y", "2")
    with pytest.raises(Conflict, match="must be forced"):
        delete(images, image.id)
    delete(images, image.id[7:19], force=True)
    assert_nothing_is_left(images)


def test_an_image_that_a_container_uses_stays(images):
    image = imported(images)
    for ref, force in (("x", False), (image.id, False), (image.id, True)):
        with pytest.raises(Conflict, match="cccccccccccc"):
            delete(images, ref, users=["c" * 64], force=force)
    assert delete(images, "x", users=["c" * 64], force=True) == [{"Untagged": "x:latest"}]
    assert images.get(image.id)


def test_an_image_is_found_by_every_form_of_its_name_and_id(images):
    image = imported(images)
    digits = image.id[7:]
    for ref in ("x", "x:latest", "library/x", "docker.io/library/x", image.id, digits, digits[:12]):
        assert images.get(ref) is image


@pytest.mark.parametrize("ref", ["y", "x:2", "a" * 64, "sha256:" + "a" * 64, "docker.io/x/x"])
def test_an_unknown_image_is_a_404(images, ref):
    imported(images)
    with pytest.raises(NotFound, match="No such image: "):
        images.get(ref)


@pytest.mark.parametrize(
    "ref", ["", "../../etc/passwd", "X", "x:", "x:.a", "-x", "x@md5:1", "a b", "x//y", "x" * 256]
)
def test_a_name_that_cannot_be_one_is_a_400(images, ref):
    with pytest.raises(BadParameter, match="invalid reference format"):
        images.get(ref)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["b", "a"]),
        ({"reference": ["a"]}, ["a"]),
        ({"reference": ["*:la*"]}, ["b", "a"]),
        ({"label": ["k"]}, ["b"]),
        ({"label": ["k=v"]}, ["b"]),
        ({"label": ["k=w"]}, []),
        ({"dangling": ["true"]}, []),
        ({"dangling": ["false"]}, ["b", "a"]),
    ],
)
def test_filters_choose_images(images, filters, found):
    imported(images, ref="a")
    imported(images, tar({"b": b""}), ref="b", lines=["LABEL k=v"])
    names = {summary["RepoTags"][0].partition(":")[0] for summary in images.list(filters)}
    assert names == set(found)


def test_an_unknown_filter_is_a_400(images):
    with pytest.raises(BadParameter, match="Invalid filter 'colour'"):
        images.list({"colour": ["red"]})


FIELDS = [
    "Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "Container",
    "ContainerConfig", "DockerVersion", "Author", "Config", "Architecture", "Os", "Size",
    "VirtualSize", "GraphDriver", "RootFS", "Metadata",
]  # fmt: skip


def test_inspect_has_dockers_fields(images):
    imported(images, lines=["CMD true"])
    shown = images.inspect("x")
    assert list(shown) == FIELDS
    assert shown["Config"]["Cmd"] == ["/bin/sh", "-c", "true"]
    assert shown["GraphDriver"]["Data"]["UpperDir"].endswith("/diff")


def test_chain_ids_are_dockers():
    first, second = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    digest = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert model.chain_ids([first, second]) == [first, f"sha256:{digest}"]
