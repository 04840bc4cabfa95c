"""aufs' mount data: Docker's exact bytes, and never more than a page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon.graph.aufs import PAGE, XINO, mount_options
from startkit.judge.union import parse_branches

DIFF = "/var/lib/docker/aufs/diff"
IDS = st.text("0123456789abcdef", min_size=64, max_size=64)
PATHS = st.builds(
    lambda root, layer: f"{root}/{layer}", st.sampled_from([DIFF, "/d", "/x" * 90]), IDS
)
LABELS = st.sampled_from(["", "system_u:object_r:container_file_t:s0:c1,c2"])
STACKS = st.lists(PATHS, max_size=127)
PAGES = st.integers(500, PAGE)  # a small page is filled by few layers


def branches(mount):
    """Read the mount back as the judge does: every branch with its permission."""
    calls = [mount.first, *(data.replace("append:", "br:", 1) for data in mount.remounts)]
    return [f"{branch.path}={branch.mode}" for data in calls for branch in parse_branches(data)]


def test_the_data_of_one_image_layer_is_dockers():
    rw, image = f"{DIFF}/{'a' * 64}", f"{DIFF}/{'b' * 64}"
    mount = mount_options(rw, [f"{rw}-init", image])
    assert mount.first == (f"br:{rw}=rw:{rw}-init=ro+wh:{image}=ro+wh,dio,xino=/dev/shm/aufs.xino")
    assert mount.remounts == []


def test_dirperm1_stands_last():
    assert mount_options("/rw", [], dirperm1=True).first == f"br:/rw=rw,{XINO},dirperm1"


def test_a_label_is_a_context_on_every_call():
    mount = mount_options("/rw", ["/a" * 2040], label="l")
    assert mount.first == f'br:/rw=rw,{XINO},context="l"'
    assert mount.remounts == [f'append:{"/a" * 2040}=ro+wh,context="l"']


def test_the_layer_that_fills_the_room_to_the_byte_is_still_mounted():
    room = PAGE - 54 - len("br:/rw=rw") - len(":=ro+wh")
    assert mount_options("/rw", ["x" * room]).remounts == []
    assert mount_options("/rw", ["x" * (room + 1)]).remounts != []


def test_dirperm1_and_the_label_take_their_room():
    room = PAGE - 54 - len("br:/rw=rw") - len(":=ro+wh")
    assert mount_options("/rw", ["x" * (room - 8)], dirperm1=True).remounts == []
    assert mount_options("/rw", ["x" * (room - 7)], dirperm1=True).remounts != []
    assert mount_options("/rw", ["x" * (room - 5)], label="label").remounts == []
    assert mount_options("/rw", ["x" * (room - 4)], label="label").remounts != []


def test_a_writable_branch_longer_than_the_room_is_refused():
    with pytest.raises(ValueError, match="writable branch"):
        mount_options("/x" * 2100, [])


@given(PATHS, STACKS, st.booleans(), LABELS, PAGES)
def test_no_call_has_more_data_than_a_page_holds(rw, ro, dirperm1, label, page):
    mount = mount_options(rw, ro, dirperm1=dirperm1, label=label, page=page)
    assert all(len(data) < page for data in (mount.first, *mount.remounts))


@given(PATHS, STACKS, st.booleans(), LABELS, PAGES)
def test_every_layer_is_a_branch_once_and_in_order(rw, ro, dirperm1, label, page):
    mount = mount_options(rw, ro, dirperm1=dirperm1, label=label, page=page)
    assert branches(mount) == [f"{rw}=rw", *[f"{layer}=ro+wh" for layer in ro]]


@given(PATHS, STACKS, PAGES)
def test_a_layer_is_appended_only_when_it_did_not_fit(rw, ro, page):
    mount = mount_options(rw, ro, page=page)
    if mount.remounts:
        first_left_out = mount.remounts[0].removeprefix("append")
        assert len(mount.first) - len(XINO) - 1 + len(first_left_out) > page - 54
