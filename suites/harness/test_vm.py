"""Virtual machines: what a guest has, what it cannot reach, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import offline
import pytest

from startkit.report import result
from startkit.vm import VmError, doctor, image, initramfs, machine, returned, workers
from startkit.vm import kernel as kernels

STARTKIT = [sys.executable, "-m", "startkit.cli", "vm"]


def missing():
    """Return why there is no machine here, or nothing."""
    try:
        kernels.find()
    except VmError as error:
        return str(error)
    here = shutil.which(machine.QEMU) and shutil.which("busybox")
    return "" if here else "no qemu-system-x86 or busybox-static"


needs_machine = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def vm(*words, **more):
    """Run `startkit vm`."""
    return subprocess.run(
        [*STARTKIT, *words], capture_output=True, text=True, timeout=100, check=False, **more
    )


def test_an_archive_can_be_read_by_cpio(tmp_path):
    files = [("dir", b"", 0o40755), ("dir/odd", b"12345", 0o100644), ("run", b"#!", 0o100755)]

    subprocess.run(
        ["busybox", "cpio", "-i"], input=initramfs.archive(files), cwd=tmp_path, check=True
    )

    assert (tmp_path / "dir" / "odd").read_bytes() == b"12345"
    assert (tmp_path / "run").stat().st_mode == 0o100755


def test_modules_come_after_those_that_they_need(tmp_path):
    def module(name, needs):
        path = tmp_path / f"{name}.ko"
        path.write_bytes(b"ELF\0license=GPL\0depends=" + needs + b"\0retpoline=Y\0")
        return path

    paths = {"a": module("a", b"b-c,d"), "b-c": module("b-c", b"d"), "d": module("d", b"")}
    found = {}
    initramfs.add_module("a", paths, found)

    assert list(found) == ["d", "b-c", "a"]


def test_what_is_no_kernel_is_refused():
    with pytest.raises(VmError, match="not a bzImage"):
        kernels.extract(b"\0" * 4096)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--kernel", "/no/kernel", "--", "true"], "no kernel /no/kernel"),
        (
            ["run", "--memory", "99999999", "--", "true"],
            "MiB are free: take fewer (-n) or --memory",
        ),
        (["run", "--cgroup", "v3", "--", "true"], "invalid choice: 'v3'"),
    ],
)
def test_a_machine_that_cannot_be_made_is_refused_in_one_line(words, said):
    done = vm(*words)

    assert done.returncode in {2, 125}
    assert said in done.stderr.strip().split("\n")[-1]


def test_the_doctor_says_how_to_get_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    helps = {one.name: one.help for one in doctor.examine()}

    assert helps[machine.QEMU] == "apt-get install qemu-system-x86"
    assert helps["busybox"] == "apt-get install busybox-static"
    assert helps["kernel"] == "startkit vm fetch"


@needs_machine
def test_who_is_not_root_gets_machines(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert workers.choose("never") == (False, "")
    taken, why = workers.choose("auto")
    assert (taken, why.partition(" (")[0]) == (True, "in virtual machines")


def test_where_there_is_no_kernel_a_wish_for_machines_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(VmError, match=r"^--vm always: no kernel in .*: run startkit vm fetch"):
        workers.choose("always")
    assert workers.choose("auto")[1].startswith("no machines for a run without root: no kernel")


@pytest.mark.parametrize(
    ("word", "said"),
    [("woody", "no release woody: one of bookworm, trixie, sid"), ("sid", "run startkit vm image")],
)
def test_a_release_that_is_not_there_is_named(word, said, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(VmError, match=said):
        image.find(word)


@needs_machine
@pytest.mark.parametrize(
    ("cgroup", "shows"),
    [("v1", "cpuacct"), ("hybrid", "unified"), ("v2", "cgroup.controllers")],
)
def test_a_guest_is_root_on_its_own_kernel_and_harms_nobody(cgroup, shows, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "of the host")
    monkeypatch.setenv("STARTKIT_WORD", "a word")
    shared = tmp_path / "shared"
    shared.mkdir()
    script = f"""
        id -u; echo $STARTKIT_WORD$SECRET; ls /sys/fs/cgroup; echo net $(ls /sys/class/net)
        mkdir -p /tmp/m && mount -t tmpfs none /tmp/m && unshare -n true && echo mounts
        echo x > /usr/written && echo written; mount -o remount,rw / && touch /usr/again
        echo result > {shared}/result; cat /proc/sys/kernel/random/boot_id >&2; exit 7
    """

    done = vm("run", "--cgroup", cgroup, "--share", str(shared), "--", "sh", "-c", script)

    assert done.returncode == 7
    user, word, *rest = done.stdout.split("\n")
    assert (user, word) == ("0", "a word")
    assert {shows, "mounts", "written", "net lo"} <= set(rest)
    assert not os.path.exists("/usr/written")
    assert not os.path.exists("/usr/again")
    assert (shared / "result").read_text() == "result\n"
    with open("/proc/sys/kernel/random/boot_id") as boot_id:
        assert done.stderr != boot_id.read()


def test_what_a_guest_says_waits_for_a_slow_reader(tmp_path):
    said = tmp_path / "said"
    said.write_bytes(os.urandom(1 << 20))
    ours, output = os.pipe()
    os.set_blocking(output, False)  # as QEMU does
    pump = Thread(target=machine.pump, args=(os.open(said, os.O_RDONLY), output))
    pump.start()
    pump.join(0.2)  # the pipe is full by now
    with open(ours, "rb") as reader:
        piece = reader.read(1 << 16)
        while len(piece) < 1 << 20 and pump.is_alive():
            piece += reader.read(1 << 16)
        pump.join()
        os.close(output)

        assert piece + reader.read() == said.read_bytes()


@needs_machine
def test_a_guest_that_hangs_is_stopped_and_its_console_is_shown():
    done = vm("run", "--timeout", "2", "--", "sleep", "100")

    assert done.returncode == 125
    assert "stopped after 2 s" in done.stderr
    assert "console" in done.stderr


@needs_machine
def test_a_guest_without_a_sign_of_life_is_stopped():
    done = vm("run", "--silence", "4", "--", "sh", "-c", "kill -STOP -1; sleep 100")

    assert done.returncode == 125
    assert "stopped: no sign of life for 4 s" in done.stderr


@needs_machine
def test_what_a_guest_makes_on_the_share_is_plain_files_on_the_host(tmp_path):
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    shared.mkdir()
    outside.mkdir()
    (shared / "planted").symlink_to(outside)
    script = f"""
        cd {shared}; mknod null c 1 3; mkfifo fifo; cp /bin/busybox root; chmod 6777 root
        ln -s {outside} link; ls -l root; mkdir -p {outside}
        echo x > link/through-mine; echo x > planted/through-yours
    """

    done = vm("run", "--share", str(shared), "--", "sh", "-c", script)

    assert done.stdout.startswith("-rwsrwsrwx")  # the guest sees what it made
    made = {path.name: path.lstat().st_mode for path in shared.iterdir()}
    assert made.pop("planted")
    assert set(made) == {"null", "fifo", "root", "link"}
    assert {stat.S_IFMT(mode) for mode in made.values()} == {stat.S_IFREG}
    assert not any(mode & (stat.S_ISUID | stat.S_ISGID) for mode in made.values())
    assert not list(outside.iterdir())


def test_of_two_who_fill_a_place_at_once_one_does(tmp_path):
    filled = []

    def how(new):
        filled.append(new)
        time.sleep(0.2)
        (new / "file").touch()

    threads = [Thread(target=kernels.fill, args=(tmp_path / "p", 1, how)) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(filled) == 1
    assert [path.name for path in tmp_path.glob("*/*")] == ["file"]


def test_of_what_a_worker_sends_only_known_names_are_written(tmp_path):
    example, snapshot = ".hypothesis/examples/0a/ff", "golden/snapshots/test_a/test_b[c].json"
    (tmp_path / "golden/snapshots/test_a").mkdir(parents=True)
    (tmp_path / "golden/snapshots/test_a/test_old.json").touch()
    before = returned.states(tmp_path)
    for name in (example, snapshot):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    files = returned.pack(tmp_path, before)
    assert set(files) == {example, snapshot}

    host = tmp_path / "host"
    files |= dict.fromkeys([".hypothesis/examples/../../x", "conftest.py", f"{host}/y"], b"")
    returned.unpack(host, files, snapshots=False)
    assert [str(one.relative_to(host)) for one in host.glob("**/*") if one.is_file()] == [example]
    returned.unpack(host, files, snapshots=True)
    assert (host / snapshot).read_text() == snapshot


@needs_machine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_machine_outlives_its_launcher(number):
    launcher = subprocess.Popen([*STARTKIT, "run", "--", "sleep", "100"], stderr=subprocess.DEVNULL)
    children = f"/proc/{launcher.pid}/task/{launcher.pid}/children"
    try:
        while not (pids := read(children).split()):
            time.sleep(0.01)
        launcher.send_signal(number)
    finally:
        launcher.wait(20)

    end = time.monotonic() + 10
    while alive(pids[0]) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(pids[0])


def read(path):
    """Return a file's text."""
    with open(path) as file:
        return file.read()


