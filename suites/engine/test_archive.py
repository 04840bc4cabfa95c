"""Layer archives, hostile ones first: nothing gets out of the layer's directory."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import random
import stat
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit import kernel
from startkit.daemon import archive, tarstream
from startkit.daemon.errors import BadParameter, ServerError
from startkit.daemon.graph.overlay2 import Whiteouts
from startkit.daemon.graph.vfs import Removals

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking owners and devices needs root")
KINDS = {"dir": tarfile.DIRTYPE, "sym": tarfile.SYMTYPE, "link": tarfile.LNKTYPE,
         "chr": tarfile.CHRTYPE, "fifo": tarfile.FIFOTYPE}  # fmt: skip


def tar(*members):
    """Make an archive of (name, content or kind, {field: value}) members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, content, *fields in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, content = KINDS[content], b""
            member.size = len(content)
            for key, value in (fields[0] if fields else {}).items():
                setattr(member, key, value)
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def unpack(data, root, dialect=None):
    return archive.unpack(io.BytesIO(data), os.fspath(root), dialect)


def unpack_packed(data, root):
    with tarstream.archive_errors():
        return archive.unpack(tarstream.decompressed(io.BytesIO(data)), os.fspath(root))


@pytest.fixture
def layer(tmp_path):
    """Give a layer's directory, with something outside of it that must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("untouched")
    root = tmp_path / "layer"
    root.mkdir()
    yield root
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layer", "outside"]
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("secret", "untouched")]


def test_files_keep_owner_mode_time_and_content(layer):
    size = unpack(tar(("a", b"text", {"mode": 0o640, "uid": 7, "gid": 8, "mtime": 1.5})), layer)
    status = (layer / "a").stat()
    assert (layer / "a").read_bytes() == b"text"
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 7, 8)
    assert status.st_mtime_ns == 1_500_000_000
    assert size == 4


def test_setuid_survives_a_change_of_owner(layer):
    unpack(tar(("su", b"#", {"mode": 0o4755, "uid": 1})), layer)
    assert stat.S_IMODE((layer / "su").stat().st_mode) == 0o4755


def test_a_directory_keeps_its_time_though_it_is_filled_afterwards(layer):
    unpack(tar(("d", "dir", {"mtime": 1}), ("d/x", b""), ("./", "dir", {"mtime": 2})), layer)
    assert (layer / "d").stat().st_mtime == 1
    assert layer.stat().st_mtime == 2


def test_devices_fifos_and_links_are_made(layer):
    members = [
        ("null", "chr", {"devmajor": 1, "devminor": 3, "mode": 0o666}),
        ("p", "fifo"),
        ("f", b"x"),
        ("h", "link", {"linkname": "f"}),
        ("s", "sym", {"linkname": "/etc/x"}),
    ]
    unpack(tar(*members), layer)
    assert (layer / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((layer / "p").stat().st_mode)
    assert (layer / "h").stat().st_ino == (layer / "f").stat().st_ino
    assert os.readlink(layer / "s") == "/etc/x"


def test_file_capabilities_are_kept(layer):
    value = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    text = value.decode("utf-8", "surrogateescape")
    unpack(tar(("ping", b"x", {"pax_headers": {"SCHILY.xattr.security.capability": text}})), layer)
    assert os.getxattr(layer / "ping", "security.capability") == value


def test_overlay_attributes_of_an_archive_are_left_out(layer):
    headers = {"SCHILY.xattr.trusted.overlay.redirect": "/", "SCHILY.xattr.user.x": "y"}
    unpack(tar(("f", b"x", {"pax_headers": headers})), layer)
    assert os.listxattr(layer / "f") == ["user.x"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/../x", "..", "a/..", "a\0b"])
def test_a_path_with_dots_or_nul_is_refused(layer, name):
    with pytest.raises(BadParameter, match="leads out of the layer"):
        archive.clean(name)


def test_a_member_that_climbs_out_is_a_400(layer):
    with pytest.raises(BadParameter, match="leads out of the layer"):
        unpack(tar(("../outside/secret", b"bad")), layer)


def test_an_absolute_name_is_one_inside_the_layer(layer):
    unpack(tar(("/etc/x", b"x")), layer)
    assert (layer / "etc/x").read_bytes() == b"x"


@pytest.mark.parametrize("target", ["/", "../outside", "../../../../../..", "/proc/self/root"])
def test_a_symlink_never_leads_a_later_member_out(layer, target):
    layer_tar = tar(("link", "sym", {"linkname": target}), ("link/secret", b"bad"))
    with contextlib.suppress(BadParameter):
        unpack(layer_tar, layer)
    assert os.readlink(layer / "link") == target


def test_a_member_does_not_write_through_a_symlink_of_its_own_name(layer, tmp_path):
    link = ("s", "sym", {"linkname": str(tmp_path / "outside/secret")})
    unpack(tar(link, ("s", b"mine")), layer)
    assert (layer / "s").read_bytes() == b"mine"
    assert not (layer / "s").is_symlink()


def test_a_hard_link_to_the_outside_is_refused(layer, tmp_path):
    for target in ("../outside/secret", str(tmp_path / "outside/secret"), "nothing", ""):
        with pytest.raises(BadParameter):
            unpack(tar(("h", "link", {"linkname": target})), layer)


def test_a_hard_link_through_a_symlink_stays_inside(layer, tmp_path):
    members = [
        ("d", "sym", {"linkname": str(tmp_path / "outside")}),
        ("h", "link", {"linkname": "d/secret"}),
    ]
    with pytest.raises(BadParameter):
        unpack(tar(*members), layer)


def test_the_last_member_of_a_name_wins(layer):
    members = [
        ("a", "dir"),
        ("a/deep", "dir"),
        ("a/deep/x", b""),
        ("a", b"file"),
        ("b", b"file"),
        ("b", "dir"),
        ("b/y", b""),
        ("c", b"1"),
        ("c", b"2"),
    ]
    unpack(tar(*members), layer)
    assert (layer / "a").read_bytes() == b"file"
    assert (layer / "b/y").exists()
    assert (layer / "c").read_bytes() == b"2"


def test_a_hard_link_to_itself_does_not_delete_it(layer):
    unpack(tar(("a", b"x"), ("a", "link", {"linkname": "./a"})), layer)
    assert (layer / "a").read_bytes() == b"x"


@given(st.data())
def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path_factory, data):
    whole = tar(("etc", "dir"), ("etc/a", b"a" * 700), ("etc/b", b"b"), ("long" * 40, b"c"))
    content = whole[: whole.rstrip(b"\0").rfind(b"c") + 512]
    cut = data.draw(st.integers(0, len(content)))
    root = tmp_path_factory.mktemp("layer")
    with pytest.raises(BadParameter, match="invalid tar archive"):
        unpack(content[:cut], root)


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 100, b"no tar at all " * 100, random.Random(1).randbytes(5000)],
    ids=["empty", "short", "text", "noise"],
)
def test_what_is_no_archive_is_refused(layer, data):
    with pytest.raises(BadParameter, match="invalid tar archive"):
        unpack(data, layer)


@pytest.mark.parametrize("module", ["gzip", "bz2", "lzma"])
def test_compressed_archives_are_read_and_cut_ones_refused(layer, module):
    packed = importlib.import_module(module).compress(tar(("a", os.urandom(4000))))
    unpack_packed(packed, layer)
    assert (layer / "a").stat().st_size == 4000
    with pytest.raises(BadParameter, match="invalid tar archive: bad compressed data"):
        unpack_packed(packed[: len(packed) // 2], layer)


def test_zstd_is_refused_by_name():
    with pytest.raises(BadParameter, match="zstd"):
        tarstream.decompressed(io.BytesIO(b"\x28\xb5\x2f\xfd rest"))


def test_a_header_that_asks_for_gigabytes_of_memory_is_refused(layer):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8 << 30
    with pytest.raises(BadParameter, match="header of"):
        unpack(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000), layer)


def test_a_member_larger_than_the_disk_is_refused_before_it_is_written(layer):
    header = tarfile.TarInfo("bomb")
    header.size = 1 << 60
    with pytest.raises(ServerError, match="no space left on device"):
        unpack(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000), layer)
    assert list(layer.iterdir()) == []


def test_more_members_than_inodes_are_refused(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    kernel.mount("tmpfs", small, "tmpfs", 0, "size=16m,nr_inodes=20")
    try:
        with pytest.raises(ServerError, match="no space left on device"):
            unpack(tar(*[(f"f{n}", b"") for n in range(40)]), small)
    finally:
        kernel.umount(small)


def test_a_sparse_file_keeps_its_holes(layer, tmp_path):
    sparse = tmp_path / "outside/../layer/made"
    with open(sparse, "wb") as file:
        file.seek(50_000_000)
        file.write(b"end")
    os.system(f"tar -S -C {layer} -cf {layer}/s.tar made && rm {sparse}")
    with open(layer / "s.tar", "rb") as packed:
        archive.unpack(packed, os.fspath(layer))
    status = (layer / "made").stat()
    assert status.st_size == 50_000_003
    assert status.st_blocks * 512 < 100_000
    assert (layer / "made").read_bytes().endswith(b"\0end")


WHITEOUTS = (
    ("d", "dir"), ("d/.wh.gone", b""), ("o", "dir"), ("o/.wh..wh..opq", b""), ("o/new", b""),
    (".wh..wh.plnk", "dir"), (".wh..wh.aufs", b""),
)  # fmt: skip


def test_whiteouts_become_devices_and_attributes_for_overlay2(layer):
    unpack(tar(*WHITEOUTS), layer, Whiteouts())
    status = (layer / "d/gone").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert os.getxattr(layer / "o", "trusted.overlay.opaque") == b"y"
    assert sorted(p.name for p in layer.rglob("*")) == ["d", "gone", "new", "o"]


def test_whiteouts_remove_from_the_copy_for_vfs(layer):
    for path in ("d/gone/deep", "o/old/deep", "o/new"):
        (layer / path).parent.mkdir(parents=True, exist_ok=True)
        (layer / path).touch()
    unpack(tar(*WHITEOUTS), layer, Removals())
    assert sorted(p.name for p in layer.rglob("*")) == ["d", "new", "o"]


def test_whiteouts_stay_files_for_aufs_and_its_metadata_is_left_out(layer):
    unpack(tar(*WHITEOUTS), layer)
    names = sorted(p.name for p in layer.rglob("*"))
    assert names == [".wh..wh..opq", ".wh.gone", "d", "new", "o"]


@pytest.mark.parametrize("dialect", [Whiteouts(), Removals()], ids=["overlay2", "vfs"])
def test_a_whiteout_does_not_hide_what_its_own_layer_brings(layer, dialect):
    members = [("x", b"kept"), (".wh.x", b""), ("d/y", b"kept"), ("d/.wh..wh..opq", b"")]
    unpack(tar(*members), layer, dialect)
    assert (layer / "x").read_bytes() == (layer / "d/y").read_bytes() == b"kept"


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_whiteout_of_a_directory_itself_or_its_parent_is_refused(layer, name):
    with pytest.raises(BadParameter, match="hides nothing"):
        unpack(tar((name, b"")), layer, Removals())
