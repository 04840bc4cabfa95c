"""Graph drivers: what a stack of layers looks like merged, and on disk."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit import kernel
from startkit.daemon.errors import BadParameter, ServerError
from startkit.daemon.graph import MAX_LAYERS, aufs, open_driver, overlay2
from startkit.daemon.graph.aufs import Aufs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def name(number):
    return f"{number:064x}"


def tar(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for path, content in files.items():
            member = tarfile.TarInfo(path.replace("__", "/"))
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return buffer


@pytest.fixture(params=["overlay2", "vfs"])
def driver(request, tmp_path):
    opened = open_driver(request.param, tmp_path / request.param)
    yield opened
    assert os.fspath(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def stack(driver, *tars):
    """Put one layer on the other; return the name of a writable one on top."""
    below = None
    for number, content in enumerate(tars):
        driver.create(name(number), below)
        driver.apply(name(number), content)
        below = name(number)
    driver.create(name(len(tars)), below)
    return name(len(tars))


def test_the_merged_tree_is_the_sum_of_its_layers(driver):
    layers = tar(d__a=b"1", d__b=b"1"), tar(**{"d__.wh.a": b"", "d__c": b"2"})
    top = stack(driver, *layers)
    merged = driver.mount(top)
    seen = {path.name: path.read_bytes() for path in (merged / "d").iterdir()}
    driver.unmount(top)
    assert seen == {"b": b"1", "c": b"2"}


def test_an_opaque_directory_hides_all_that_is_below(driver):
    top = stack(driver, tar(d__a=b"1"), tar(**{"d__.wh..wh..opq": b"", "d__c": b"2"}))
    seen = sorted(os.listdir(driver.mount(top) / "d"))
    driver.unmount(top)
    assert seen == ["c"]


def test_what_is_written_stays_in_the_top_layer_over_mounts(driver):
    top = stack(driver, tar(a=b"1"))
    (driver.mount(top) / "new").write_text("x")
    driver.unmount(top)
    (driver.mount(top) / "a").unlink()
    driver.unmount(top)
    assert os.listdir(driver.mount(top)) == ["new"]
    driver.unmount(top)
    assert os.listdir(driver.diff(name(0))) == ["a"]


def test_mounting_and_unmounting_twice_is_mounting_once(driver):
    top = stack(driver, tar(a=b"1"))
    assert driver.mount(top) == driver.mount(top)
    driver.unmount(top)
    driver.unmount(top)


def test_parents_are_listed_nearest_first(driver):
    top = stack(driver, tar(a=b""), tar(b=b""), tar(c=b""))
    assert driver.layers(top) == [name(2), name(1), name(0)]
    assert driver.layers(name(0)) == []


def test_removing_leaves_nothing_even_of_a_mounted_layer(driver, tmp_path):
    top = stack(driver, tar(a=b"1"))
    driver.mount(top)
    for layer in (top, name(0), name(0)):
        driver.remove(layer)
    left = [path for path in (tmp_path / driver.name).rglob("*") if not path.is_dir()]
    assert left == []
    assert all(not path.name.startswith("0") for path in (tmp_path / driver.name).rglob("*"))


def test_the_size_is_that_of_the_files_and_a_hard_link_counts_once(driver):
    driver.create(name(0), None)
    driver.apply(name(0), tar(a=b"12345"))
    os.link(driver.diff(name(0)) / "a", driver.diff(name(0)) / "b")
    assert driver.size(name(0)) == 5


def test_a_chain_longer_than_dockers_is_refused(driver):
    for number in range(MAX_LAYERS):
        driver.create(name(number), name(number - 1) if number else None)
    with pytest.raises(BadParameter, match="max depth exceeded"):
        driver.create(name(MAX_LAYERS), name(MAX_LAYERS - 1))
    assert not driver.diff(name(MAX_LAYERS)).exists()


@pytest.mark.parametrize("bad", ["../x", "x" * 64, "", name(1)[1:], name(1) + "/diff"])
def test_a_layer_that_is_no_layers_name_is_refused(driver, bad):
    for call in (driver.diff, driver.remove, driver.unmount, driver.mount):
        with pytest.raises(BadParameter, match="invalid layer id"):
            call(bad)


def test_a_missing_layer_is_said_as_such(driver):
    with pytest.raises(ServerError, match="is missing"):
        driver.mount(name(7))


def test_overlay2_lays_a_layer_out_as_docker_does(tmp_path):
    driver = open_driver("overlay2", tmp_path)
    top = stack(driver, tar(a=b""))
    home = tmp_path / top
    assert sorted(os.listdir(home)) == ["diff", "link", "lower", "work"]
    assert sorted(os.listdir(tmp_path / name(0))) == ["diff", "link"]
    link = (home / "link").read_text()
    assert len(link) == 26
    assert os.readlink(tmp_path / "l" / link) == f"../{top}/diff"
    assert (home / "lower").read_text() == f"l/{(tmp_path / name(0) / 'link').read_text()}"
    assert stat.S_IMODE((home / "diff").stat().st_mode) == 0o755


def test_the_deepest_stack_mounts_and_its_data_fits_one_page(tmp_path):
    driver = open_driver("overlay2", tmp_path)
    for number in range(MAX_LAYERS):
        driver.create(name(number), name(number - 1) if number else None)
        (driver.diff(name(number)) / f"f{number}").touch()
    here = os.getcwd()
    merged = driver.mount(name(MAX_LAYERS - 1))
    assert len(os.listdir(merged)) == MAX_LAYERS
    driver.unmount(name(MAX_LAYERS - 1))
    assert os.getcwd() == here


def test_mount_data_is_absolute_until_it_fills_a_page():
    few = overlay2.mount_options("/d", name(0), ["l/A", "l/B"])
    assert few == (f"lowerdir=/d/l/A:/d/l/B,upperdir=/d/{name(0)}/diff,workdir=/d/{name(0)}/work")
    many = overlay2.mount_options("/data/root", name(0), [f"l/{'A' * 26}"] * 126)
    assert many.startswith("lowerdir=l/AAA")
    assert len(many) < overlay2.PAGE
    with pytest.raises(ServerError, match="too large"):
        overlay2.mount_options("/", name(0), [f"l/{'A' * 26}"] * 150)


@given(st.sampled_from(["/d", "/var/lib/docker/overlay2", "/x" * 200]), st.integers(1, 150))
def test_overlays_options_read_back_to_the_layers_or_do_not_fit(root, count):
    lower = [f"l/{number:026}" for number in range(count)]
    try:
        data = overlay2.mount_options(root, name(0), lower)
    except ServerError:
        assert count > 125
        return
    words = dict(word.split("=") for word in data.split(","))
    prefix = f"{root}/" if data.startswith("lowerdir=/") else ""
    assert len(data) < overlay2.PAGE
    assert words.pop("lowerdir").split(":") == [prefix + link for link in lower]
    assert words == {f"{kind}dir": f"{prefix}{name(0)}/{place}"
                     for kind, place in (("upper", "diff"), ("work", "work"))}  # fmt: skip


def test_vfs_copies_owners_attributes_and_hard_links(tmp_path):
    driver = open_driver("vfs", tmp_path)
    driver.create(name(0), None)
    file = driver.diff(name(0)) / "f"
    file.write_text("x")
    os.link(file, file.with_name("g"))
    os.chown(file, 5, 6)
    os.setxattr(file, "user.key", b"value")
    driver.create(name(1), name(0))
    copy = driver.diff(name(1)) / "f"
    assert (copy.stat().st_uid, copy.stat().st_gid, copy.stat().st_nlink) == (5, 6, 2)
    assert os.getxattr(copy, "user.key") == b"value"
    assert copy.stat().st_ino != file.stat().st_ino


def test_a_full_disk_fails_a_vfs_copy_and_leaves_no_layer(tmp_path):
    kernel.mount("tmpfs", tmp_path, "tmpfs", 0, "size=1m")
    try:
        driver = open_driver("vfs", tmp_path)
        driver.create(name(0), None)
        (driver.diff(name(0)) / "f").write_bytes(bytes(700_000))
        with pytest.raises(ServerError, match="no space left on device"):
            driver.create(name(1), name(0))
        assert os.listdir(tmp_path / "dir") == [name(0)]
    finally:
        kernel.umount(tmp_path)


def test_aufs_lays_a_layer_out_as_the_article_shows(tmp_path):
    driver = Aufs(tmp_path)
    top = stack(driver, tar(a=b"1"), tar(**{".wh.a": b""}))
    assert sorted(os.listdir(tmp_path)) == ["diff", "layers", "mnt"]
    assert (tmp_path / "layers" / top).read_text() == f"{name(1)}\n{name(0)}\n"
    assert os.listdir(driver.diff(name(1))) == [".wh.a"]
    assert driver.options(top) == aufs.mount_options(
        f"{tmp_path}/diff/{top}", [f"{tmp_path}/diff/{name(1)}", f"{tmp_path}/diff/{name(0)}"]
    )
    for layer in (top, name(1), name(0)):
        driver.remove(layer)
    assert [os.listdir(tmp_path / part) for part in os.listdir(tmp_path)] == [[], [], []]


def test_aufs_is_refused_where_the_kernel_lacks_it(tmp_path):
    if "aufs" in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has aufs")
    with pytest.raises(ServerError, match="aufs is not in this kernel"):
        open_driver("aufs", tmp_path / "aufs")


@pytest.mark.parametrize("bad", ["/a,b", "/a:b", "/a=b"])
def test_a_data_root_that_mount_data_cannot_hold_is_refused(tmp_path, bad):
    with pytest.raises(BadParameter, match="data root"):
        open_driver("overlay2", tmp_path / bad[1:])
