"""Broken engines: our own behind a socket that breaks one thing, each a line of ENGINES.

`python broken_engine.py NAME ROOT` is started like an engine: it serves ROOT/api.sock. What
it breaks is said by a pattern for `METHOD PATH?QUERY`, and by what becomes of that request.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import broken_deeds as deeds

ID = r"/containers/[0-9a-f]{64}"
INSPECT = rf"GET {ID}/json"


DECOYS: list[tuple[str, int]] = []


class Exchange:
    """One request: `send` is raw, `real` asks the engine behind, `document` answers as JSON."""

    def __init__(self, place, client, request):
        self.place, self.client, self.request = place, client, request
        self.id = (re.search(r"[0-9a-f]{64}", request.split(b"\r\n")[0].decode()) or [""])[0]

    def upstream(self):
        """Send the request on; the connection closes after its answer."""
        there = socket.socket(socket.AF_UNIX)
        there.connect(f"{self.place}/real.sock")
        there.sendall(self.request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        pump = threading.Thread(target=copy, args=(self.client, there), daemon=True)
        pump.start()
        return there

    def real(self):
        """Return the whole real answer: head, body."""
        with self.upstream() as there:
            said = b"".join(iter(lambda: there.recv(1 << 16), b""))
        head, _, body = said.partition(b"\r\n\r\n")
        return head, unchunked(body) if b"chunked" in head else body

    def decoy(self):
        """Return id and pid of a container that the suite did not ask for."""
        DECOYS[:] = DECOYS or [deeds.decoy(self.place)]
        return DECOYS[0]

    def relay(self):
        """Hand the real answer through."""
        with self.upstream() as there:
            copy(there, self.client)

    def send(self, data):
        self.client.sendall(data)

    def answer(self, body, status=200):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} So\r\nContent-Type: application/json\r\n"
        self.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


@contextlib.contextmanager
def closing(client):
    """Let the other side see the end, even while another thread waits for it."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def copy(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


def unchunked(body):
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        found, body = found + body[:length], body[length + 2 :]
    return found


# What becomes of a request: each takes the Exchange.


def hold(one):
    """Say nothing until the other side has gone."""
    copy(one.client, open_null())


def open_null():
    return type("Null", (), {"sendall": lambda self, data: None})()


def says(*pieces):
    """Send these bytes, then hold."""

    def do(one):
        for piece in pieces:
            one.send(piece)
        hold(one)

    return do


def hangs_up(*pieces):
    """Send these bytes, then close."""
    return lambda one: [one.send(piece) for piece in pieces]


def endless(head, piece=deeds.BLOCK, pause_s=0.0):
    """Send the head, then the piece for ever."""

    def do(one):
        one.send(head)
        while True:
            one.send(piece)
            time.sleep(pause_s)

    return do


