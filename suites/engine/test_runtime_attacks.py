"""Attacks on the runtime: by the image, by the container's program, by somebody who swaps paths.

Those on symlinks in mount targets and on a planted null device that need no more than an
image stand in `test_runtime_rootfs.py`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from startkit import kernel
from startkit.runtime import caps, paths
from startkit.runtime.text import ContainerError

AT_FDCWD, RENAME_EXCHANGE = -100, 2


@pytest.mark.parametrize("link", ["", "../../../../../.."])
@pytest.mark.parametrize(
    ("kind", "script", "seen"),
    [("maskedPaths", "cat /out", ""), ("readonlyPaths", "echo x 2>&- > /out || cat /out", "mine")],
)
def test_a_covered_path_that_is_a_symlink_covers_the_containers_own_file(
    bundle, victim, link, kind, script, seen
):
    own = bundle.rootfs / str(victim).lstrip("/")
    own.mkdir(parents=True)
    (own / "secret").write_text("mine")
    (bundle.rootfs / "out").symlink_to(f"{link}{victim}/secret")
    bundle.config["linux"][kind] = ["/out"]

    assert bundle.shell(script) == seen


def test_a_dangling_symlink_as_a_device_or_cwd_makes_nothing_on_the_host(bundle, victim):
    (bundle.rootfs / "work").symlink_to(f"{victim}/cwd")
    (bundle.rootfs / "hosts").symlink_to(f"../../../../../..{victim}/hosts")
    bundle.config["process"]["cwd"] = "/work/deep"
    bundle.config["mounts"].append({"destination": "/hosts", "type": "bind",
                                    "source": "/etc/hostname", "options": ["bind"]})  # fmt: skip

    assert bundle.shell("pwd -P") == f"{victim}/cwd/deep\n"


def test_a_target_that_is_swapped_all_the_time_never_leads_out(bundle, victim):
    # Another process exchanges a directory for a symlink to the host, as fast as it can.
    inner, link = bundle.rootfs / "a", bundle.rootfs / "b"
    (inner / victim.name).mkdir(parents=True)
    link.symlink_to(victim.parent)  # where the name is found as well
    done, root, outside = threading.Event(), os.open(bundle.rootfs, os.O_PATH), []

    def swap():
        one, other = os.fsencode(inner), os.fsencode(link)
        while not done.is_set():
            kernel.libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(1000):
            with contextlib.suppress(OSError, ContainerError):
                fd = paths.make_inside(root, f"/a/{victim.name}", directory=True)
                outside += [os.readlink(paths.proc_path(fd))]
                os.close(fd)
    finally:
        done.set()
        thread.join()
        os.close(root)

    assert outside
    assert not [path for path in outside if not path.startswith(str(bundle.rootfs))]


def test_what_init_has_open_cannot_be_read_by_the_containers_root(bundle):
    # Before exec init's /proc/self/exe is the host's interpreter: CVE-2019-5736.
    pid = bundle.create("sleep", "100")
    child = os.fork()
    if child == 0:
        # as the container's root would look: the same ids and capabilities, no CAP_SYS_PTRACE
        caps.apply(caps.Sets(bundle.config["process"]["capabilities"]))
        try:
            os.readlink(f"/proc/{pid}/exe")
        except PermissionError:
            os._exit(7)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_no_descriptor_of_init_is_left_over_exec_and_cwd_is_inside(bundle):
    pid = bundle.create("sleep", "100")
    bundle.call("start", bundle.id)
    while os.readlink(f"/proc/{pid}/exe").startswith("/usr/bin/python"):
        os.sched_yield()

    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.path.samestat(os.stat(f"/proc/{pid}/cwd"), os.stat(f"/proc/{pid}/root"))


def test_proc_self_fd_of_the_host_is_no_working_directory(bundle):
    # CVE-2024-21626: a descriptor left open on the host's file system, entered as cwd.
    bundle.config["process"]["cwd"] = "/proc/self/fd/7"
    host = []
    code = bundle.create_with_step("fill-dev", lambda _: host.append(os.dup2(os.open("/", 0), 7)))

    assert code == 1
    assert "/proc/self/fd/7" in (bundle.path / "log").read_text()


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/panic_on_oom", "/proc/sysrq-trigger"]
)
def test_no_file_of_the_kernel_is_written(bundle, path):
    # Where it could be written after all, the value that it has does no harm.
    script = f"v=$(cat {path} 2>&-); (echo ${{v:-h}} > {path}) 2>&- && echo written || echo refused"

    assert bundle.shell(script) == "refused\n"


@pytest.mark.parametrize("path", ["/proc/sys", "/proc/sysrq-trigger"])
def test_a_read_only_path_is_not_made_writable_again(bundle, path):
    assert bundle.shell(f"mount -o remount,rw,bind {path} 2>&- || echo refused") == "refused\n"


def test_a_masked_file_is_the_null_device_and_takes_what_is_written(bundle):
    bundle.config["linux"]["maskedPaths"].append("/proc/uptime")
    seen = bundle.shell(
        "stat -c '%t:%T' /proc/timer_list /proc/uptime; echo x > /proc/timer_list;"
        "wc -c < /proc/timer_list"
    )

    assert seen.split() == ["1:3", "1:3", "0"]


def test_a_null_device_swapped_after_dev_was_filled_is_noticed(bundle):
    def swap(state):
        fd = paths.open_inside(state.root, "/dev", os.O_PATH | os.O_DIRECTORY)
        os.unlink("null", dir_fd=fd)
        os.symlink("/etc/passwd", "null", dir_fd=fd)

    assert bundle.create_with_step("fill-dev", swap) == 1
    assert "/dev/null of the container is not the null device" in (bundle.path / "log").read_text()


def test_another_user_keeps_nothing_of_roots_privileges(bundle):
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    seen = bundle.shell("cat /proc/self/status; (chmod 777 /etc/passwd) 2>&- || echo refused")
    found = dict(line.split(":\t", 1) for line in seen.splitlines() if ":\t" in line)

    assert {int(found[key], 16) for key in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert (found["Uid"].split(), found["Gid"].split()) == (["1000"] * 4, ["1000"] * 4)
    assert found["Groups"].strip() == ""
    assert seen.splitlines()[-1] == "refused"


def test_init_keeps_no_directory_of_the_hosts_cgroups(bundle):
    pid = bundle.create("sleep", "100")
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]

    assert not [link for link in links if link.startswith("/sys")]
