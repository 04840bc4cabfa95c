"""What a runtime answers, from create to delete, and the hooks on the way."""

from __future__ import annotations

import os
import re

import pytest

from startkit.observe.trials.view import other_namespaces, ran, told

clause = pytest.mark.clause


@clause("runtime.state.unknown")
def test_state_of_nobody(seen, expect):
    expect(seen.answers("nobody"))


@clause("runtime.start.unknown")
def test_start_of_nobody(seen, expect):
    expect(seen.answers("nobody-start"))


@clause("runtime.kill.unknown")
def test_kill_of_nobody(seen, expect):
    expect(seen.answers("nobody-kill"))


@clause("runtime.delete.unknown")
def test_delete_of_nobody(seen, expect):
    expect(seen.answers("nobody-delete"))


@clause("runtime.create.status")
def test_a_created_container_says_so(seen, expect):
    expect(seen.status("created"))


@clause("runtime.create.not-started")
def test_create_does_not_run_the_program(seen, expect):
    expect(seen.glimpse("created").output)


@clause("runtime.create.namespaces")
def test_create_makes_the_namespaces(seen, expect):
    expect(other_namespaces(seen, seen.init("created")))


@clause("runtime.create.again")
def test_an_id_is_taken_once(seen, expect):
    expect(seen.answers("create-again"))


@clause("runtime.create.again.unharmed")
def test_a_refused_create_harms_nobody(seen, expect):
    expect(seen.status("still-created"))


@clause("runtime.create.no-program")
def test_no_program_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.create.bad-namespace")
def test_an_unknown_namespace_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.create.bad.leftovers")
def test_a_refused_create_leaves_nothing(seen, expect):
    seen.call("created")
    expect(seen.leftovers)


@clause("runtime.create.missing-program")
def test_a_missing_program_is_told(seen, expect):
    expect(seen.answers("start"))


@clause("runtime.state.version")
def test_state_tells_the_version(seen, expect):
    expect(bool(re.match(r"\d+\.\d+\.\d+", str(seen.state("created").get("ociVersion")))))


@clause("runtime.state.id")
def test_state_tells_the_id(seen, expect):
    expect(seen.state("created").get("id"))


@clause("runtime.state.bundle")
def test_state_tells_the_bundle(seen, expect):
    expect(seen.state("created").get("bundle"))


@clause("runtime.state.annotations")
def test_state_tells_the_annotations(seen, expect):
    expect(seen.state("created").get("annotations"))


@clause("runtime.state.pid")
def test_state_tells_the_pid(seen, expect):
    init = seen.state("created") and seen.glimpse("created").init
    expect(bool(init) and init.status.get("NSpid", "").split()[1:] == ["1"])


@clause("runtime.start.runs")
def test_start_runs_the_program(seen, expect):
    expect("== ready" in seen.glimpse("running").output)


@clause("runtime.start.status")
def test_a_started_container_says_so(seen, expect):
    expect(seen.status("running"))


@clause("runtime.start.pid")
def test_start_keeps_the_pid(seen, expect):
    expect(seen.state("running").get("pid") == seen.state("created").get("pid"))


@clause("runtime.start.again")
def test_start_of_a_running_container(seen, expect):
    expect(seen.answers("start-again"))


@clause("runtime.start.stopped")
def test_start_of_a_stopped_container(seen, expect):
    expect(seen.answers("start-stopped"))


@clause("runtime.delete.running")
def test_delete_of_a_running_container(seen, expect):
    expect(seen.answers("delete-running"))


@clause("runtime.delete.running.unharmed")
def test_a_refused_delete_harms_nobody(seen, expect):
    expect(seen.status("still-running"))


@clause("runtime.kill.signal")
def test_kill_sends_its_signal(seen, expect):
    seen.call("stopped")
    expect("== trapped" in seen.said())


@clause("runtime.kill.created")
def test_a_created_container_can_be_killed(seen, expect):
    expect(seen.answers("kill"))


@clause("runtime.kill.created.status")
def test_a_killed_created_container_is_stopped(seen, expect):
    expect(seen.status("stopped"))


@clause("runtime.kill.stopped")
def test_kill_of_a_stopped_container(seen, expect):
    expect(seen.answers("kill-stopped"))


@clause("runtime.stopped.status")
def test_a_container_that_ended_is_stopped(seen, expect):
    expect(seen.status("stopped"))