def half(one):
    """Send the first half of the real answer and hold."""
    head, body = one.real()
    one.send(head + b"\r\n\r\n" + body[: len(body) // 2])
    hold(one)


def trickle(one):
    head, body = one.real()
    for byte in head + b"\r\n\r\n" + body:
        one.send(bytes([byte]))
        time.sleep(1)


def status(code):
    """Do it, and answer with another status."""
    return lambda one: one.real() and one.answer({"message": "broken on purpose"}, code)


def refuses(code):
    """Do nothing, and answer with a status."""
    return lambda one: one.answer({"message": "broken on purpose"}, code)


def gives(body):
    """Do it, and answer with this document (bytes as they are)."""
    return lambda one: one.real() and one.answer(body)


def edits(change):
    """Answer with the real document, changed in place or replaced by what is returned."""

    def do(one):
        head, body = one.real()
        document = json.loads(body)
        changed = change(document, one)
        one.answer(document if changed is None else changed, int(head.split()[1]))

    return do


def at(value, *path):
    """Return a change that puts a value, or what it gives for the Exchange, at a path."""

    def change(document, one):
        if path[0] in document:  # else it is a refusal
            for key in path[:-1]:
                document = document[key]
            document[path[-1]] = value(one) if callable(value) else value

    return edits(change)


def hosts_paths(document, one):
    """Say that the container's files are the host's."""
    document.update(HostnamePath=deeds.SECRET, LogPath=deeds.SECRET)


def after(act):
    """Do the request, then act once on the container, then answer."""
    done = set()

    def do(one):
        head, body = one.real()
        if one.id not in done and b" 204 " in head:
            done.add(one.id)
            act(one)
        one.send(
            head.replace(b"Transfer-Encoding: chunked", b"X-Was: chunked") + b"\r\n\r\n" + body
        )

    return do


ENDLESS = b"100000\r\n" + deeds.BLOCK + b"\r\n"
UPGRADE = b"HTTP/1.1 101 So\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GIANT = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"
NESTED = b"[" * 200_000 + b"]" * 200_000
ODD = b'{"State":{"Pid":1e999},"Name":"\\ud800","Id":' + b"9" * 4000 + b"}"
START = rf"POST {ID}/start"
SCENE = r"POST /containers/create\?name=startkit-(?!smoke)"
CREATE = r"POST /containers/create"

# name: (which requests, what becomes of them)
ENGINES = {
    # on its start
    "never-listens": ("start", lambda place: time.sleep(1000)),
    "ends-at-once": ("start", lambda place: sys.exit("broken on purpose")),
    "daemonises": ("start", lambda place: os.fork() and os._exit(0)),
    "leaves-a-process": ("start", lambda place: deeds.detached("sleep", "1000")),
    "ignores-sigterm": ("start", lambda place: signal.signal(signal.SIGTERM, signal.SIG_IGN)),
    "never-accepts": ("accept", None),
    # in HTTP
    "silent": (r"", hold),
    "ping-is-500": (r"GET /_ping", refuses(500)),
    "ping-trickles": (r"GET /_ping", trickle),
    "version-is-no-http": (r"GET /version", hangs_up(b"220 mail ready\r\n\r\n")),
    "version-has-endless-headers": (r"GET /version", endless(OK, b"A: b\r\n" * 4096)),
    "version-is-endless": (r"GET /version", endless(CHUNKED, ENDLESS)),
    "version-is-a-list": (r"GET /version", gives(["20.10"])),
    "version-is-odd": (r"GET /version", gives({"Version": ["1"], "Components": 5})),
    "info-is-odd": (r"GET /info", gives({"DockerRootDir": 5, "Driver": {}})),
    "load-hangs": (r"POST /images/load", hold),
    "load-is-500": (r"POST /images/load", refuses(500)),
    "create-hangs": (CREATE, hold),
    "create-is-500": (CREATE, refuses(500)),
    "create-gives-no-id": (CREATE, gives({"Id": 5})),
    "create-gives-a-path": (CREATE, gives({"Id": "../../../../etc"})),
    "create-gives-text": (CREATE, gives(b"\xff\xfe no JSON")),
    "start-hangs": (START, hold),
    "start-is-200-and-does-nothing": (START, refuses(200)),
    "inspect-is-half": (INSPECT, half),
    "inspect-trickles": (INSPECT, trickle),
    "inspect-is-endless": (INSPECT, endless(CHUNKED, ENDLESS)),
    "inspect-is-a-giant": (INSPECT, says(GIANT)),
    "inspect-is-nested": (INSPECT, gives(NESTED)),
    "inspect-is-odd": (INSPECT, gives(ODD)),
    "inspect-is-switching": (INSPECT, hangs_up(UPGRADE)),
    "inspect-is-without-shape": (INSPECT, gives({"State": [], "GraphDriver": 1, "Name": {}})),
    "list-is-nested": (r"GET /containers/json", gives(NESTED)),
    "events-are-endless": (r"GET /events", endless(CHUNKED, ENDLESS)),
    "events-die": (r"GET /events", hangs_up(CHUNKED + b"10\r\n{")),
    "events-are-no-json": (r"GET /events", gives(b"{]\n[" + b"[" * 100_000)),
    "logs-die": (rf"GET {ID}/logs", hangs_up(CHUNKED + b"10\r\n{")),
    "logs-hang": (rf"GET {ID}/logs", hold),
    "logs-are-endless": (rf"GET {ID}/logs", endless(CHUNKED, ENDLESS)),
    "stop-hangs": (rf"POST {ID}/stop", hold),
    "stop-is-500": (rf"POST {ID}/stop", refuses(500)),
    "wait-hangs": (rf"POST {ID}/wait", hold),
    "remove-is-409": (r"DELETE /containers/", refuses(409)),
    "remove-does-nothing": (r"DELETE /containers/", refuses(204)),
    # lies
    "pid-is-1": (INSPECT, at(1, "State", "Pid")),
    "pid-is-the-suites": (INSPECT, at(lambda _: os.getppid(), "State", "Pid")),
    "pid-is-another-containers": (INSPECT, at(lambda one: one.decoy()[1], "State", "Pid")),
    "id-is-another-containers": (SCENE, edits(lambda _, one: {"Id": one.decoy()[0]})),
    "paths-are-the-hosts": (INSPECT, edits(hosts_paths)),
    # on the disk
    "directory-is-planted": (START, after(deeds.plant)),
    "directory-is-a-symlink": (START, after(deeds.moved)),
    "config-is-a-symlink": (START, after(deeds.config_is(deeds.linked))),
    "config-is-a-fifo": (START, after(deeds.config_is(lambda path, _: os.mkfifo(path)))),
    "config-is-sparse": (START, after(deeds.config_is(deeds.sparse))),
    "config-is-nested": (START, after(deeds.config_is(lambda path, _: path.write_bytes(NESTED)))),
    "rootfs-is-the-hosts": (START, after(deeds.config_is(deeds.rooted("/")))),
    # processes
    "forks": (START, after(deeds.forks)),
    "fills-its-fifos": (START, after(deeds.fills)),
    "keeps-a-mount-busy": (START, after(deeds.keeps_busy)),
    "dies-in-the-middle": (rf"POST {ID}/stop", deeds.die),
    "loses-its-containers": (START, after(deeds.kills("containerd", "containerd-shim"))),
}  # fmt: skip


class Broken:
    """The engine behind, and the socket in front of it."""

    def __init__(self, name, place):
        self.name, self.place = name, place
        self.at, self.do = ENGINES[name]

    def serve(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.place}/api.sock")
        listener.listen()
        while True:
            if self.at == "accept":
                time.sleep(1000)
            client, _ = listener.accept()
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        with contextlib.suppress(OSError), client, closing(client):
            request = b""
            while b"\r\n\r\n" not in request:
                if not (data := client.recv(1 << 16)):
                    return
                request += data
            line = request.split(b"\r\n")[0].decode().rpartition(" ")[0]
            exchange = Exchange(self.place, client, request)
            if self.at in ("start", "accept") or not re.match(self.at, line):
                exchange.relay()
            else:
                self.do(exchange)


def main():
    name, place = sys.argv[1:]
    broken = Broken(name, place)
    if broken.at == "start":
        broken.do(place)
    program = os.path.join(os.path.dirname(sys.executable), "startkit-dockerd")
    real = subprocess.Popen(
        [program, "--data-root", f"{place}/data", "--exec-root", f"{place}/exec",
         "--pidfile", f"{place}/pid", "-H", f"unix://{place}/real.sock",
         "--cgroup-parent", os.environ["STARTKIT_BROKEN_PARENT"]],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    real.stdout.readline()
    if name != "ignores-sigterm":
        signal.signal(signal.SIGTERM, lambda *_: end(real))
    broken.serve()


def end(real):
    """End with the engine. Once: a parent that dies thread by thread asks more than once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    real.terminate()
    real.wait()
    os._exit(0)


if __name__ == "__main__":
    main()
