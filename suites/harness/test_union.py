"""The union model against overlayfs, which hides by the same rules in other words."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import offline
import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit import kernel
from startkit.judge.listing import load_article
from startkit.judge.union import OPAQUE, WHITEOUT, ancestors, parse_branches, shown, tree_counts

ARTICLE = load_article(offline.GOLDEN)
KINDS = ("file", "directory", "whiteout", "opaque")
paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


def counted(name):
    """Return (directories, files) of a listing's last line."""
    words = ARTICLE.texts[f"{name}.txt"].splitlines()[-1].split()
    return int(words[0]), int(words[2])


def mark(path):
    """Return the whiteout that hides a path."""
    parent, name = os.path.split(path)
    return os.path.join(parent, WHITEOUT + name)


@st.composite
def trees(draw):
    """Draw one layer: path -> kind, its whiteouts written as aufs writes them."""
    tree = {}
    for path, kind in draw(st.lists(st.tuples(paths, st.sampled_from(KINDS)), max_size=8)):
        above = [one for one in ancestors(path) if one]
        taken = [tree.get(one, "directory") != "directory" or mark(one) in tree for one in above]
        if any(taken) or path in tree or mark(path) in tree:
            continue
        tree |= dict.fromkeys(above, "directory")
        if kind == "whiteout":
            tree[mark(path)] = "file"
        else:
            tree[path] = "file" if kind == "file" else "directory"
        if kind == "opaque":
            tree[f"{path}/{OPAQUE}"] = "file"
    return tree


def write(tree, top, *, honoured):
    """Write a layer as overlayfs has it: a whiteout is device 0:0, opaque an attribute."""
    top.mkdir()
    for path in sorted(tree):
        parent, name = os.path.split(path)
        if honoured and name == OPAQUE:
            os.setxattr(top / parent, "trusted.overlay.opaque", b"y")
        elif honoured and name.startswith(WHITEOUT):
            os.mknod(top / parent / name.removeprefix(WHITEOUT), stat.S_IFCHR, 0)
        elif tree[path] == "directory":
            (top / path).mkdir()
        else:
            (top / path).touch()


def read(top):
    """Return path -> kind of what a mounted tree shows."""
    found = {}
    for path in top.rglob("*"):
        if os.path.lexists(path):  # overlayfs may name a whiteout, and then have no such file
            found[str(path.relative_to(top))] = "directory" if path.is_dir() else "file"
    return found


@needs_root
@given(st.lists(st.tuples(trees(), st.booleans()), min_size=2, max_size=4))
def test_the_model_shows_what_overlayfs_shows(layers):
    with tempfile.TemporaryDirectory(prefix="startkit-union-") as name:
        place = Path(name)
        (place / "merged").mkdir()
        for number, (tree, honoured) in enumerate(layers):
            write(tree, place / str(number), honoured=honoured)
        lower = ":".join(str(place / str(number)) for number in range(len(layers)))
        kernel.mount("overlay", place / "merged", "overlay", 0, f"lowerdir={lower}")
        try:
            real = read(place / "merged")
        finally:
            kernel.umount(place / "merged")
    modes = {True: "ro+wh", False: "ro"}
    assert shown([(tree, modes[honoured]) for tree, honoured in layers]) == real


def test_the_articles_two_counts_differ_by_what_plain_ro_brings_back():
    right, by_hand = counted("04-tree-rootfs"), counted("07-tree-merged")
    directories = [f"d{number}" for number in range(by_hand[0] - 1)]
    lists = [f"lists/{number}" for number in range(by_hand[1] - right[1])]
    files = [f"f{number}" for number in range(right[1])]
    base = dict.fromkeys([*directories, "lists"], "directory") | dict.fromkeys(
        files + lists, "file"
    )
    above = {".wh.lists": "file"}

    assert tree_counts(shown([(above, "ro"), (base, "ro")])) == by_hand
    assert tree_counts(shown([(above, "ro+wh"), (base, "ro+wh")])) == right


def test_the_articles_own_mount_says_ro_without_whiteouts():
    command = ARTICLE.texts["06-aufs-mount.txt"]
    data = command.split(" -o ")[1].split()[0]

    assert [branch.mode for branch in parse_branches(data)] == ["rw"] + ["ro"] * 6


@pytest.mark.parametrize("data", ["br:/a", "br:/a=rx", "xino=/a"])
def test_mount_data_without_good_branches_is_refused(data):
    with pytest.raises(ValueError, match=r"br:|none of"):
        parse_branches(data)
