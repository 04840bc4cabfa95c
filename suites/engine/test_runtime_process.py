"""The container's process: who it is, where it stands, what it may, and how its absence is told."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import termios

import pytest

from startkit import steps
from startkit.runtime import cli, init, process
from startkit.runtime.text import ContainerError

CHOWN_AND_KILL = 1 << 0 | 1 << 5


def status_of(text):
    """Return /proc/PID/status as a dict."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nope"], 'exec: "nope": executable file not found in $PATH'),
        ([""], 'exec: "": executable file not found in $PATH'),
        (["/nope"], 'exec: "/nope": stat /nope: no such file or directory'),
        (["/etc/passwd/x"], 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
        (["/etc"], 'exec: "/etc": permission denied'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_create_says_what_is_wrong_with_the_program(bundle, args, words):
    bundle.config["process"]["args"] = args
    done = bundle.call("create", "--bundle", str(bundle.path), bundle.id)

    assert done.returncode == 1
    assert done.stderr == f"unable to start container process: {words}\n"
    assert os.listdir(bundle.root) == []


def test_start_says_that_exec_failed(bundle):
    (bundle.rootfs / "bin/odd").write_bytes(b"\x7fELF but not really")
    (bundle.rootfs / "bin/odd").chmod(0o755)
    bundle.create("odd")
    done = bundle.call("start", bundle.id)

    assert done.returncode == 1
    assert done.stderr == 'unable to start container process: exec: "odd": exec format error\n'
    assert os.waitstatus_to_exitcode(bundle.wait()) == 1


def test_the_programs_name_is_looked_up_in_the_containers_path(bundle):
    bundle.config["process"]["env"] = ["PATH=/nowhere:/opt"]
    (bundle.rootfs / "opt").mkdir()
    (bundle.rootfs / "opt/mine").symlink_to("/bin/busybox")

    assert "applet not found" in bundle.run("mine").stderr


def test_user_groups_and_umask(bundle):
    user = {"uid": 1000, "gid": 7, "additionalGids": [8, 9], "umask": 0o77}
    bundle.config["process"]["user"] = user

    assert bundle.shell("id; umask").split("\n")[:2] == ["uid=1000(ada) gid=7 groups=8,9", "0077"]


def test_environment_is_the_configs_and_home_is_the_users(bundle):
    bundle.config["process"]["user"]["uid"] = 1000
    bundle.config["process"]["env"] = ["PATH=/bin", "A=b=c"]

    assert bundle.run("env").stdout == "PATH=/bin\nA=b=c\nHOME=/home/ada\n"


def test_a_working_directory_is_made_and_entered(bundle):
    bundle.config["process"]["cwd"] = "/srv/new"

    assert bundle.shell("pwd") == "/srv/new\n"


def test_a_working_directory_that_leads_to_the_host_is_refused(bundle):
    bundle.config["process"]["cwd"] = "/proc/self/fd/7/../.."
    done = bundle.run("cat", "etc/shadow")

    assert done.returncode == 1
    assert done.stdout == ""


def test_a_working_directory_outside_of_the_root_is_noticed(tmp_path):
    # As CVE-2024-21626 did it: the directory is entered by a descriptor, not by a path.
    pid = os.fork()
    if pid == 0:
        os.chroot(tmp_path)
        try:
            process.enter_cwd(".")
        except ContainerError as error:
            os._exit(7 if "it lies outside of the container" in str(error) else 1)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_capabilities_are_the_five_sets(bundle):
    names = ["CAP_CHOWN", "CAP_KILL"]
    kinds = ("bounding", "effective", "permitted", "inheritable", "ambient")
    bundle.config["process"]["capabilities"] = dict.fromkeys(kinds, names)
    bundle.config["process"]["user"]["uid"] = 1000
    seen = status_of(bundle.shell("cat /proc/self/status"))

    sets = ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")
    assert {int(seen[kind], 16) for kind in sets} == {CHOWN_AND_KILL}


def test_another_user_has_none_of_roots_capabilities(bundle):
    bundle.config["process"]["user"]["uid"] = 1000
    seen = status_of(bundle.shell("cat /proc/self/status"))

    assert (int(seen["CapEff"], 16), int(seen["CapBnd"], 16) > 0) == (0, True)


def test_a_capability_that_is_not_there_is_a_warning(bundle):
    bundle.config["process"]["capabilities"]["bounding"] = ["CAP_TIME_TRAVEL"]

    assert bundle.run("true").returncode == 0
    assert "capability CAP_TIME_TRAVEL is not available" in (bundle.path / "log").read_text()


def test_no_new_privileges_is_set(bundle):
    bundle.config["process"]["noNewPrivileges"] = True

    assert status_of(bundle.shell("cat /proc/self/status"))["NoNewPrivs"] == "1"


def test_resource_limits_are_set(bundle):
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 90, "hard": 100}]

    assert bundle.shell("ulimit -Sn; ulimit -Hn") == "90\n100\n"


