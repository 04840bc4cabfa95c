"""The merged file system, from the host and from inside."""

from __future__ import annotations

import os

import pytest

clause = pytest.mark.clause

BIND_TARGETS = ("dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")


def branches(mount):
    """Return `rw` for an overlay's upper directory and `ro` for each lower one."""
    upper = [one for one in mount.super_options if one.startswith("upperdir=")]
    lower = [
        path
        for one in mount.super_options
        if one.startswith(("lowerdir=", "lowerdir+="))
        for path in one.partition("=")[2].split(":")
    ]
    return ["rw"] * len(upper) + ["ro"] * len(lower)


def from_host(seen):
    """Return the four mount points of the article's `ls`, in its order."""
    return [seen.rootfs_file(name) for name in BIND_TARGETS]


def nameservers(text):
    """Return the addresses of the nameserver lines."""
    rows = (line.split() for line in text.splitlines())
    return [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]


@clause("rootfs.path")
def test_config_json_points_at_the_merged_layers(seen, expect):
    expect(os.path.join(seen.bundle, str(seen.config.at("/root/path"))))


@clause("rootfs.layers.branches")
def test_one_writable_branch_lies_over_the_others(seen, expect):
    expect(branches(seen.rootfs_mount))


@clause("rootfs.layers.type")
def test_the_driver_overlay2_mounts_an_overlay(seen, expect):
    expect([seen.rootfs_mount.fstype, seen.rootfs_mount.source])


@clause("rootfs.init-layer.unmounted")
def test_the_init_layer_is_never_merged_by_itself(seen, expect):
    expect(seen.init_layer_mounted)


@clause("rootfs.bind-targets.sizes")
def test_the_mount_points_are_empty_from_the_host(seen, expect):
    expect([entry.size for entry in from_host(seen)])


@clause("rootfs.bind-targets.modes")
def test_the_mount_points_have_mode_0755(seen, expect):
    expect([entry.mode for entry in from_host(seen)])


@clause("rootfs.bind-targets.owners")
def test_the_mount_points_belong_to_root(seen, expect):
    expect([entry.uid or "root" for entry in from_host(seen)])


@clause("rootfs.binds.hidden")
def test_the_binds_do_not_show_on_the_host(seen, expect):
    below = f"{seen.rootfs}/"
    expect([mount.target for mount in seen.host_mounts if mount.target.startswith(below)])


@clause("rootfs.binds.private")
def test_the_binds_are_private_inside(seen, expect):
    names = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")
    found = [seen.mount(name).propagation for name in names]
    expect(found if any(found) else "rprivate")


@clause("rootfs.inside.hostname")
def test_etc_hostname_is_the_generated_one(seen, expect):
    expect(seen.inside("/etc/hostname").text)


@clause("rootfs.inside.hosts")
def test_etc_hosts_names_localhost(seen, expect):
    expect((seen.inside("/etc/hosts").text or "").partition("\n")[0].split())


@clause("rootfs.inside.resolv-conf")
def test_etc_resolv_conf_is_the_generated_one(seen, expect):
    expect(nameservers(seen.inside("/etc/resolv.conf").text or ""))


@clause("rootfs.whiteout")
def test_a_file_that_an_upper_layer_deletes_is_gone(seen, expect):
    expect(seen.inside("/etc/gone").kind)


@clause("rootfs.opaque")
def test_an_opaque_directory_hides_what_is_under_it(seen, expect):
    expect({name: seen.inside(f"/opt/dir/{name}").kind for name in ("one", "two", "three")})


@clause("rootfs.setuid")
def test_the_setuid_bit_of_a_layer_is_kept(seen, expect):
    expect(seen.inside("/usr/bin/setuid-true").mode)


@clause("rootfs.init-layer.dockerenv")
def test_dockerenv_is_an_empty_file(seen, expect):
    entry = seen.inside("/.dockerenv")
    expect([entry.kind, entry.mode, entry.size])


@clause("rootfs.init-layer.mtab")
def test_mtab_is_a_link_to_the_mounts_of_proc(seen, expect):
    expect(seen.inside("/etc/mtab").link)


@clause("rootfs.read-only")
def test_a_read_only_root_is_mounted_so(seen, expect):
    expect("ro" if "ro" in seen.mount("/").options else "rw")


@clause("rootfs.unmounted")
def test_the_layers_are_merged_only_while_it_runs(seen, expect):
    expect([mount.target for mount in seen.stopped.host_mounts])
