"""Attacks on the host's interpreter, which init is until it becomes the user's program.

CVE-2019-5736: who executes or opens /proc/PID/exe of init has a descriptor of the host's file.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import mmap
import os
import re
import sys
from pathlib import Path

import pytest

from startkit import kernel
from startkit.runtime import caps, cli, trampoline

ROUNDS = 40
INTERPRETER = os.stat(sys.executable)
EXIT = trampoline.call(trampoline.EXIT_GROUP, 0)


def say(address):
    """Return the instructions that write eight bytes to stdout."""
    return trampoline.call(trampoline.WRITE, 1, address, 8)


@pytest.fixture
def hostile(bundle):
    """Give the image a loader at the place that the host's interpreter names for its own."""
    code = Path(sys.executable).read_bytes()
    loader = re.search(rb"/lib[\w./-]*/ld-linux[\w.-]*", code)[0].decode()
    at = trampoline.BASE + trampoline.HEADERS + len(say(0) + EXIT)
    install(bundle, loader, trampoline.elf(say(at) + EXIT + b"reached\n"))
    return bundle


def install(bundle, path, content):
    """Put a program into the image."""
    place = bundle.rootfs / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    place.chmod(0o755)


def entrances(bundle):
    """Return the ways by which an image names /proc/self/exe."""
    install(bundle, "/bin/script", b"#!/proc/self/exe\n")
    install(bundle, "/bin/nested", b"#!/bin/script\n")
    (bundle.rootfs / "bin/link").symlink_to("/proc/self/exe")
    own = trampoline.elf(EXIT)
    loader = b"\x03" + own[65 : 64 + 56]  # as PT_INTERP, the file's last bytes
    name, at = b"/proc/self/exe\0", len(own)
    size = len(name).to_bytes(8, "little")
    loader = loader[:8] + at.to_bytes(8, "little") + loader[16:32] + size * 2 + loader[48:]
    install(bundle, "/bin/loaded", own[:120] + loader + own[176:] + name)
    return {"path": "/proc/self/exe", "thread": "/proc/thread-self/exe", "link": "link",
            "script": "script", "nested": "nested", "loader": "loaded"}  # fmt: skip


WAYS = ["path", "thread", "link", "script", "nested", "loader"]


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_names_proc_self_exe_does_not_reach_the_interpreter(hostile, way):
    done = hostile.run(entrances(hostile)[way], "-c", "print('reached')")

    assert (done.stdout, done.stderr, done.returncode) == ("", "", 1)


@pytest.mark.parametrize("way", WAYS)
def test_exec_does_not_reach_it_either(hostile, way):
    program = entrances(hostile)[way]
    hostile.create("sleep", "100")
    hostile.call("start", hostile.id)
    done = hostile.call("exec", hostile.id, program, "-c", "print('reached')")

    assert (done.stdout, done.stderr, done.returncode) == ("", "", 1)


@pytest.mark.parametrize("way", WAYS)
def test_nor_does_a_hook_inside(hostile, way):
    program = entrances(hostile)[way]
    path = program if program.startswith("/") else f"/bin/{program}"
    hook = {"path": path, "args": [path, "-c", "print('reached')"]}
    hostile.config["hooks"] = {"startContainer": [hook]}
    done = hostile.run("true")

    assert done.stderr == f"error running hook #0 of startContainer {path}: exit status 1\n"


def look_around(refused, reached):
    """Inside: try exe and memory of every process until init ends; count what comes of it."""
    own = os.getpid()
    while True:
        for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
            memory = None
            try:
                if pid == own:
                    continue
                with contextlib.suppress(PermissionError):
                    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
                found = os.stat(os.open(f"/proc/{pid}/exe", os.O_RDONLY))
                reached.value += os.path.samestat(found, INTERPRETER)
            except PermissionError:
                refused.value += 1
                reached.value += memory is not None
            except OSError:
                continue
        os.closerange(3, 100)


