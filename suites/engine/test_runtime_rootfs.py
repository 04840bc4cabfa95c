"""What the container sees of a file system, and that a hostile image leads nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest


def mounts_of(text):
    """Return mountinfo as {target: (options, type, source)}; the last mount on a target wins."""
    found = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        found[fields[4]] = (set(fields[5].split(",")), rest[0], rest[1])
    return found


def test_the_mounts_are_the_configs(bundle):
    seen = mounts_of(bundle.shell("cat /proc/self/mountinfo"))
    types = {target: seen[target][1] for target in seen}

    assert types["/proc"] == "proc"
    assert types["/dev"] == "tmpfs"
    assert types["/dev/pts"] == "devpts"
    assert types["/dev/mqueue"] == "mqueue"
    assert types["/sys"] == "sysfs"
    assert {"nosuid", "nodev", "noexec", "ro"} <= seen["/sys"][0]


def test_no_mount_of_the_host_is_left(bundle):
    text = bundle.shell("cat /proc/self/mountinfo")

    targets = sorted(line.split()[4] for line in text.splitlines())
    inside = [t for t in targets if t.startswith(("/proc", "/dev", "/sys"))]
    assert targets == ["/", *inside]
    assert bundle.shell("ls /").split() == ["bin", "dev", "etc", "proc", "sys", "tmp"]


def test_no_pivot_enters_the_rootfs_as_well(bundle):
    bundle.config["process"]["args"] = ["ls", "/"]
    done = bundle.call("run", "--no-pivot", "--bundle", str(bundle.path), bundle.id)

    assert (done.stderr, done.stdout.split()) == ("", ["bin", "dev", "etc", "proc", "sys", "tmp"])


def test_default_devices_and_links(bundle):
    script = "cd /dev; stat -c '%n %a %t:%T' null zero full random urandom tty; ls -l fd ptmx"
    seen = bundle.shell(script)

    numbers = ["null 666 1:3", "zero 666 1:5", "full 666 1:7", "random 666 1:8", "urandom 666 1:9",
               "tty 666 5:0"]  # fmt: skip
    assert seen.splitlines()[:6] == numbers
    assert seen.count("fd -> /proc/self/fd") == seen.count("ptmx -> pts/ptmx") == 1


def test_a_device_of_the_config_is_made_with_its_mode_and_owner(bundle):
    bundle.config["linux"]["devices"] = [
        {"path": "/dev/deep/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640,
         "uid": 5, "gid": 6}]  # fmt: skip

    assert bundle.shell("stat -c '%a %u:%g %t:%T' /dev/deep/fuse") == "640 5:6 a:e5\n"


def test_masked_and_read_only_paths(bundle):
    seen = bundle.shell(
        "wc -c < /proc/timer_list; ls /sys/firmware | wc -l;"
        "echo 1 2>&- > /proc/sys/kernel/panic || echo refused;"
        "echo h 2>&- > /proc/sysrq-trigger || echo refused"
    )

    assert seen.split() == ["0", "0", "refused", "refused"]


def test_a_read_only_root(bundle):
    bundle.config["root"]["readonly"] = True

    assert bundle.shell("touch /x 2>&- || echo refused; touch /dev/x && echo made") == (
        "refused\nmade\n"
    )


@pytest.mark.parametrize(
    ("options", "write"), [(["rbind", "rprivate"], "made"), (["rbind", "ro"], "refused")]
)
def test_a_bind_is_there_and_read_only_where_asked(bundle, tmp_path, options, write):
    (tmp_path / "data").mkdir()
    bundle.config["mounts"].append(
        {"destination": "/srv/data", "type": "bind", "source": str(tmp_path / "data"),
         "options": options})  # fmt: skip

    assert bundle.shell("touch /srv/data/x 2>&- && echo made || echo refused") == f"{write}\n"
    assert (tmp_path / "data/x").exists() == (write == "made")


def test_a_file_is_bound_on_a_file_that_is_made(bundle, tmp_path):
    (tmp_path / "hosts").write_text("1.2.3.4\n")
    bundle.config["mounts"].append(
        {"destination": "/etc/hosts", "source": str(tmp_path / "hosts"), "options": ["bind"]}
    )

    assert bundle.shell("cat /etc/hosts") == "1.2.3.4\n"
    made = (bundle.rootfs / "etc/hosts").stat()
    assert (made.st_size, made.st_mode & 0o777) == (0, 0o755)


def test_a_tmpfs_has_its_options_and_may_be_read_only(bundle):
    bundle.config["mounts"] += [
        {"destination": "/a", "type": "tmpfs", "options": ["size=64k", "mode=1770"]},
        {"destination": "/b", "type": "tmpfs", "options": ["ro"]}]  # fmt: skip

    seen = bundle.shell("stat -c %a /a; grep ' /a ' /proc/mounts; touch /b/x 2>&- || echo refused")
    assert seen.split()[0] == "1770"
    assert "size=64k" in seen
    assert seen.splitlines()[-1] == "refused"


@pytest.mark.parametrize(
    ("propagation", "tag"), [("shared", "shared"), ("unbindable", "unbindable"), ("private", "")]
)
def test_propagation_of_a_mount(bundle, tmp_path, propagation, tag):
    (tmp_path / "data").mkdir()
    bundle.config["mounts"].append(
        {"destination": "/srv", "source": str(tmp_path / "data"), "options": ["bind", propagation]}
    )
    line = bundle.shell("grep ' /srv ' /proc/self/mountinfo")

    assert [word.split(":")[0] for word in line.split(" - ")[0].split()[6:]] == [tag] * bool(tag)


@pytest.mark.parametrize("link", ["/etc/victim", "../../../../../../etc/victim"])
def test_a_symlink_in_the_image_does_not_lead_a_mount_to_the_host(bundle, tmp_path, link):
    # The image points a mount's target out of itself, absolutely and by climbing.
    (tmp_path / "data").write_text("data")
    (bundle.rootfs / "etc/target").symlink_to(link)
    bundle.config["mounts"].append(
        {"destination": "/etc/target", "source": str(tmp_path / "data"), "options": ["bind"]}
    )

    assert bundle.shell("cat /etc/victim") == "data"
    assert not Path("/etc/victim").exists()


def test_a_symlinked_directory_in_the_image_does_not_lead_to_the_host(bundle):
    (bundle.rootfs / "out").symlink_to("/var/tmp/startkit-victim")
    bundle.config["mounts"].append({"destination": "/out/in", "type": "tmpfs"})

    assert bundle.shell("ls -d /var/tmp/startkit-victim/in") == "/var/tmp/startkit-victim/in\n"
    assert not Path("/var/tmp/startkit-victim").exists()


def test_a_symlink_loop_is_an_error(bundle):
    (bundle.rootfs / "loop").symlink_to("loop")
    bundle.config["mounts"].append({"destination": "/loop/x", "type": "tmpfs"})
    done = bundle.run("true")

    assert done.returncode == 1
    assert "error mounting" in done.stderr
    assert os.listdir(bundle.root) == []


@pytest.mark.parametrize("target", ["/proc/self", "/proc/sys", "/out/proc/../proc/1"])
def test_a_mount_that_hides_a_part_of_proc_is_refused(bundle, target):
    (bundle.rootfs / "out").symlink_to("/")
    bundle.config["mounts"].append({"destination": target, "type": "tmpfs"})
    done = bundle.run("true")

    assert done.returncode == 1
    assert "is inside /proc" in done.stderr


@pytest.mark.parametrize("source", ["image", "bind"])
@pytest.mark.parametrize("planted", ["file", "zero device", "symlink"])
def test_a_planted_null_device_masks_nothing(bundle, tmp_path, source, planted):
    # A file where the null device belongs: what is written to a masked path could be read back.
    dev = bundle.rootfs / "dev" if source == "image" else tmp_path / "dev"
    dev.mkdir(exist_ok=True)
    if planted == "file":
        (dev / "null").write_text("planted")
    elif planted == "symlink":
        (dev / "null").symlink_to("/etc/passwd")
    else:
        os.mknod(dev / "null", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    mounts = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    bind = {"destination": "/dev", "type": "bind", "source": str(dev), "options": ["bind"]}
    bundle.config["mounts"] = mounts + [bind] * (source == "bind")
    if source == "image":  # noticed by who makes devices; in a bind by who masks
        bundle.config["linux"]["maskedPaths"] = []
    done = bundle.run("true")

    assert done.returncode == 1
    assert "/dev/null" in done.stderr


def test_a_missing_source_is_named(bundle):
    bundle.config["mounts"].append(
        {"destination": "/x", "type": "bind", "source": "/no/where", "options": ["bind"]}
    )
    done = bundle.run("true")

    assert done.returncode == 1
    assert "error mounting /no/where to /x (bind)" in done.stderr
    assert "no such file or directory" in done.stderr
