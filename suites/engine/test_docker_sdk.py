"""The `docker` SDK from PyPI, unmodified, through the life of a container."""

from __future__ import annotations

import gc

import pytest

docker = pytest.importorskip("docker")
# the SDK leaves the sockets of its streams to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def sdk(engine):
    made = docker.DockerClient(base_url=f"unix://{engine.socket}", version="auto", timeout=30)
    yield made
    made.close()
    gc.collect()  # here, where it is expected


def test_it_negotiates_pings_and_tells_versions(sdk):
    assert sdk.ping()
    assert sdk.version()["ApiVersion"] == "1.41"
    assert sdk.info()["Driver"] == "overlay2"


def test_run_returns_what_was_said(sdk):
    assert sdk.containers.run("startkit/base", ["echo", "said"], remove=True) == b"said\n"


def test_run_raises_with_the_programs_status(sdk):
    with pytest.raises(docker.errors.ContainerError) as error:
        sdk.containers.run("startkit/base", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)

    assert (error.value.exit_status, error.value.stderr) == (3, b"bad\n")


def test_a_life_from_create_to_remove(sdk):
    made = sdk.containers.create("startkit/base", ["sh", "-c", "echo up; exec sleep 100"])
    assert made.status == "created"
    made.start()
    assert next(made.logs(stream=True, follow=True)) == b"up\n"
    made.rename("other")
    made.reload()
    assert (made.status, made.name) == ("running", "other")
    made.kill()

    assert made.wait()["StatusCode"] == 137
    made.remove()
    with pytest.raises(docker.errors.NotFound):
        sdk.containers.get("other")


def test_events_are_told_in_order(sdk):
    events = sdk.events(decode=True, filters={"type": "container", "container": "seen"})
    sdk.containers.run("startkit/base", ["true"], name="seen", remove=True)
    told = []
    for event in events:
        told.append(event["Action"])
        if event["Action"] == "destroy":
            break
    events.close()

    wanted = [action for action in told if action in ("create", "start", "die", "destroy")]
    assert wanted == ["create", "start", "die", "destroy"]


def test_an_attached_socket_carries_both_ways(sdk):
    made = sdk.containers.create("startkit/base", ["cat"], stdin_open=True)
    with made.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1}) as attached:
        made.start()
        attached._sock.sendall(b"through\n")
        frame = b""
        while len(frame) < 16:
            frame += attached._sock.recv(64)

    assert frame == b"\x01\0\0\0\0\0\0\x08through\n"
    made.remove(force=True)


def test_images_are_listed_tagged_and_untagged(sdk):
    image = sdk.images.get("startkit/base")
    assert image.tag("startkit/again", "two")
    assert "startkit/again:two" in sdk.images.get("startkit/base").tags
    sdk.images.remove("startkit/again:two")

    assert "startkit/again:two" not in sdk.images.get("startkit/base").tags