@clause("runtime.delete.stopped")
def test_delete_of_a_stopped_container(seen, expect):
    expect(seen.answers("delete"))


@clause("runtime.delete.forgotten")
def test_a_deleted_container_is_unknown(seen, expect):
    expect(seen.answers("deleted"))


@clause("runtime.delete.leftovers")
def test_delete_leaves_nothing(seen, expect):
    seen.call("deleted")
    expect(seen.leftovers)


@clause("runtime.delete.created")
def test_delete_of_a_created_container(seen, expect):
    expect(seen.answers("delete-created"))


@clause("runtime.cgroup.path")
def test_the_cgroup_stands_at_its_path(seen, expect):
    places = seen.glimpse("running").cgroup_dirs.values()
    path = seen.scene.config["linux"]["cgroupsPath"]
    expect(bool(places) and all(place.endswith(path) for place in places))


@clause("runtime.cgroup.member")
def test_the_process_is_in_its_cgroup_at_create(seen, expect):
    glimpse = seen.glimpse("created")
    members = glimpse.cgroup_files.get("pids/cgroup.procs", "").split()
    expect(str(seen.init("created").pid) in members)


@clause("runtime.hooks.order")
def test_the_hooks_of_create_run_in_order(seen, expect):
    expect(ran(seen)[:3])


@clause("runtime.hooks.all")
def test_every_hook_runs_once(seen, expect):
    expect(sorted(ran(seen)))


@clause("runtime.hooks.last")
def test_poststop_runs_last(seen, expect):
    expect(ran(seen)[-1:] and ran(seen)[-1])


@clause("runtime.hooks.state")
def test_hooks_are_told_the_state(seen, expect):
    expect([told(seen, hook).get("id") for hook in seen.scene.config["hooks"]])


@clause("runtime.hooks.pid")
def test_prestart_is_told_the_pid(seen, expect):
    expect(told(seen, "prestart").get("pid") == seen.state("created").get("pid"))


@clause("runtime.hooks.runtime-namespace")
def test_the_first_hooks_run_outside(seen, expect):
    own = seen.seen.host.namespaces["uts"]
    expect([seen.wrote(f"{hook}.uts").strip() == own for hook in ("prestart", "createRuntime")])


@clause("runtime.hooks.container-namespace")
def test_the_hooks_of_the_container_run_inside(seen, expect):
    own = seen.init("running").namespaces["uts"]
    inside = ("createContainer", "startContainer")
    expect([seen.wrote(f"{hook}.uts").strip() == own for hook in inside])


@clause("runtime.hooks.prestart-fails")
def test_a_failing_prestart_hook_refuses_create(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.hooks.prestart-fails.leftovers")
def test_a_failing_prestart_hook_leaves_nothing(seen, expect):
    seen.call("created")
    expect(seen.leftovers)


@clause("runtime.hooks.poststop-fails")
def test_a_failing_poststop_hook_does_not_stop_delete(seen, expect):
    expect(seen.answers("delete", "deleted"))


@clause("runtime.namespaces.path")
def test_a_namespace_by_path_is_joined(seen, expect):
    expect(seen.init("running").namespaces["net"] == seen.seen.host.namespaces["net"])


@clause("runtime.namespaces.new")
def test_the_program_has_new_namespaces(seen, expect):
    expect(other_namespaces(seen, seen.init("running")))


@clause("runtime.process.args")
def test_the_program_gets_its_arguments(seen, expect):
    expect(seen.init("running").argv, want=seen.scene.config["process"]["args"])


@clause("runtime.process.cwd")
def test_the_program_stands_in_cwd(seen, expect):
    expect(seen.asked("cwd"))


@clause("runtime.process.rlimits")
def test_the_program_has_its_limits(seen, expect):
    expect(list(seen.init("running").limits["Max open files"]))


@clause("runtime.process.oom-score")
def test_the_program_has_its_oom_score(seen, expect):
    expect(seen.init("running").oom_score_adj)


@clause("runtime.root.read-only")
def test_a_read_only_root_refuses_to_be_written(seen, expect):
    expect("Read-only file system" in "".join(seen.asked("root")))


@clause("runtime.devices.ptmx")
def test_ptmx_is_the_containers(seen, expect):
    (line,) = seen.asked("ptmx")
    expect(os.path.basename(line) == "ptmx" or line == "5:2")
