"""config.json is refused with one line that names the JSON path, before anything is made."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from startkit.runtime.bundle import read_bundle
from startkit.runtime.text import ContainerError, json_text, parse_json

MINIMAL = {
    "ociVersion": "1.0.2",
    "process": {"args": ["true"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}]},
}


def change(config, pointer, value):
    """Set the value at a JSON pointer, making objects on the way; `...` removes it."""
    *parents, last = pointer.strip("/").split("/")
    for name in parents:
        config = config[int(name)] if isinstance(config, list) else config.setdefault(name, {})
    if value is ...:
        del config[last]
    elif isinstance(config, list):
        config[int(last)] = value
    else:
        config[last] = value


def refusal(tmp_path, text):
    (tmp_path / "rootfs").mkdir(exist_ok=True)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ContainerError) as caught:
        read_bundle(str(tmp_path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("pointer", "value", "rule"),
    [
        ("/ociVersion", ..., "/ociVersion: is required"),
        ("/ociVersion", "2.0.0", "/ociVersion: must be a version 1.x.y"),
        ("/process", ..., "/process: is required"),
        ("/process", [], "/process: must be an object"),
        ("/process/cwd", "tmp", "/process/cwd: must be an absolute path"),
        ("/process/cwd", ..., "/process/cwd: is required"),
        ("/process/args", [], "/process/args: must be an array with at least one entry"),
        ("/process/args", ["a", 1], "/process/args: must hold text without NUL"),
        ("/process/env", ["A=1", "B"], "/process/env/1: must be NAME=value"),
        ("/process/terminal", "yes", "/process/terminal: must be true or false"),
        ("/process/user", {"uid": -1}, "/process/user/uid: must be a whole number from 0 to"),
        ("/process/user", {"uid": True}, "/process/user/uid: must be a whole number from 0 to"),
        ("/process/apparmorProfile", "x", "/process/apparmorProfile: an AppArmor profile is not"),
        ("/process/selinuxLabel", "x", "/process/selinuxLabel: an SELinux label is not supported"),
        ("/root/path", "", "/root/path: must be text, and not empty"),
        ("/root/path", "nowhere", "/root/path: no such directory"),
        ("/linux", ..., "/linux: is required"),
        ("/linux/namespaces", [{"type": "moon"}], "/linux/namespaces/0/type: must be one of"),
        ("/linux/namespaces", [], "/linux/namespaces: a mount namespace is required"),
        ("/linux/namespaces", [{"type": "mount"}] * 2, "/linux/namespaces/1/type: mount stands"),
        ("/linux/namespaces", [{"type": "mount", "path": "x"}], "/linux/namespaces/0/path: must"),
        ("/linux/uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "/linux/uidMappings"),
        ("/linux/seccomp", {"defaultAction": "x"}, "/linux/seccomp/defaultAction: must be"),
        ("/linux/intelRdt", {"closID": "x"}, "/linux/intelRdt: Intel RDT is not supported"),
        ("/linux/sysctl", {"kernel.panic": "1"}, "/linux/sysctl/kernel.panic: is not a setting"),
        ("/linux/sysctl", {"net.a": "1"}, "/linux/sysctl/net.a: needs a network namespace"),
        ("/linux/sysctl", {"net/../x": "1"}, "/linux/sysctl/net/../x: must not hold '..'"),
        ("/linux/resources", {"rdma": {"x": 1}}, "/linux/resources/rdma: a limit on RDMA is not"),
        ("/linux/resources", {"memory": {"limit": "1g"}}, "/linux/resources/memory/limit: must be"),
        ("/linux/devices", [{"type": "q", "path": "/x"}], "/linux/devices/0/type: must be one of"),
        ("/hostname", "h", "/hostname: needs a uts namespace of its own"),
        ("/mounts", [{"type": "tmpfs"}], "/mounts/0/destination: is required"),
        ("/hooks", {"prestart": [{"path": "x"}]}, "/hooks/prestart/0/path: must be an absolute"),
    ],
)
def test_a_broken_rule_is_named_with_its_path(tmp_path, pointer, value, rule):
    config = json.loads(json.dumps(MINIMAL))
    change(config, pointer, value)

    assert refusal(tmp_path, json.dumps(config)).startswith(f"config.json {rule}")


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[1] 2", '{"a":1,}', "\ufeff{}"])
def test_what_is_not_json_is_named_with_its_file(tmp_path, text):
    assert f"{tmp_path}/config.json: not JSON" in refusal(tmp_path, text)


def test_json_is_read_and_written_as_the_json_module_does():
    text = ' {"a": [1, -2.5e3, true, null, "\\u00e9\\n\\ud83d\\ude00", {}]} '

    assert parse_json(text) == json.loads(text)
    assert json.loads(json_text(json.loads(text))) == json.loads(text)


def test_an_unknown_key_is_ignored(tmp_path):
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(MINIMAL | {"future": 1}))

    assert read_bundle(str(tmp_path)).config["future"] == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"destination": "/x", "type": "tmpfs", "options": ["idmap"]}, "idmap is not"),
        ({"destination": "/x", "type": "bind", "source": "/", "options": ["size=1"]}, "size=1"),
        ({"destination": "/x"}, "needs a type"),
    ],
)
def test_a_mount_that_cannot_be_carried_out_makes_nothing(bundle, entry, words):
    bundle.config["mounts"].append(entry)
    done = bundle.run("true")

    assert done.returncode == 1
    assert "config.json /mounts/6: " in done.stderr
    assert words in done.stderr
    assert not bundle.root.exists()


def test_the_message_is_a_json_line_in_the_log(bundle):
    bundle.config["process"]["cwd"] = "x"
    done = bundle.run("true")
    line = json.loads((bundle.path / "log").read_text())

    assert (line["level"], line["msg"] + "\n") == ("error", done.stderr)


@pytest.mark.parametrize("name", ["a/b", "..", "", "a b", "é"])
def test_an_id_that_is_no_file_name_is_refused(bundle, name):
    done = bundle.call("create", "--bundle", str(bundle.path), name)

    assert (done.returncode, done.stderr) == (1, "invalid container ID format\n")
    assert not Path(bundle.root).exists() or os.listdir(bundle.root) == []
