"""What a container says, byte for byte, in our json log and in a real dockerd's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from startkit import image

KIB16 = 16 * 1024
SAID = {
    "lines": b"one\n\ntwo\r\n\tthree\n",
    "partial": b"a line\nand one without its end",
    "16 KiB less one": b"x" * (KIB16 - 1) + b"\nnext\n",
    "16 KiB": b"x" * KIB16 + b"\nnext\n",
    "16 KiB and one": b"x" * (KIB16 + 1) + b"\nnext\n",
    "long": b"0123456789abcde" * 20_000 + b"\nnext",
    "odd bytes": bytes(range(256)) + b'\n"\\ <&>\n',
    "cut letters": b"x" * (KIB16 - 1) + "\N{EURO SIGN}\n".encode() + b"\xe2\x82\n\xff\xfe\n",
    "letters": "\N{EURO SIGN} \N{GRINNING FACE} \u2028\n".encode(),
}
pytestmark = pytest.mark.timeout(600)


def run(one, script):
    """Run a script to its end; return the container's id and its log's path."""
    body = {"Image": image.NAME, "Cmd": ["sh", "-c", script], "HostConfig": {
        "NetworkMode": "none", "Binds": [f"{one.host}/data:/data"]}}  # fmt: skip
    made = one.api.ask("POST", "/containers/create", body=body).body["Id"]
    assert one.api.ask("POST", f"/containers/{made}/start").status == 204
    one.api.ask("POST", f"/containers/{made}/wait")
    return made, Path(one.api.ask("GET", f"/containers/{made}/json").body["LogPath"])


@pytest.mark.parametrize("said", SAID)
def test_a_log_has_dockers_entries(pair, said):
    logs = []
    for one in pair:
        one.furnish()
        Path(one.host, "data/said").write_bytes(SAID[said])
        made, log = run(one, "cat /data/said")
        logs.append([json.loads(line)["log"] for line in log.read_bytes().splitlines()])
        one.collector.clear(made)

    assert logs[0] == logs[1]


@pytest.mark.parametrize("query", [
    {"stdout": 1, "stderr": 1, "tail": 3},
    {"stdout": 0, "stderr": 1, "tail": 3},
    {"stdout": 1, "stderr": 0, "tail": 0},
    {"stdout": 1, "stderr": 1, "tail": 99},
], ids=str)  # fmt: skip
def test_the_end_of_a_log_is_dockers(pair, query):
    script = "for n in 1 2 3 4; do echo out $n; sleep .1; echo err $n >&2; sleep .1; done"
    tails = []
    for one in pair:
        one.furnish()
        made, _ = run(one, script)
        tails.append(one.collector.api.client.get(f"/containers/{made}/logs", **query).body)
        one.collector.clear(made)

    assert tails[0] == tails[1]
