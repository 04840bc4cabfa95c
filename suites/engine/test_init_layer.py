"""The init layer: empty mount points, and nothing made outside of the tree."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon import layers

FILES = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"]
DIRECTORIES = ["dev/pts", "dev/shm", "proc", "sys"]
PLACES = sorted({"dev", "etc", *layers.ENTRIES})


@pytest.fixture
def root(tmp_path):
    """Make an empty tree, and beside it a place that nothing may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/hosts").write_text("the machine's")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def is_complete(root):
    """Say whether every entry is there, through real directories only."""
    plain = all(stat.S_ISDIR(os.lstat(root / d).st_mode) for d in ["dev", "etc", *DIRECTORIES])
    modes = {os.lstat(root / name).st_mode for name in FILES}
    sizes = {os.lstat(root / name).st_size for name in FILES}
    mtab = os.readlink(root / "etc/mtab") == "/proc/mounts"
    return plain and modes == {stat.S_IFREG | 0o755} and sizes == {0} and mtab


def untouched(root):
    outside = root.parent / "outside"
    return os.listdir(outside) == ["hosts"] and (outside / "hosts").read_text() == "the machine's"


@pytest.fixture
def odd_umask():
    """Have a umask that would take bits away."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("odd_umask")
def test_an_empty_image_gets_every_mount_point_with_dockers_modes(root):
    layers.fill(str(root))
    assert is_complete(root)
    assert {stat.S_IMODE((root / d).stat().st_mode) for d in DIRECTORIES} == {0o755}
    assert sorted(os.listdir(root)) == [".dockerenv", "dev", "etc", "proc", "sys"]


def test_the_images_own_files_are_hidden_by_empty_ones(root):
    (root / "etc").mkdir()
    (root / "etc/hosts").write_text("the image's")
    (root / "etc/mtab").write_text("the image's")
    layers.fill(str(root))
    assert is_complete(root)


def test_directories_of_the_image_stay_as_they_are(root):
    (root / "proc").mkdir(mode=0o555)
    (root / "etc").mkdir(mode=0o700)
    (root / "etc/passwd").write_text("root")
    layers.fill(str(root))
    assert stat.S_IMODE((root / "proc").stat().st_mode) == 0o555
    assert stat.S_IMODE((root / "etc").stat().st_mode) == 0o700
    assert (root / "etc/passwd").read_text() == "root"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "target", ["../outside", "../outside/hosts", "absolute", "loop", "nowhere"]
)
def test_a_symlink_of_the_image_never_leads_out(root, place, target):
    target = {"absolute": str(root.parent / "outside"), "loop": place.split("/")[-1]}.get(
        target, target
    )
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).symlink_to(("../" if "/" in place and target[0] == "." else "") + target)
    layers.fill(str(root))
    assert untouched(root)
    assert is_complete(root)


@given(data=st.data())
def test_whatever_stands_in_the_way_the_layer_gets_complete(tmp_path_factory, data):
    top = tmp_path_factory.mktemp("layer")
    root = top / "root"
    (top / "outside").mkdir()
    (top / "outside/hosts").write_text("the machine's")
    root.mkdir()
    for place in PLACES:
        kind = data.draw(st.sampled_from(["absent", "file", "out", "fifo"]), label=place)
        if kind == "absent" or not (root / place).parent.is_dir():
            continue
        if (root / place).parent.is_symlink():
            continue
        if kind == "file":
            (root / place).write_text("in the way")
        elif kind == "fifo":
            os.mkfifo(root / place)
        else:
            (root / place).symlink_to(top / "outside")
    layers.fill(str(root))
    assert untouched(root)
    assert is_complete(root)


def test_no_descriptor_is_left_open(root):
    before = len(os.listdir("/proc/self/fd"))
    layers.fill(str(root))
    assert len(os.listdir("/proc/self/fd")) == before


class Driver:
    """A graph driver that only takes notes; a method named in `fails` raises."""

    def __init__(self, root, fails=""):
        self.root, self.fails, self.notes = root, fails, []

    def note(self, *what):
        self.notes.append(" ".join(map(str, what)))
        if self.notes[-1] == self.fails:
            raise OSError(28, "no space left on device")

    def create(self, layer, parent):
        self.note("create", layer, parent)

    def mount(self, layer):
        self.note("mount", layer)
        return self.root

    def unmount(self, layer):
        self.note("unmount", layer)

    def remove(self, layer):
        self.note("remove", layer)


def test_two_layers_are_made_and_the_first_is_unmounted_again(root):
    driver = Driver(root)
    layers.make(driver, "rw", "top")
    assert driver.notes == [
        "create rw-init top",
        "mount rw-init",
        "unmount rw-init",
        "create rw rw-init",
    ]
    assert is_complete(root)


@pytest.mark.parametrize("fails", ["mount rw-init", "create rw rw-init"])
def test_a_layer_that_fails_leaves_none_behind(root, fails):
    driver = Driver(root, fails)
    with pytest.raises(OSError, match="no space"):
        layers.make(driver, "rw", "top")
    assert driver.notes[-1] == "remove rw-init"


def test_both_layers_are_removed(root):
    driver = Driver(root)
    layers.remove(driver, "rw")
    assert driver.notes == ["remove rw", "remove rw-init"]
