"""Hooks: when each kind runs, what it gets, and what its failure does."""

from __future__ import annotations

import json
import os

import pytest

BEFORE_START = ["prestart", "createRuntime", "createContainer"]
ALL = [*BEFORE_START, "startContainer", "poststart", "poststop"]


def hook(tmp_path, kind, script="", **more):
    """Return a hook that notes its kind in `log` and keeps its stdin in a file of that name."""
    line = f"echo {kind} >> {tmp_path}/order; cat > {tmp_path}/{kind}; {script}"
    return {"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"], **more}


def order(tmp_path):
    return (tmp_path / "order").read_text().split() if (tmp_path / "order").exists() else []


def test_hooks_run_in_the_order_of_the_lifecycle(bundle, tmp_path):
    kinds = [kind for kind in ALL if kind != "startContainer"]
    bundle.config["hooks"] = {kind: [hook(tmp_path, kind)] for kind in kinds}
    bundle.create("true")
    created = order(tmp_path)
    bundle.call("start", bundle.id)
    started = order(tmp_path)
    bundle.wait()
    bundle.call("delete", bundle.id)

    assert created == BEFORE_START
    assert started == [*BEFORE_START, "poststart"]
    assert order(tmp_path) == [*BEFORE_START, "poststart", "poststop"]


def test_a_hook_gets_the_state_on_stdin(bundle, tmp_path):
    bundle.config["hooks"] = {"prestart": [hook(tmp_path, "prestart")]}
    bundle.config["annotations"] = {"a": "b"}
    pid = bundle.create("sleep", "100")
    state = json.loads((tmp_path / "prestart").read_text())

    assert (state["id"], state["pid"], state["status"]) == (bundle.id, pid, "creating")
    assert (state["bundle"], state["annotations"]) == (str(tmp_path), {"a": "b"})


def test_start_container_hooks_run_inside_before_the_program(bundle):
    inside = {"path": "/bin/sh", "args": ["sh", "-c", "hostname > /mark"], "env": ["PATH=/bin"]}
    bundle.config["hooks"] = {"startContainer": [inside]}

    assert bundle.shell("cat /mark") == f"{bundle.id}\n"


def test_a_create_container_hook_runs_in_the_containers_namespaces(bundle, tmp_path):
    script = f"readlink /proc/self/ns/mnt > {tmp_path}/ns"
    bundle.config["hooks"] = {"createContainer": [hook(tmp_path, "createContainer", script)]}
    pid = bundle.create("sleep", "100")

    assert (tmp_path / "ns").read_text().strip() == os.readlink(f"/proc/{pid}/ns/mnt")


def test_a_create_container_hook_stands_in_the_rootfs(bundle, tmp_path):
    bundle.config["hooks"] = {"createContainer": [hook(tmp_path, "createContainer", "touch mark")]}
    bundle.create("sleep", "100")

    assert (bundle.rootfs / "mark").exists()


@pytest.mark.parametrize("privileges", [True, False])
def test_a_start_container_hook_is_under_the_seccomp_profile(bundle, privileges):
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]
    bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    bundle.config["process"]["noNewPrivileges"] = privileges
    inside = {"path": "/bin/sh", "args": ["sh", "-c", "mkdir /x"], "env": ["PATH=/bin"]}
    bundle.config["hooks"] = {"startContainer": [inside]}
    done = bundle.run("true")

    words = "error running hook #0 of startContainer /bin/sh: signal: bad system call"
    assert (done.returncode, done.stderr[: len(words)]) == (1, words)


@pytest.mark.parametrize("kind", BEFORE_START)
def test_a_hook_that_fails_before_start_fails_create_and_leaves_nothing(bundle, tmp_path, kind):
    bundle.config["hooks"] = {kind: [hook(tmp_path, kind, "echo why >&2; exit 3")]}
    done = bundle.call("create", "--bundle", str(bundle.path), bundle.id)

    words = f"error running hook #0 of {kind} /bin/sh: exit status 3, output: why\n"
    assert (done.returncode, done.stderr) == (1, words)
    assert os.listdir(bundle.root) == []


def test_a_hook_that_takes_too_long_is_killed(bundle, tmp_path):
    bundle.config["hooks"] = {"prestart": [hook(tmp_path, "prestart", "exec sleep 60", timeout=1)]}
    done = bundle.call("create", "--bundle", str(bundle.path), bundle.id)

    assert done.stderr == "error running hook #0 of prestart /bin/sh: not done within 1 s\n"


def test_a_late_hook_that_fails_is_a_warning(bundle, tmp_path):
    bundle.config["hooks"] = {kind: [hook(tmp_path, kind, "exit 1")] for kind in ALL[4:]}

    assert bundle.run("true").returncode == 0
    assert (tmp_path / "log").read_text().count('"level":"warning"') == 2


def test_a_hook_that_is_not_there_is_named(bundle):
    bundle.config["hooks"] = {"prestart": [{"path": "/no/hook"}]}
    done = bundle.call("create", "--bundle", str(bundle.path), bundle.id)

    assert done.stderr.endswith("hook #0 of prestart /no/hook: No such file or directory\n")


@pytest.mark.parametrize(("own", "seen"), [({}, "from the caller"), ({"env": []}, "nothing")])
def test_a_hook_without_an_env_of_its_own_has_the_runtimes(
    bundle, tmp_path, monkeypatch, own, seen
):
    monkeypatch.setenv("HOOK_WORD", "from the caller")
    script = f"echo ${{HOOK_WORD:-nothing}} > {tmp_path}/word"
    entry = {"path": "/bin/sh", "args": ["sh", "-c", script], **own}
    bundle.config["hooks"] = {"prestart": [entry]}
    bundle.shell("true")

    assert (tmp_path / "word").read_text() == f"{seen}\n"