def alive(pid):
    """Say whether a QEMU of this pid runs."""
    try:
        return "qemu" in read(f"/proc/{pid}/comm") and ") Z " not in read(f"/proc/{pid}/stat")
    except OSError:
        return False


TESTS = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_where(number):
    assert os.geteuid() == 0
    print("boot", pathlib.Path("/proc/sys/kernel/random/boot_id").read_text())

def test_last():
    marker = pathlib.Path(os.environ["STARTKIT_MARK"])
    if not marker.exists():
        marker.write_text("once")
        os.system("echo b > /proc/sysrq-trigger")
"""


@needs_machine
def test_workers_are_machines_and_one_that_dies_is_replaced(tmp_path):
    ours = machine.Settings(cgroup="v1", shared=tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--dist", "load"]
    for _ in range(2):
        command += ["--tx", workers.gateway(ours)]

    done = subprocess.run(
        [*command, "test_it.py"], cwd=tmp_path, capture_output=True, text=True, timeout=110,
        env={**os.environ, "STARTKIT_MARK": str(tmp_path / "mark")}, check=False,
    )  # fmt: skip

    said = done.stdout + done.stderr
    boots = {line for line in said.split("\n") if line.startswith("boot ")}
    assert f"boot {read('/proc/sys/kernel/random/boot_id')}".strip() not in boots
    assert len(boots) >= 2
    assert said.count("PASSED") == 4
    assert "node down" in said or "crashed" in said


def of_session(leader):
    """Return pid -> name of the processes of a session."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (path / "stat").read_text().partition(" (")[2].rpartition(") ")
            if int(rest.split()[3]) == leader:
                found[int(path.name)] = name
    return found


