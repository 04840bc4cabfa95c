"""What a program finds that a runtime has started: by its own words, and by its cgroups."""

from __future__ import annotations

import pytest

clause = pytest.mark.clause

TIMES = {"relatime", "noatime", "strictatime", "nodiratime"}


def flags(mount):
    """Return a mount's options without those of times, sorted."""
    return sorted(set(mount.options) - TIMES)


def status(seen, name):
    """Return a line of the program's /proc/self/status."""
    rows = (line.partition(":") for line in seen.asked("status"))
    return next((text.strip() for key, _, text in rows if key == name), None)


@clause("runtime.process.env")
def test_the_program_gets_its_environment(seen, expect):
    expect(seen.asked("env"))


@clause("runtime.process.user")
def test_the_program_is_its_user(seen, expect):
    expect(seen.asked("user"))


@clause("runtime.process.umask")
def test_the_program_has_its_umask(seen, expect):
    expect(status(seen, "Umask"))


@clause("runtime.process.no-new-privileges")
def test_the_program_cannot_gain_privileges(seen, expect):
    expect(status(seen, "NoNewPrivs"))


@clause("runtime.capabilities.bounding")
def test_the_bounding_set(seen, expect):
    expect(status(seen, "CapBnd"))


@clause("runtime.capabilities.permitted")
def test_the_permitted_set(seen, expect):
    expect(status(seen, "CapPrm"))


@clause("runtime.capabilities.effective")
def test_the_effective_set(seen, expect):
    expect(status(seen, "CapEff"))


@clause("runtime.capabilities.inheritable")
def test_the_inheritable_set(seen, expect):
    expect(status(seen, "CapInh"))


@clause("runtime.capabilities.ambient")
def test_the_ambient_set(seen, expect):
    expect(status(seen, "CapAmb"))


@clause("runtime.namespaces.pid")
def test_the_program_is_number_one(seen, expect):
    expect(seen.asked("pid"))


@clause("runtime.hostname")
def test_the_host_name(seen, expect):
    expect(seen.asked("hostname"))


@clause("runtime.mounts.proc")
def test_proc_is_mounted(seen, expect):
    expect(seen.mount("/proc").fstype)


@clause("runtime.mounts.order")
def test_a_later_mount_lies_on_an_earlier_one(seen, expect):
    expect(seen.asked("order"))


@clause("runtime.mounts.made")
def test_a_destination_is_made(seen, expect):
    expect(seen.asked("made"))


@clause("runtime.mounts.data")
def test_a_tmpfs_has_its_mode(seen, expect):
    expect(seen.asked("sticky"))


@clause("runtime.mounts.flags")
def test_a_tmpfs_has_its_flags(seen, expect):
    expect(flags(seen.mount("/dev/shm")))


@clause("runtime.mounts.bind.flags")
def test_a_bind_mount_has_its_flags(seen, expect):
    expect(flags(seen.mount("/bound")))


@clause("runtime.mounts.bind.content")
def test_a_bind_mount_shows_its_source(seen, expect):
    expect(seen.asked("bind"))


@clause("runtime.mounts.rbind")
def test_rbind_takes_along_what_is_below(seen, expect):
    expect(any(one.target.startswith("/tree/") for one in seen.mounts()))


@clause("runtime.mounts.readonly")
def test_a_read_only_tmpfs(seen, expect):
    expect("ro" if "ro" in seen.mount("/made/deep/down").options else "rw")


@clause("runtime.mounts.shm.mode")
def test_everybody_may_write_shm(seen, expect):
    expect(seen.asked("suid"))


@clause("runtime.root.writable")
def test_a_root_is_writable_by_default(seen, expect):
    expect(seen.asked("root"))


@clause("runtime.devices.default")
def test_the_default_devices_are_there(seen, expect):
    expect(sorted(seen.asked("dev")))


@clause("runtime.devices.links")
def test_the_links_in_dev(seen, expect):
    expect(seen.asked("links"))


@clause("runtime.devices.own")
def test_a_device_of_the_config(seen, expect):
    expect(seen.asked("device"))


@clause("runtime.devices.denied")
def test_another_device_is_denied(seen, expect):
    expect("Operation not permitted" in "".join(seen.asked("mknod")))


@clause("runtime.devices.default-allowed")
def test_null_is_allowed_whatever_the_list_says(seen, expect):
    expect(seen.asked("null"))


@clause("runtime.paths.masked.file")
def test_a_masked_file_is_empty(seen, expect):
    expect(seen.asked("version"))


@clause("runtime.paths.masked.directory")
def test_a_masked_directory_is_empty(seen, expect):
    expect(seen.asked("firmware"))


@clause("runtime.paths.read-only")
def test_a_read_only_path_refuses_to_be_written(seen, expect):
    expect("Read-only file system" in "".join(seen.asked("sysctl")))


@clause("runtime.cgroup.memory.limit")
def test_the_memory_limit(seen, expect):
    expect(seen.limit("memory.limit_in_bytes"))


@clause("runtime.cgroup.memory.reservation")
def test_the_memory_reservation(seen, expect):
    expect(seen.limit("memory.soft_limit_in_bytes"))


@clause("runtime.cgroup.pids")
def test_the_limit_on_processes(seen, expect):
    expect(seen.limit("pids.max"))


@clause("runtime.cgroup.cpu.shares")
def test_the_cpu_shares(seen, expect):
    expect(seen.limit("cpu.shares"))


@clause("runtime.cgroup.cpu.quota")
def test_quota_and_period(seen, expect):
    expect([seen.limit("cpu.cfs_quota_us"), seen.limit("cpu.cfs_period_us")])


@clause("runtime.cgroup.cpuset")
def test_the_cpus(seen, expect):
    expect(seen.limit("cpuset.cpus"))


@clause("runtime.cgroup.devices")
def test_the_device_list(seen, expect):
    expect("c 10:229 rw" in seen.limit("devices.list").splitlines())


@clause("runtime.sysctl")
def test_kernel_parameters(seen, expect):
    expect(seen.asked("sysctl"))


@clause("runtime.seccomp")
def test_a_system_call_is_refused(seen, expect):
    expect("Permission denied" in "".join(seen.asked("seccomp")))
