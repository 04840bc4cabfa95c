"""config.json, and the directory it lies in."""

from __future__ import annotations

import pytest

clause = pytest.mark.clause

ARTICLES_BINDS = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/dev/shm"}
DEFAULT_MOUNTS = 6
TALKATIVE = (
    *("/proc/kcore", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats"),
    *("/proc/sched_debug", "/sys/firmware"),
)
SWITCHES = (
    *("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"),
    "/proc/sysrq-trigger",
)


def destinations(config):
    """Return the destinations of the mounts in order."""
    return [mount.destination for mount in config.mounts]


def ids(config):
    """Return uid and gid of the process, nothing else of its user."""
    return {name: config.at(f"/process/user/{name}") for name in ("gid", "uid")}


def paths(config, name):
    """Return the paths of linux.maskedPaths or linux.readonlyPaths."""
    found = config.at(f"/linux/{name}")
    return found if isinstance(found, list) else []


@clause("bundle.place")
def test_the_bundle_is_named_after_the_container(seen, expect):
    expect(seen.bundle)


@clause("bundle.mode")
def test_only_root_gets_into_the_bundle(seen, expect):
    expect(seen.bundle_mode)


@clause("bundle.hostname.default")
def test_the_host_name_is_the_short_id(seen, expect):
    expect(seen.config.at("/hostname"))


@clause("bundle.hostname.domain")
def test_the_host_name_has_the_domain(seen, expect):
    expect(seen.config.at("/hostname"))


@clause("bundle.namespaces.order")
def test_five_namespaces_are_asked_for_in_order(seen, expect):
    expect([name for name in seen.config.namespaces if name != "cgroup"])


@clause("bundle.mounts.default")
def test_six_default_mounts_come_first(seen, expect):
    first = seen.config.mounts[:DEFAULT_MOUNTS]
    expect([mount.destination for mount in first if mount.type != "bind"])


@clause("bundle.mounts.proc.options")
def test_proc_is_mounted_without_suid_exec_and_devices(seen, expect):
    expect(seen.config.mount("/proc").options)


@clause("bundle.mounts.dev.options")
def test_dev_is_a_tmpfs_of_mode_755(seen, expect):
    expect(seen.config.mount("/dev").options)


@clause("bundle.mounts.pts.options")
def test_dev_pts_is_an_instance_of_its_own(seen, expect):
    expect(seen.config.mount("/dev/pts").options)


@clause("bundle.mounts.sys.options")
def test_sysfs_is_read_only(seen, expect):
    expect(seen.config.mount("/sys").options)


@clause("bundle.mounts.order")
def test_the_four_binds_come_in_the_articles_order(seen, expect):
    expect([place for place in destinations(seen.config) if place in ARTICLES_BINDS])


@clause("bundle.mounts.sorted")
def test_added_mounts_are_sorted_by_depth(seen, expect):
    added = [one for one in destinations(seen.config)[DEFAULT_MOUNTS:] if one != "/dev/shm"]
    expect(added, want=sorted(added, key=lambda path: path.count("/")))


@clause("bundle.mounts.resolv-conf.options")
def test_resolv_conf_is_a_recursive_private_bind(seen, expect):
    expect(seen.config.mount("/etc/resolv.conf").options)


@clause("bundle.mounts.resolv-conf.source")
def test_resolv_conf_comes_from_the_containers_directory(seen, expect):
    expect(seen.config.mount("/etc/resolv.conf").source)


@clause("bundle.mounts.hostname.options")
def test_hostname_is_a_recursive_private_bind(seen, expect):
    expect(seen.config.mount("/etc/hostname").options)


@clause("bundle.mounts.hostname.source")
def test_hostname_comes_from_the_containers_directory(seen, expect):
    expect(seen.config.mount("/etc/hostname").source)


@clause("bundle.mounts.hosts.options")
def test_hosts_is_a_recursive_private_bind(seen, expect):
    expect(seen.config.mount("/etc/hosts").options)


@clause("bundle.mounts.hosts.source")
def test_hosts_comes_from_the_containers_directory(seen, expect):
    expect(seen.config.mount("/etc/hosts").source)


@clause("bundle.mounts.shm.options")
def test_dev_shm_is_a_recursive_private_bind(seen, expect):
    expect(seen.config.mount("/dev/shm").options)


@clause("bundle.mounts.shm.source")
def test_dev_shm_comes_from_the_containers_directory(seen, expect):
    expect(seen.config.mount("/dev/shm").source)


@clause("bundle.mounts.read-only-root")
def test_on_a_read_only_root_the_binds_are_read_only(seen, expect):
    expect(seen.config.mount("/etc/hosts").options)


@clause("bundle.root.read-only")
def test_a_read_only_root_is_said_of_the_root(seen, expect):
    expect(seen.config.at("/root/readonly"))


@clause("bundle.process.args")
def test_the_program_is_entrypoint_and_command(seen, expect):
    asked = seen.scene.recipe
    wanted = [*(asked.get("Entrypoint") or []), *(asked.get("Cmd") or [])]
    expect(seen.config.at("/process/args"), want=wanted)


@clause("bundle.process.cwd.default")
def test_the_program_starts_in_the_root(seen, expect):
    expect(seen.config.at("/process/cwd"))


@clause("bundle.process.cwd.option")
def test_the_user_says_where_the_program_starts(seen, expect):
    expect(seen.config.at("/process/cwd"))


@clause("bundle.process.env.default")
def test_the_environment_is_path_hostname_term(seen, expect):
    expect(seen.config.at("/process/env"))


@clause("bundle.process.env.without-terminal")
def test_without_a_terminal_there_is_no_term(seen, expect):
    expect(seen.config.at("/process/env"))


@clause("bundle.process.env.user")
def test_a_users_variable_keeps_the_place_of_the_default(seen, expect):
    expect(seen.config.at("/process/env"))


@clause("bundle.process.terminal.with")
def test_a_terminal_is_asked_of_the_runtime(seen, expect):
    expect(seen.config.at("/process/terminal"))


@clause("bundle.process.terminal.without")
def test_no_terminal_is_there_unasked(seen, expect):
    expect(seen.config.at("/process/terminal") or False)


@clause("bundle.process.user.default")
def test_the_program_runs_as_root(seen, expect):
    expect(ids(seen.config))


@clause("bundle.process.user.option")
def test_a_user_is_looked_up_in_the_container(seen, expect):
    expect(ids(seen.config))


@clause("bundle.process.capabilities")
def test_fourteen_capabilities_are_left(seen, expect):
    found = seen.config.at("/process/capabilities")
    expect(found if isinstance(found, list) else seen.config.at("/process/capabilities/bounding"))


@clause("bundle.paths.masked")
def test_talkative_files_are_masked(seen, expect):
    masked = paths(seen.config, "maskedPaths")
    expect([path for path in TALKATIVE if path not in masked])


@clause("bundle.paths.read-only")
def test_switches_are_read_only_or_masked(seen, expect):
    closed = paths(seen.config, "readonlyPaths") + paths(seen.config, "maskedPaths")
    expect([path for path in SWITCHES if path not in closed])