def test_a_resource_limit_that_cannot_be_set_is_named(bundle):
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 2**40, "hard": 2**40}]
    done = bundle.run("true")

    assert done.returncode == 1
    assert "config.json /process/rlimits/0: setting RLIMIT_NOFILE to" in done.stderr


def test_oom_score_is_adjusted(bundle):
    bundle.config["process"]["oomScoreAdj"] = 123

    assert bundle.shell("cat /proc/self/oom_score_adj") == "123\n"


def test_host_and_domain_name_are_set(bundle):
    bundle.config["hostname"], bundle.config["domainname"] = "here", "there"

    assert bundle.shell("hostname; cat /proc/sys/kernel/domainname") == "here\nthere\n"


def test_lo_is_up_and_alone(bundle):
    seen = bundle.shell("ip -o addr").splitlines()

    assert {line.split()[1].rstrip(":") for line in seen} == {"lo"}
    assert any("127.0.0.1/8" in line for line in seen)


def test_a_sysctl_of_our_own_namespace_is_set(bundle):
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}

    assert bundle.shell("cat /proc/sys/net/ipv4/ip_forward") == "1\n"


def test_signals_are_default_and_unblocked(bundle):
    seen = status_of(bundle.run("cat", "/proc/self/status").stdout)

    assert {int(seen[kind], 16) for kind in ("SigBlk", "SigIgn", "SigCgt")} == {0}


def test_no_descriptor_of_the_host_is_inherited(bundle, tmp_path):
    bundle.config["process"]["args"] = ["ls", "/proc/self/fd"]
    with (tmp_path / "secret").open("w") as secret:
        fixed = ["--bundle", str(bundle.path), bundle.id]
        seen = bundle.call("run", *fixed, keep=(secret.fileno(),))

    assert seen.stdout.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


def test_a_preserved_descriptor_is_inherited(bundle, tmp_path):
    (tmp_path / "gift").write_text("a gift")
    bundle.config["process"]["args"] = ["sh", "-c", "cat <&3"]
    bundle.call("list")  # writes config.json
    runtime = f"{sys.executable} -I -m startkit.runtime --root {bundle.root}"
    command = f"{runtime} run --preserve-fds 1 -b {tmp_path} {bundle.id} 3< {tmp_path}/gift"
    seen = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)

    assert seen.stdout == "a gift"


def test_an_existing_namespace_is_joined(bundle):
    owner = subprocess.Popen(["unshare", "--net", "--uts", "sleep", "100"])
    try:
        while os.readlink(f"/proc/{owner.pid}/ns/uts") == os.readlink("/proc/self/ns/uts"):
            os.sched_yield()
        spaces = bundle.config["linux"]["namespaces"]
        spaces[1]["path"] = f"/proc/{owner.pid}/ns/net"
        seen = bundle.shell("readlink /proc/self/ns/net").strip()

        assert seen == os.readlink(f"/proc/{owner.pid}/ns/net")
    finally:
        owner.kill()
        owner.wait()


