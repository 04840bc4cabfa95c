"""The shim, and the program in the container."""

from __future__ import annotations

import pytest

clause = pytest.mark.clause

# as config.json calls them -> as /proc does
NAMESPACES = {"mount": "mnt", "network": "net", "uts": "uts", "pid": "pid", "ipc": "ipc"}
TERMINALS = ("/dev/pts/", "/dev/console")


def is_own(name, ours, theirs):
    """Say whether both namespaces are known, and not the same."""
    key = NAMESPACES[name]
    return bool(ours.get(key) and theirs.get(key)) and ours[key] != theirs[key]


def role(pid, **known):
    """Return who a pid is."""
    return next((name for name, process in known.items() if process.pid == pid), "other")


@clause("process.shim.argv")
def test_the_shim_is_told_id_bundle_and_runtime(seen, expect):
    expect(seen.shim.argv)


@clause("process.shim.name")
def test_the_parent_of_init_is_a_shim(seen, expect):
    expect(seen.shim.comm[:9])


@clause("process.shim.parent")
def test_the_shim_is_the_child_of_containerd(seen, expect):
    expect(role(seen.shim.ppid, containerd=seen.containerd, daemon=seen.daemon))


@clause("process.shim.cwd")
def test_the_shim_stands_in_the_directory_of_the_process(seen, expect):
    expect(seen.shim.cwd)


@clause("process.shim.group")
def test_the_shim_leads_a_process_group(seen, expect):
    expect(seen.shim.pgid == seen.shim.pid)


@clause("process.namespaces")
def test_the_program_has_five_namespaces_of_its_own(seen, expect):
    ours, theirs = seen.seen.host.namespaces, seen.init.namespaces
    expect([name for name in NAMESPACES if is_own(name, ours, theirs)])


@clause("process.pid")
def test_the_program_is_number_1(seen, expect):
    expect(seen.init.status.get("NSpid", "").rpartition(" ")[2])


@clause("process.hostname")
def test_the_host_name_is_the_short_id_inside(seen, expect):
    expect(seen.hostname)


@clause("process.argv")
def test_the_program_is_the_one_that_was_asked_for(seen, expect):
    expect(seen.init.argv, want=seen.scene.recipe.get("Cmd"))


@clause("process.cwd")
def test_the_program_stands_in_the_root(seen, expect):
    expect(seen.init.cwd)


@clause("process.user")
def test_the_program_runs_as_the_user_asked_for(seen, expect):
    status = seen.init.status
    expect({"uid": status.get("Uid"), "gid": status.get("Gid")})


@clause("process.capabilities")
def test_the_bounding_set_holds_fourteen(seen, expect):
    expect(seen.init.status.get("CapBnd"))


@clause("process.stdio.terminal")
def test_the_three_streams_are_one_terminal(seen, expect):
    files = {seen.init_fds.get(number, "closed") for number in ("0", "1", "2")}
    expect(len(files) == 1 and all(file.startswith(TERMINALS) for file in files))
