"""The clients that people have, unmodified, against our daemon: docker's CLI and its SDK."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import docker
import pytest

from startkit import image as base_image

CLIENTS = sorted(
    {path for d in ("/usr/local/bin", "/usr/bin") if (path := shutil.which("docker", path=d))}
)
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the daemon needs root"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the SDK leaves its sockets to gc
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LIMIT_S = 30
NAME = "startkit/base"


@pytest.fixture(scope="module")
def place():
    """Run a daemon with the suites' image; its directory holds `api.sock`."""
    root = Path(tempfile.mkdtemp(prefix="startkit-clients-"))
    command = [
        sys.executable, "-m", "startkit.daemon", "--data-root", root / "data", "--exec-root",
        root / "exec", "-H", f"unix://{root}/api.sock", "--pidfile", root / "pid",
    ]  # fmt: skip
    with (root / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert b"ready" in daemon.stdout.readline()
    (root / "base.tar").write_bytes(base_image.base()[1])
    (root / "rootfs.tar").write_bytes(base_image.layers()[0])
    try:
        yield root
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(LIMIT_S) == 0
        daemon.stdout.close()
        assert str(root) not in Path("/proc/self/mountinfo").read_text()
        assert b"Traceback" not in (root / "log").read_bytes()
        shutil.rmtree(root)


@pytest.fixture(params=CLIENTS or ["docker"])
def cli(request, place):
    """Give a function that runs one docker command."""
    if not CLIENTS:
        pytest.skip("needs docker's CLI")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{place}/api.sock", "HOME": str(place)}

    def run(*words, **options):
        return subprocess.run(
            [request.param, *words], capture_output=True, text=True, check=False,
            timeout=LIMIT_S, env=environment, **options,
        )  # fmt: skip

    run.path, run.environment = request.param, environment
    assert run("load", "-q", "-i", place / "base.tar").stdout == f"Loaded image: {NAME}:latest\n"
    yield run
    for container in run("ps", "-aq").stdout.split():
        run("rm", "-f", container)


def ok(done):
    """Return what a command printed, once it has succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_negotiates_down_to_our_version(cli):
    assert ok(cli("version", "-f", "{{.Server.Version}} {{.Client.APIVersion}}")) == "0.1.0 1.41\n"


def test_info_names_the_driver(cli):
    assert ok(cli("info", "-f", "{{.Driver}} {{.OSType}}")) == "overlay2 linux\n"


def test_an_imported_image_is_listed_inspected_tagged_and_removed(cli, place):
    with (place / "rootfs.tar").open("rb") as rootfs:
        name = ok(
            cli("import", "-c", 'CMD ["true"]', "-m", "hi", "-", "own:1", stdin=rootfs)
        ).strip()
    assert ok(cli("images", "-q", "--no-trunc", "own")).strip() == name
    assert (
        ok(cli("image", "inspect", "own:1", "-f", "{{.Config.Cmd}} {{.Comment}}")) == "[true] hi\n"
    )
    ok(cli("tag", "own:1", "own:2"))
    assert ok(cli("rmi", "own:2")) == "Untagged: own:2\n"
    assert f"Deleted: {name}" in ok(cli("rmi", "own:1"))


def test_a_cut_archive_is_refused_with_a_reason(cli, place):
    (place / "cut.tar").write_bytes((place / "base.tar").read_bytes()[:9000])
    done = cli("load", "-i", place / "cut.tar")
    assert done.returncode == 1
    assert "invalid tar archive" in done.stderr


def test_a_pull_is_refused_with_a_way_out(cli):
    done = cli("run", "elsewhere")
    assert done.returncode == 125
    assert "startkit does not pull images" in done.stderr
    assert "docker load" in done.stderr


def test_a_container_is_created_started_waited_for_and_logged(cli):
    ok(cli("create", "--name", "one", NAME, "sh", "-c", "echo out; echo err >&2; exit 3"))
    started = cli("start", "-a", "one")
    assert (started.returncode, started.stdout, started.stderr) == (3, "out\n", "err\n")
    assert ok(cli("wait", "one")) == "3\n"
    logs = cli("logs", "one")
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")
    ok(cli("rename", "one", "two"))
    assert ok(cli("ps", "-a", "--format", "{{.Names}}", "--filter", "exited=3")) == "two\n"


def test_input_reaches_the_container_and_its_end_as_well(cli):
    done = cli("run", "-i", "--rm", NAME, "sh", "-c", "cat; echo end", input="in\n")
    assert ok(done) == "in\nend\n"
    assert ok(cli("ps", "-aq")) == ""


def test_a_megabyte_through_cat_comes_back_whole(cli):
    text = "0123456789abcde\n" * 65536
    assert ok(cli("run", "-i", "--rm", NAME, "cat", input=text)) == text


def test_a_terminal_is_one(cli):
    command = f"{cli.path} run -it --rm {NAME} tty"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, check=False,
        timeout=LIMIT_S, env=cli.environment,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"/dev/pts/0\r\n")


def test_logs_follow_until_the_end(cli):
    script = "for n in 1 2 3; do echo $n; sleep 0.1; done"
    name = ok(cli("run", "-d", NAME, "sh", "-c", script)).strip()
    assert ok(cli("logs", "-f", name)) == "1\n2\n3\n"
    assert ok(cli("logs", "--tail", "1", name)) == "3\n"


def test_a_running_container_is_killed_stopped_and_removed_by_force(cli):
    name = ok(cli("run", "-d", NAME, "sleep", "100")).strip()
    assert cli("rm", name).returncode == 1
    ok(cli("kill", "-s", "USR1", name))
    ok(cli("stop", "-t", "0", name))
    ok(cli("start", name))
    ok(cli("rm", "-f", name))
    assert ok(cli("ps", "-aq")) == ""


@pytest.mark.parametrize(
    ("program", "status", "text"),
    [
        ("nope", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_a_program_that_cannot_run_has_dockers_exit_status(cli, program, status, text):
    done = cli("run", "--rm", NAME, program)
    assert done.returncode == status
    assert text in done.stderr


def test_inspect_of_nothing_tries_every_kind_and_says_so(cli):
    done = cli("inspect", "nothing")
    assert done.returncode == 1
    assert "no such object: nothing" in done.stderr.lower()


def test_events_tell_a_containers_whole_life(cli):
    before = ok(cli("info", "-f", "{{.SystemTime}}")).strip()
    ok(cli("run", "--rm", "--name", "life", NAME, "true"))
    after = ok(cli("info", "-f", "{{.SystemTime}}")).strip()
    words = ("events", "--since", before, "--until", after, "--filter", "container=life")
    seen = ok(cli(*words, "--format", "{{.Action}}")).split()
    assert [one for one in seen if one in ("create", "start", "die", "destroy")] == [
        "create", "start", "die", "destroy",
    ]  # fmt: skip


@pytest.fixture
def sdk(place):
    client = docker.DockerClient(base_url=f"unix://{place}/api.sock")
    client.images.load((place / "base.tar").read_bytes())
    yield client
    for container in client.containers.list(all=True):
        container.remove(force=True)
    client.close()


def test_the_sdk_runs_a_container_and_reads_its_output(sdk):
    assert sdk.containers.run(NAME, "echo sdk", remove=True) == b"sdk\n"


def test_the_sdk_talks_to_an_attached_container(sdk):
    container = sdk.containers.create(NAME, "cat", stdin_open=True)
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    stream = attached._sock
    container.start()
    stream.sendall(b"hello")
    assert stream.recv(100) == b"\x01\0\0\0\0\0\0\x05hello"
    stream.shutdown(socket.SHUT_WR)
    assert stream.recv(100) == b""
    attached.close()
    stream.close()
    assert container.wait()["StatusCode"] == 0


def test_the_sdk_gets_its_own_kinds_of_error(sdk):
    with pytest.raises(docker.errors.ImageNotFound):
        sdk.images.get("nothing")
    with pytest.raises(docker.errors.NotFound):
        sdk.containers.get("nothing")
    with pytest.raises(docker.errors.APIError, match="startkit does not do networks"):
        sdk.networks.list()