def attack_from_inside(init, wanted, *counters):
    """Fork `look_around` into the container of `init` and return the pid.

    With capabilities `wanted`, or, where it is None, with all that its user namespace gives.
    """
    attacker = os.fork()
    if attacker == 0:
        kinds = ("pid", "mnt", "user")[: 2 if wanted else 3]
        for fd in [os.open(f"/proc/{init}/ns/{kind}", os.O_RDONLY) for kind in kinds]:
            kernel.setns(fd)
        if os.fork() == 0:  # the first that is in the pid namespace itself
            if wanted:
                sets = caps.Sets(wanted)
                caps.limit(sets, caps.bounding_set())
                caps.apply(sets)
            look_around(*counters)
        os.wait()
        os._exit(0)
    return attacker


@pytest.mark.parametrize("spaces", ["own", "user"])
def test_nobody_in_the_container_opens_what_a_visitor_has(bundle, spaces):
    # In the container somebody looks at every process while another is sent in, many times; in a
    # user namespace it is somebody with CAP_SYS_PTRACE over all that stand in it.
    with bundle.user_namespace() if spaces == "user" else contextlib.nullcontext():
        bundle.create("sleep", "100")
        bundle.call("start", bundle.id)
        words = ["--root", str(bundle.root), "exec", bundle.id, "true"]
        refused, reached = (mmap_counter() for _ in range(2))
        wanted = bundle.config["process"]["capabilities"] if spaces == "own" else None
        attacker = attack_from_inside(bundle.pids[0], wanted, refused, reached)
        for _ in range(ROUNDS // 2):
            visitor = os.fork()
            if visitor == 0:
                os._exit(cli.main(words))
            assert os.waitpid(visitor, 0)[1] == 0
        bundle.call("kill", bundle.id, "KILL")
        os.waitpid(attacker, 0)

    assert (refused.value > 0, reached.value) == (True, 0)


def test_nor_what_an_init_has_that_is_born_among_them(bundle):
    # Another container joins the namespaces; its init is the host's interpreter until `start`.
    # In a user namespace the attacker has CAP_SYS_PTRACE over all that stand in it.
    refused, reached = (mmap_counter() for _ in range(2))
    with bundle.user_namespace():
        first = bundle.create("sleep", "100")
        attacker = attack_from_inside(first, None, refused, reached)
        second = copy.deepcopy(bundle)
        second.id, second.pids, linux = f"{bundle.id}-second", [], second.config["linux"]
        linux["cgroupsPath"] += "-second"
        del linux["uidMappings"], linux["gidMappings"]
        for entry in linux["namespaces"]:
            if entry["type"] in ("pid", "user"):
                entry["path"] = f"/proc/{first}/ns/{entry['type']}"
        for _ in range(ROUNDS // 4):
            assert second.create_in_child(lambda: None) == 0
            second.call("delete", "--force", second.id)
            second.wait()
        bundle.call("kill", bundle.id, "KILL")
        os.waitpid(attacker, 0)

    assert (refused.value > 0, reached.value) == (True, 0)


def mmap_counter():
    """Return a counter that a fork shares."""
    return ctypes.c_long.from_buffer(mmap.mmap(-1, 8))


def test_the_bundles_environment_reaches_the_program_alone(bundle):
    # A loader of the host would say that it finds no /evil.so, an interpreter of its own run it.
    (bundle.rootfs / "evil").mkdir()
    (bundle.rootfs / "evil/sitecustomize.py").write_text("open('/evil/seen', 'w')")
    hostile = ["LD_PRELOAD=/evil.so", "LD_AUDIT=/evil.so", "PYTHONPATH=/evil", "PYTHONHOME=/evil"]
    bundle.config["process"]["env"] += hostile
    init = bundle.create("sleep", "100")
    environment = Path(f"/proc/{init}/environ").read_bytes()
    done = bundle.call("start", bundle.id)
    second = bundle.call("exec", bundle.id, "env")

    assert b"evil" not in environment
    assert (done.stderr, second.stderr) == ("", "")
    assert os.listdir(bundle.rootfs / "evil") == ["sitecustomize.py"]
