"""What a runtime refuses, failing hooks, terminals, user namespaces, what newer specs brought."""

from __future__ import annotations

import pytest

from startkit.observe.trials.view import other_namespaces, ran, told

clause = pytest.mark.clause

HOOKS = (
    *("prestart", "createRuntime", "createContainer"),
    *("startContainer", "poststart", "poststop"),
)


@clause("runtime.config.unknown-property")
def test_an_unknown_property_is_ignored(seen, expect):
    expect(seen.answers("create"))


@clause("runtime.config.edited")
def test_a_config_is_read_once(seen, expect):
    seen.call("running")
    expect("== late" in seen.said())


@clause("runtime.create.pid-file")
def test_the_pid_file_holds_the_pid(seen, expect):
    expect(seen.wrote("pid") == str(seen.state("created").get("pid")))


@clause("runtime.delete.reuse")
def test_a_deleted_id_is_free(seen, expect):
    expect(seen.answers("again", "again-created"))


@clause("runtime.delete.others")
def test_delete_leaves_the_bundle(seen, expect):
    seen.call("delete")
    expect(seen.wrote("kept").split())


@clause("runtime.process.terminal")
def test_the_program_has_its_terminal(seen, expect):
    expect(seen.asked("tty"))


@clause("runtime.process.console-size")
def test_the_terminal_has_its_size(seen, expect):
    expect(seen.asked("size"))


@clause("runtime.devices.console")
def test_console_is_there_with_a_terminal(seen, expect):
    expect(seen.asked("console"))


@clause("runtime.namespaces.inherited")
def test_other_namespaces_are_inherited(seen, expect):
    expect(other_namespaces(seen, seen.init("running")))


@clause("runtime.root.propagation")
def test_the_root_has_its_propagation(seen, expect):
    expect(seen.mount("/").propagation)


@clause("runtime.namespaces.user")
def test_a_user_namespace_has_its_mappings(seen, expect):
    expect(seen.asked("maps"))


@clause("runtime.namespaces.user.outside")
def test_root_inside_is_somebody_outside(seen, expect):
    expect(seen.init("running").status.get("Uid"))


@clause("runtime.namespaces.user.devices")
def test_null_is_written_in_a_user_namespace(seen, expect):
    expect(seen.asked("null"))


@clause("runtime.mounts.propagation.shared")
def test_a_shared_mount(seen, expect):
    expect(seen.mount("/shared").propagation)


@clause("runtime.mounts.propagation.private")
def test_a_private_mount(seen, expect):
    expect(seen.mount("/private").propagation)


@clause("runtime.mounts.propagation.unbindable")
def test_an_unbindable_mount(seen, expect):
    expect(seen.mount("/unbindable").propagation)


@clause("runtime.mounts.recursive")
def test_rro_is_recursive(seen, expect):
    below = [one.options[0] for one in seen.mounts() if one.target.startswith("/tree")]
    expect(len(below) > 1 and set(below) == {"ro"})


@clause("runtime.mounts.tmpcopyup")
def test_a_tmpfs_has_what_it_covers(seen, expect):
    expect(seen.asked("copied"))


@clause("runtime.domainname")
def test_the_domain_name(seen, expect):
    expect(seen.asked("domain"))


@clause("runtime.namespaces.time")
def test_a_time_namespace_has_its_offsets(seen, expect):
    made = seen.answers("create")
    expect(seen.asked("offsets") if made == ["done"] else made)


@clause("runtime.devices.fifo")
def test_a_fifo_of_the_config(seen, expect):
    expect(seen.asked("fifo"))


@clause("runtime.seccomp.errno")
def test_a_forbidden_call_is_eperm(seen, expect):
    expect("Operation not permitted" in "".join(seen.asked("mkdir")))


@clause("runtime.seccomp.mode")
def test_a_profile_is_a_filter(seen, expect):
    expect(seen.asked("seccomp"))


@clause("runtime.hooks.args")
def test_a_hook_gets_its_arguments(seen, expect):
    expect(seen.wrote("args").strip())


@clause("runtime.hooks.env")
def test_a_hook_has_its_own_environment(seen, expect):
    expect(seen.wrote("env").strip())


@clause("runtime.hooks.listed")
def test_hooks_run_as_listed(seen, expect):
    expect(ran(seen))


@clause("runtime.hooks.start-order")
def test_poststart_runs_after_start_container(seen, expect):
    expect([hook for hook in ran(seen) if hook in {"startContainer", "poststart"}])


@clause("runtime.hooks.status")
def test_each_hook_is_told_the_status_of_its_time(seen, expect):
    expect([told(seen, hook).get("status") for hook in HOOKS])


@clause("runtime.hooks.bundle")
def test_each_hook_is_told_the_bundle(seen, expect):
    expect([told(seen, hook).get("bundle") for hook in HOOKS])


@clause("runtime.hooks.timeout")
def test_a_slow_hook_fails(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.hooks.start-fails")
def test_a_failing_start_hook_refuses_start(seen, expect):
    expect(seen.answers("start"))


@clause("runtime.hooks.start-fails.stopped")
def test_a_failing_start_hook_stops_the_container(seen, expect):
    expect(["== ready" in seen.said(), seen.status("stopped")])


@clause("runtime.hooks.poststart-fails")
def test_a_failing_poststart_hook_is_a_warning(seen, expect):
    expect([*seen.answers("create", "start"), seen.status("running")])


@clause("runtime.refused.no-json")
def test_no_json_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.refused.no-rootfs")
def test_a_missing_root_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.refused.relative-cwd")
def test_a_relative_cwd_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.refused.relative-hook")
def test_a_relative_hook_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.refused.namespace-twice")
def test_a_second_namespace_of_a_type_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.refused.namespace-type")
def test_a_namespace_of_another_type_is_refused(seen, expect):
    expect(seen.answers("create", "created"))


@clause("runtime.refused.rlimit-twice")
def test_a_second_limit_of_a_type_is_refused(seen, expect):
    expect(seen.answers("create", "created"))
