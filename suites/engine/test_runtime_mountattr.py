"""Mount options for a whole tree, and a tmpfs that starts with what it covers."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


@pytest.fixture
def tree(tmp_path):
    """Make a directory with another mount below it."""
    top = tmp_path / "tree"
    (top / "in").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top / "in"], check=True)
    yield top
    subprocess.run(["umount", top / "in"], check=True)


@pytest.mark.parametrize("runtime", ["startkit-runc", "runc"])
@pytest.mark.parametrize(
    ("options", "top", "below"),
    [
        (["ro"], {"ro"}, {"rw"}),
        (["rro"], {"ro"}, {"ro"}),
        (["rro", "rnosuid", "rnodev", "rnoexec"], {"ro", "nosuid", "nodev", "noexec"},
         {"ro", "nosuid", "nodev", "noexec"}),
        (["rnoatime"], {"noatime"}, {"noatime"}),
        (["ro", "rrw"], {"rw"}, {"rw"}),
    ],
)  # fmt: skip
def test_a_recursive_option_holds_for_the_mounts_below(bundle, tree, runtime, options, top, below):
    bundle.config["mounts"].append({"destination": "/srv", "type": "bind", "source": str(tree),
                                    "options": ["rbind", *options]})  # fmt: skip
    bundle.config["process"]["args"] = ["grep", " /srv", "/proc/mounts"]
    if runtime == "runc":
        if shutil.which("runc") is None:
            pytest.skip("needs runc")
        bundle.call("list")  # writes config.json
        command = ["runc", "--root", bundle.root, "run", "-b", bundle.path, bundle.id]
        seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        seen = bundle.run().stdout
    found = {line.split()[1]: set(line.split()[3].split(",")) for line in seen.splitlines()}

    assert top <= found["/srv"]
    assert below <= found["/srv/in"]


def test_a_tmpfs_starts_with_what_it_covers(bundle):
    data = bundle.rootfs / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep/file").write_text("x" * 70000)
    os.chown(data / "deep/file", 5, 6)
    (data / "deep/file").chmod(0o4750)
    (data / "link").symlink_to("/etc/passwd")
    os.mkfifo(data / "pipe", 0o640)
    bundle.config["mounts"].append(
        {"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup", "ro"]}
    )
    seen = bundle.shell(
        "cd /data; stat -c '%a %u:%g %s %F' deep/file; readlink link; stat -c %F pipe;"
        "touch x 2>&- || echo refused; grep -c ' /data tmpfs' /proc/mounts"
    )

    assert seen.splitlines() == [
        "4750 5:6 70000 regular file", "/etc/passwd", "fifo", "refused", "1"]  # fmt: skip


def test_tmpcopyup_of_another_type_is_refused(bundle):
    bundle.config["mounts"].append(
        {"destination": "/x", "type": "bind", "source": "/etc", "options": ["tmpcopyup"]}
    )

    assert "config.json /mounts/6: mount /x: tmpcopyup needs" in bundle.run("true").stderr