def test_a_namespace_of_another_type_is_refused(bundle):
    bundle.config["linux"]["namespaces"][1]["path"] = "/proc/self/ns/uts"
    done = bundle.run("true")

    words = "namespace network: /proc/self/ns/uts is of another type\n"
    assert (done.returncode, done.stderr) == (1, words)


def test_a_user_namespace_maps_root_and_binds_what_root_inside_cannot_reach(bundle):
    with bundle.user_namespace() as place:
        (place / "rootfs/bound").mkdir()

        # The way to this source is root's alone, and root inside is not that root.
        closed = bundle.path / "closed"
        (closed / "source").mkdir(parents=True)
        (closed / "source/word").write_text("found\n")
        closed.chmod(0)
        entry = {"destination": "/bound", "source": f"{closed}/source", "options": ["rbind", "ro"]}
        bundle.config["mounts"].append({**entry, "type": "bind"})
        # Nor, where Python stands in root's home, the way to what sets these.
        bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 77, "soft": 77}]
        bundle.config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3}

        seen = bundle.shell("id -u; cat /proc/self/uid_map /bound/word; ulimit -n").split()
    assert seen == ["0", "0", "100000", "1000", "found", "77"]


def test_the_terminals_master_is_sent_over_the_console_socket(bundle):
    bundle.config["process"] |= {"terminal": True, "consoleSize": {"height": 33, "width": 77}}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bundle.path / "s"))
        listener.listen()
        script = "tty; ls -l /dev/console; read x; echo got $x"
        bundle.create("sh", "-c", script, flags=("--console-socket", str(bundle.path / "s")))
        connection, _ = listener.accept()
        with connection:
            _, (master,), _, _ = socket.recv_fds(connection, 64, 1)
    size = struct.unpack("4H", fcntl.ioctl(master, termios.TIOCGWINSZ, b"\0" * 8))[:2]
    bundle.call("start", bundle.id)
    os.write(master, b"hello\n")
    text = read_to_hangup(master)

    assert size == (33, 77)
    assert "/dev/pts/0\r\n" in text
    assert "got hello\r\n" in text


def read_to_hangup(master):
    """Return all that a pty says until its other side is closed."""
    said = b""
    while True:
        try:
            said += os.read(master, 4096)
        except OSError:
            os.close(master)
            return said.decode()


@pytest.mark.parametrize(("terminal", "flags"), [(True, []), (False, ["--console-socket", "/s"])])
def test_terminal_and_console_socket_go_together(bundle, terminal, flags):
    bundle.config["process"]["terminal"] = terminal
    done = bundle.call("create", "--bundle", str(bundle.path), *flags, bundle.id)

    assert done.returncode == 1
    assert done.stderr.startswith("cannot ")
    assert os.listdir(bundle.root) == [] if bundle.root.exists() else True


def test_nothing_is_imported_from_the_container(bundle):
    # An image brings a module where the host's library lies; a step of init asks for it.
    library = bundle.rootfs / os.path.dirname(os.__file__).lstrip("/")
    library.mkdir(parents=True)
    (library / "hostile.py").write_text("open('/pwned', 'w')\n")
    (bundle.path / "config.json").write_text(json.dumps(bundle.config))
    pid = os.fork()
    if pid == 0:
        init.INIT = (*init.INIT, steps.Step("import", lambda _: __import__("hostile")))
        os._exit(cli.main(["--root", str(bundle.root), "--log", str(bundle.path / "log"),
                           "create", "--bundle", str(bundle.path), bundle.id]))  # fmt: skip

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert "No module named 'hostile'" in (bundle.path / "log").read_text()
    assert not (bundle.rootfs / "pwned").exists()


def test_the_runtime_imports_little():
    code = "import sys; import startkit.runtime.create, startkit.runtime.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", f"import site; {code}"], check=True,
                          capture_output=True, text=True)  # fmt: skip
    loaded = set(done.stdout.split())

    heavy = {"json", "signal", "subprocess", "argparse", "dataclasses", "logging", "socket"}
    assert loaded & heavy == set()
