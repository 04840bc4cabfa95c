"""grpcio, a client that shares no code with the server, hears what grpclib's client hears.

grpcio has threads and stays out of this process: it runs in a child.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("grpc")

CLIENT = """
import json, sys
import grpc
from google.protobuf.json_format import MessageToDict
from startkit.containerd.proto import api_pb2

channel = grpc.insecure_channel("unix://" + sys.argv[1])

def call(name, request, kind=channel.unary_unary):
    answer = getattr(api_pb2, "Event" if name == "Events" else name + "Response")
    serialize = type(request).SerializeToString
    remote = kind("/types.API/" + name, serialize, answer.FromString)
    try:
        got = remote(request, timeout=20)
        got = [MessageToDict(m) for m in got] if name == "Events" else MessageToDict(got)
    except grpc.RpcError as error:
        got = [error.code().name, error.details()]
    print(json.dumps(got))

call("GetServerVersion", api_pb2.GetServerVersionRequest())
call("State", api_pb2.StateRequest(id="nobody"))
call("Signal", api_pb2.SignalRequest(id="nobody", pid="init", signal=9))
call("CreateContainer", api_pb2.CreateContainerRequest(id="x", bundlePath="/no/such/bundle"))
call("Events", api_pb2.EventsRequest(storedOnly=True), channel.unary_stream)
"""


@pytest.fixture
def socket(tmp_path):
    path = tmp_path / "docker-containerd.sock"
    argv = [sys.executable, "-m", "startkit.containerd", "-l", f"unix://{path}"]
    server = subprocess.Popen(
        [*argv, "--state-dir", str(tmp_path / "containerd")], stderr=subprocess.PIPE, text=True
    )
    assert any("listening" in line for line in server.stderr)
    yield path
    server.terminate()
    server.stderr.close()
    assert server.wait(20) == 0


def test_grpcio_understands_every_answer(socket):
    ran = subprocess.run(
        [sys.executable, "-c", CLIENT, str(socket)], capture_output=True, text=True, timeout=60
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    not_found = ["NOT_FOUND", "containerd: container not found"]
    no_bundle = "[Errno 2] No such file or directory: '/no/such/bundle/config.json'"
    assert answers == [
        {"minor": 2, "patch": 9},
        not_found,
        not_found,
        ["UNKNOWN", no_bundle],
        [],
    ], ran.stderr
