"""What the collector makes of engines that hang, lie, or leave strange things on the disk."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading

import msgspec
import pytest

from startkit.client import Client, ClientError
from startkit.observe import cgroups, config, disk, fifos, look, procfs
from startkit.observe.api import Api
from startkit.observe.collect import Collector, ObserveError, host, identify
from startkit.observe.evidence import FORMAT, Entry, Moment, Process, Scene, Seen
from startkit.observe.life import Recipe
from startkit.observe.view import NoEvidence, SceneView

ID = "ab" * 32
HANG_S = 0.3  # a limit that is really waited for


@contextlib.contextmanager
def engine(tmp_path, answer):
    """Listen on a socket and give every connection to `answer`, one after the other."""
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def never(connection):
    """Read whatever comes and say nothing until the other side gives up."""
    while connection.recv(4096):
        pass


def says(data):
    """Return an engine that gives the same bytes to everybody, and hangs up."""

    def answer(connection):
        connection.recv(4096)
        connection.sendall(data)

    return answer


def scripted(answers):
    """Return an engine that knows some requests (`POST /x` -> body) and hangs at all others."""

    def answer(connection):
        method, target = (*connection.recv(65536).decode().split(), "", "")[:2]
        known = answers.get(f"{method} {target.partition('?')[0]}")
        never(connection) if known is None else connection.sendall(known)

    return answer


def told(body):
    """Return an HTTP answer with a JSON body."""
    data = msgspec.json.encode(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return head.encode() + data


def subject(api, **more):
    return look.Subject(api=api, id=ID, root=None, daemon=None, containerd=None, **more)


def seen(**more):
    return Seen(format=FORMAT, target="t", engine="e", version="1", info={}, host=host(), **more)


def test_an_engine_that_never_answers_is_given_up_in_time(tmp_path):
    with (
        engine(tmp_path, never) as path,
        pytest.raises(ClientError, match=r"^GET /version on .*: no answer in time$"),
    ):
        Client(path, timeout_s=HANG_S).get("/version")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "closed"),
        (b"220 mail ready\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "not HTTP"),
    ],
    ids=["nothing", "not-http", "cut"],
)
def test_an_engine_that_does_not_speak_http_costs_one_line(tmp_path, data, reason):
    with engine(tmp_path, says(data)) as path, pytest.raises(ClientError) as caught:
        Client(path, timeout_s=5).get("/version")

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_whose_version_is_no_object_cannot_be_watched(tmp_path):
    with (
        engine(tmp_path, says(told(["20.10"]))) as path,
        pytest.raises(ObserveError, match="/version"),
    ):
        Collector(path)


START = f"POST /containers/{ID}/start"
KNOWN = {
    "GET /version": {"Version": "1"},
    "GET /info": {},
    "POST /containers/create": {"Id": ID},
    "GET /containers/json": [],
    f"GET /containers/{ID}/json": {"State": {"Pid": 0}},
    START: {},
    f"DELETE /containers/{ID}": {},
}


@pytest.mark.parametrize(
    ("hangs", "request_named"),
    [(START, "start on"), (f"DELETE /containers/{ID}", "DELETE"), ("GET /events", "/events")],
    ids=["start", "remove", "events"],
)
def test_an_engine_that_hangs_breaks_the_scene_and_not_the_run(tmp_path, hangs, request_named):
    answers = {name: told(body) for name, body in KNOWN.items() if name != hangs}
    with engine(tmp_path, scripted(answers)) as path:
        scene = Collector(path, timeout_s=HANG_S).scene(Recipe(name="plain"))

    assert request_named in scene.broken
    assert "no answer in time" in scene.broken
    with pytest.raises(NoEvidence, match="no answer in time"):
        _ = SceneView(seen(), scene).leftovers


def test_no_moment_to_give_up_at_is_left_behind(tmp_path):
    with engine(tmp_path, scripted({name: told(body) for name, body in KNOWN.items()})) as path:
        collector = Collector(path, timeout_s=HANG_S)
        collector.scene(Recipe(name="plain"))
        collector.clear(ID)

    assert collector.client.until == math.inf


def test_a_socket_that_is_not_there_cannot_be_watched(tmp_path):
    with pytest.raises(ObserveError, match="No such file or directory"):
        Collector(str(tmp_path / "none"))


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, "1", None, [1]], ids=str)
def test_a_pid_that_is_none_makes_init_missing(tmp_path, pid):
    with engine(tmp_path, says(told({"State": {"Pid": pid}}))) as path:
        moment = look.look(subject(Api(Client(path))))

    assert moment.init is None
    assert moment.missing["init"] == look.STOPPED
    assert moment.missing["inside"] == look.STOPPED


@pytest.mark.parametrize("pid", [1, os.getpid()], ids=["1", "ours"])
def test_a_pid_of_somebody_else_is_no_init(tmp_path, pid):
    with engine(tmp_path, says(told({"State": {"Pid": pid}}))) as path:
        moment = look.look(subject(Api(Client(path))))

    assert (moment.init, moment.config, moment.inside) == (None, None, {})
    assert f"State.Pid {pid} is" in moment.missing["init"]


def test_evidence_survives_its_file():
    moment = Moment(
        init=procfs.process(os.getpid()),
        mounts=procfs.mounts(),
        inside={"/": disk.entry("/")},
        missing={"bundle": "why"},
    )
    before = seen(scenes={"plain": Scene(name="plain", recipe={}, moments={"running": moment})})

    assert before == msgspec.json.decode(msgspec.json.encode(before), type=Seen)


def test_a_view_gives_the_reason_of_what_is_missing():
    scene = Scene(name="s", recipe={}, moments={"running": Moment(missing={"bundle": "hidden"})})

    with pytest.raises(NoEvidence, match=r"^bundle: hidden$"):
        _ = SceneView(seen(), scene).bundle


def test_a_view_of_a_broken_scene_claims_no_clean_removal():
    scene = Scene(name="s", recipe={}, broken="hung")

    with pytest.raises(NoEvidence, match="hung"):
        _ = SceneView(seen(), scene).leftovers


def test_what_is_seen_to_be_absent_is_no_missing_evidence():
    files = {"hostname": Entry(kind="file", mode="0644", uid=0, gid=0, size=1)}
    scene = Scene(name="s", recipe={}, moments={"running": Moment(container_files=files)})

    assert SceneView(seen(), scene).file("hosts").kind == "absent"


def test_the_ends_of_a_fifo_are_told_apart(tmp_path):
    path = str(tmp_path / "init-stdin")
    os.mkfifo(path, 0o700)
    flags = (os.O_PATH, os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY, os.O_RDWR)
    descriptors = [os.open(path, flag) for flag in flags]

    rows = fifos.ends({"stdin": path}, {os.getpid(): "daemon"})
    for descriptor in descriptors:
        os.close(descriptor)

    assert [row.access for row in rows] == ["handle", "read", "write", "both"]
    assert {("daemon", "stdin")} == {(row.holder, row.fifo) for row in rows}


def test_a_look_inside_never_leaves_the_root(tmp_path):
    (tmp_path / "hosts").symlink_to("../../../../../etc/passwd")
    (tmp_path / "etc").symlink_to("/etc")

    found = disk.listing(str(tmp_path), ("/hosts", "/etc/passwd"))

    assert list(found) == ["/hosts"]
    assert (found["/hosts"].kind, found["/hosts"].text) == ("symlink", None)


def test_a_fifo_in_the_way_is_seen_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "config.v2.json")

    assert disk.tree(str(tmp_path))["config.v2.json"].kind == "fifo"


def test_the_escapes_of_mountinfo_are_undone():
    line = r"36 35 98:0 /a\040b /mnt/x\134y rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    mount = procfs.parse_mount(line)

    assert (mount.root, mount.target, mount.propagation) == ("/a b", "/mnt/x\\y", "master")


def test_a_config_of_the_wrong_shape_gives_nothing():
    odd = config.Config({"mounts": [1, {"destination": 2}], "process": [], "linux": "x"})

    assert odd.mount("/proc").options is None
    assert (odd.at("/process/env"), odd.namespaces, odd.env) == (None, [], [])


def test_the_shim_names_its_bundle_by_argument_or_place(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    nobody = {"pid": 1, "ppid": 0, "comm": "", "exe": "", "pgid": 1, "sid": 1}
    by_argument = Process(argv=["shim", ID, str(tmp_path)], cwd="/", **nobody)
    by_place = Process(argv=["shim", "-id", ID], cwd=str(tmp_path), **nobody)

    assert str(tmp_path) == config.find_bundle(by_argument) == config.find_bundle(by_place)


def test_the_title_of_a_process_ends_where_its_padding_begins():
    assert os.getpid() == procfs.process(os.getpid()).pid
    assert "" not in procfs.process(os.getpid()).argv[-1:]


@pytest.mark.parametrize("option", ["--exec-root", "--runroot"])
def test_the_run_directory_is_the_one_that_the_daemon_was_told(tmp_path, option):
    words = {"pid": 1, "ppid": 0, "comm": "", "exe": "", "cwd": "/", "pgid": 1, "sid": 1}
    daemon = Process(argv=["engine", option, str(tmp_path)], **words)

    assert [config.exec_root(daemon), config.exec_root(None)] == [str(tmp_path), "/run/docker"]


@pytest.mark.parametrize("key", ["HostnamePath", "LogPath"])
def test_a_container_s_directory_is_where_the_engine_says_that_a_file_of_it_is(tmp_path, key):
    own = tmp_path / ID
    own.mkdir()
    (own / "hostname").write_text("box")
    one = subject(None)
    one.seen = {"inspect": {key: str(own / "some")}}

    found = look.look_directory(one)

    assert (found["container_dir"], list(found["container_files"])) == (str(own), ["hostname"])


def test_nowhere_is_no_directory_of_a_container():
    one = subject(None)
    one.seen = {"inspect": {"HostnamePath": "./hostname", "LogPath": None}}

    assert look.look_directory(one) == {}


@pytest.mark.parametrize("name", [ID, f"libpod-{ID}", f"docker-{ID}.scope", f"libpod-{ID}.scope"])
def test_a_directory_is_known_by_the_spellings_of_an_id(tmp_path, name):
    (tmp_path / "parent" / name).mkdir(parents=True)
    (tmp_path / "parent" / f"other-{ID}").mkdir()

    assert disk.named(str(tmp_path), ID) == [str(tmp_path / "parent" / name)]


def test_the_name_of_a_container_is_a_token():
    moment = Moment(inspect={"Name": "/startkit-plain-gw1"})
    view = SceneView(seen(), Scene(name="plain", recipe={}, id=ID, moments={"running": moment}))

    assert view.names()["<NAME>"] == "startkit-plain-gw1"


def test_cgroups_that_nobody_made_are_not_found():
    assert cgroups.find(ID) == {}


@pytest.mark.parametrize(
    ("version", "engine_name"),
    [
        ({"Version": "20.10.24+dfsg1", "Platform": {"Name": ""}}, ("dockerd", "20.10.24")),
        ({"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}, ("podman", "4.3.1")),
        ({"Version": "0.1.0", "Platform": {"Name": "startkit"}}, ("startkit", "0.1.0")),
        ({}, ("dockerd", "unknown")),
    ],
    ids=["dockerd", "podman", "startkit", "silent"],
)
def test_an_engine_is_known_by_what_it_says_of_itself(version, engine_name):
    assert engine_name == identify(version)
