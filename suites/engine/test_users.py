"""`--user`: names are those of the image's own passwd and group, never the machine's."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from startkit.daemon import users
from startkit.daemon.errors import ServerError
from startkit.daemon.users import User

PASSWD = (
    "root:x:0:0::/root:/bin/sh\nada:x:1000:100::/:\nbob:x:1001:1001\nnobody:x:65534:65534::/:\n"
)
GROUP = "root:x:0:ada\nusers:x:100:\nextra:x:55:ada,bob\nwheel:x:10:bob,adam\nplain:x:7\n"
FIELDS = st.sampled_from(
    ["", "0", "ada", "root", "1000", "-1", "x", "9" * 20, "9" * 5000, "\u0664", "a,b"]
)
LINES = st.lists(st.lists(FIELDS, max_size=7).map(":".join), max_size=8).map("\n".join)


@pytest.fixture
def rootfs(tmp_path):
    """Make an image's /etc with three users and five groups."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User(0, 0, [])),
        ("root", User(0, 0, [])),
        ("ada", User(1000, 100, [0, 55])),
        ("1000", User(1000, 100, [0, 55])),
        ("bob", User(1001, 1001, [55, 10])),
        ("ada:users", User(1000, 100, [])),
        ("ada:10", User(1000, 10, [])),
        ("ada:4444", User(1000, 4444, [])),
        (":wheel", User(0, 10, [])),
        ("4444", User(4444, 0, [])),
        ("4444:5555", User(4444, 5555, [])),
        ("2147483647", User(2147483647, 0, [])),
    ],
)
def test_a_user_is_looked_up_in_the_image(rootfs, text, expected):
    assert users.resolve(str(rootfs), text, []) == expected


def test_added_groups_follow_the_users_own_once_each(rootfs):
    assert users.resolve(str(rootfs), "ada", ["wheel", "55", "77"]).groups == [0, 55, 10, 77]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eve", "unable to find user eve: no matching entries in passwd file"),
        ("ada:eve", "unable to find group eve: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range"),
        ("0:2147483648", "uids and gids must be in range"),
        ("9" * 5000, "uids and gids must be in range"),
    ],
)
def test_who_is_not_there_is_refused_in_dockers_words(rootfs, text, message):
    with pytest.raises(ServerError, match=message):
        users.resolve(str(rootfs), text, [])


def test_an_added_group_that_is_not_there_is_refused(rootfs):
    with pytest.raises(ServerError, match="unable to find group eve"):
        users.resolve(str(rootfs), "ada", ["eve"])


def test_an_image_without_passwd_takes_numbers_and_nothing_else(tmp_path):
    assert users.resolve(str(tmp_path), "5:6", ["7"]) == User(5, 6, [7])
    with pytest.raises(ServerError, match="unable to find user root"):
        users.resolve(str(tmp_path), "root", [])


@pytest.mark.parametrize("link", ["../../outside", "/outside", "/../outside"])
def test_a_symlink_never_leads_to_the_machines_passwd(tmp_path, link):
    rootfs = tmp_path / "rootfs"
    (rootfs / "etc").mkdir(parents=True)
    (tmp_path / "outside").write_text("eve:x:666:666::/:\n")
    (rootfs / "etc/passwd").symlink_to(link)
    with pytest.raises(ServerError, match="unable to find user eve"):
        users.resolve(str(rootfs), "eve", [])


def test_a_symlink_inside_the_image_is_followed(rootfs):
    (rootfs / "etc/passwd").rename(rootfs / "users")
    (rootfs / "etc/passwd").symlink_to("/users")
    assert users.resolve(str(rootfs), "ada", []).uid == 1000


def test_a_fifo_in_the_place_of_passwd_does_not_hang(rootfs):
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    assert users.resolve(str(rootfs), "7", []) == User(7, 0, [])


@given(passwd=LINES, group=LINES, user=FIELDS, add=FIELDS)
@example(passwd="ada:x:5:x", group="", user="ada", add="0")
def test_no_image_makes_the_daemon_fail(tmp_path_factory, passwd, group, user, add):
    rootfs = tmp_path_factory.mktemp("rootfs")
    (rootfs / "etc").mkdir()
    (rootfs / "etc/passwd").write_text(passwd)
    (rootfs / "etc/group").write_text(group)
    try:
        found = users.resolve(str(rootfs), user, [add])
    except ServerError:
        return
    assert all(0 <= number <= users.ID_MAX for number in (found.uid, found.gid, *found.groups))