@needs_machine
@pytest.mark.parametrize("end", [os.kill, os.killpg], ids=["the controller", "all"])
def test_a_run_that_is_interrupted_leaves_nothing_of_its_machines(end, tmp_path):
    place = tmp_path / "tmp"
    place.mkdir()
    command = [sys.executable, "-m", "pytest", "suites/conformance", "-p", "no:cacheprovider"]
    command += ["--vm=always", "-n2", "--memory=512", f"--results={tmp_path / 'results'}"]
    run = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], env={**os.environ, "TMPDIR": str(place)},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while list(of_session(run.pid).values()).count(machine.QEMU[:15]) < 2:
            assert run.poll() is None
            time.sleep(0.05)
        time.sleep(2)
        end(run.pid, signal.SIGINT)
        assert run.wait(30) == pytest.ExitCode.INTERRUPTED
        late = time.monotonic() + 10
        while of_session(run.pid) and time.monotonic() < late:
            time.sleep(0.05)
        assert of_session(run.pid) == {}
    finally:
        for pid in of_session(run.pid):
            os.kill(pid, signal.SIGKILL)
        run.wait()

    assert [one for one in place.rglob("*") if not one.is_dir()] == []
    assert str(tmp_path) not in read("/proc/self/mounts")


@needs_machine
def test_what_comes_back_from_a_machine_is_what_a_local_worker_says(tmp_path):
    def run(where):
        results = tmp_path / where
        command = [sys.executable, "-m", "pytest", "suites/conformance", "-p", "no:cacheprovider"]
        command += [f"--vm={where}", "-n1", "--memory=512", f"--results={results}"]
        command += [f"--evidence={offline.REFERENCE}", "-k", "hostname or proc_is_mounted"]
        subprocess.run(command, cwd=offline.ROOT, check=True, capture_output=True, timeout=100)
        tests = ElementTree.parse(results / "junit.xml").iter("testcase")
        told = [(one.get("classname"), one.get("name"), [x.tag for x in one]) for one in tests]
        evidence = json.loads((results / "evidence.json").read_text())
        return told, result.read(results).verdicts, evidence

    told, verdicts, evidence = run("always")

    assert verdicts
    assert (told, verdicts, evidence) == run("never")
