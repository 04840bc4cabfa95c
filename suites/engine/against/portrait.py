"""One container's portrait: everything that two engines have to agree on, without names of a run.

Rule: a portrait is plain data. What stands in it was seen from outside, or was printed
by the container's own program; ids, places and pids are tokens.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time

from startkit import image
from startkit.judge.normalise import normalise
from startkit.observe import config, look, procfs
from startkit.observe.collect import Collector
from startkit.observe.life import IMAGE

READY = "== ready"
READY_S = 10.0
STOP_S = 5
ASKS = {
    "mounts": "cat /proc/self/mountinfo",
    "env": "tr '\\0' '\\n' < /proc/1/environ",
    "pwd": "pwd",
    "hostname": "hostname",
    "status": "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|Umask)' /proc/1/status",
    "limits": "cat /proc/1/limits",
    "files": "cat /etc/hostname /etc/hosts /etc/resolv.conf",
    "devices": "ls -ln /dev | sed 's/[A-Z][a-z][a-z] [ 0-9]* [0-9:]*//'",
    "sysctls": "cd /proc/sys && cat net/ipv4/ip_forward kernel/domainname kernel/msgmax",
    "terminal": "test -t 0; echo $?; test -t 1; echo $?",
    "writable": "touch /x 2>/dev/null; echo $?; touch /data/x 2>/dev/null; echo $?",
}
FILES = ("hostname", "hosts", "resolv.conf", "resolv.conf.hash")
INSPECTED = (
    *("Hostname", "Domainname", "User", "Tty", "OpenStdin", "StdinOnce", "Env", "Cmd"),
    *("WorkingDir", "Entrypoint", "Labels", "StopSignal"),
)
UNSTEADY = ("cgroup.procs", "devices.list")  # pids; and the kernel lists devices as it likes
OVERLAY = re.compile(r"(lowerdir|upperdir|workdir)=.*")


def script(code):
    """Return the shell words that tell everything, then wait to be stopped, with exit `code`."""
    told = "; ".join(f"echo '== {name}'; {ask}" for name, ask in ASKS.items())
    return f"trap 'exit {code}' TERM INT USR1; {told}; echo '{READY}'; sleep 1000 & wait $!"


class Sitter:
    """An engine that runs containers to be portrayed."""

    def __init__(self, socket, root):
        self.root = root
        self.collector = Collector(socket)
        self.collector.load_image(iter([image.base()[1]]))
        self.api = self.collector.api

    def portray(self, recipe):
        """Run a container of this request body, from create to what it leaves; return all."""
        self.furnish()
        body = json.loads(json.dumps({"Image": IMAGE, **recipe}).replace("<HOST>", self.host))
        made = self.api.ask("POST", "/containers/create", body=body)
        found = {"create": made.status}
        if made.status != 201:
            return found
        container = made.body["Id"]
        try:
            found |= self.life(container)
        finally:
            self.collector.clear(container)
        return found

    @property
    def host(self):
        return str(self.root / "host")

    def furnish(self):
        """Make the directories of the machine that recipes bind, as if for the first time."""
        shutil.rmtree(self.host, ignore_errors=True)
        for name in ("data", "more"):
            os.makedirs(f"{self.host}/{name}")

    def life(self, container):
        """Start, look, stop; a container that does not start has no more than its end."""
        started = self.api.ask("POST", "/containers/{id}/start", container)
        found = {"start": started.status}
        if started.status != 204:
            state = self.api.inspect(container)["State"]
            return found | {"code": state["ExitCode"], "said": phrase(started.body["message"])}
        self.api.log_has(container, READY, timeout_s=READY_S)
        moment = self.settled(container)
        stopped = self.api.ask("POST", "/containers/{id}/stop", container, t=STOP_S)
        waited = self.api.ask("POST", "/containers/{id}/wait", container)
        found |= {"stop": stopped.status, "code": waited.body["StatusCode"]}
        found = normalise({**found, **features(moment)}, self.names(moment))
        for mounts, key in (
            (found["config"]["mounts"], "destination"),
            (found["mounts"], "target"),
        ):
            settle(mounts, key, moment.inspect["HostConfig"])
        return found

    def settled(self, container):
        """Look until a stdin that nobody uses is let go of: that is after the answer to start."""
        end = time.monotonic() + READY_S
        while True:
            moment = look.look(self.collector.subject(container))
            asked = moment.inspect["Config"]
            mute = not asked["OpenStdin"] and not asked["Tty"]
            held = any(row.fifo == "stdin" for row in moment.ends)
            if not (mute and held) or time.monotonic() > end:
                return moment

    def names(self, moment):
        """Return token -> text of this run."""
        container = moment.inspect["Id"]
        return {
            "<ID>": container,
            "<ID12>": container[:12],
            "<ROOT>": self.collector.seen.info["DockerRootDir"],
            "<RUN>": config.exec_root(self.collector.seen.daemon),
            "<ROOTFS>": config.graph_driver_place(moment.inspect) or "",
            "<HOST>": self.host,
            "/docker": f"/{self.root.name}",  # the cgroup that stands for Docker's own
        }


PHRASES = (
    "executable file not found in $PATH",
    "permission denied",
    "no such file or directory",
    "is a directory",
    "not a directory",
    "read-only file system",
    "unable to find user",
    "is not in a separate kernel namespace",
)


def phrase(message):
    """Return what a refusal comes to, in the words that every engine uses."""
    return next((known for known in PHRASES if known in message), message)


def features(moment):
    """Return what is kept of a running container."""
    said = sections(moment)
    return {
        "config": document(moment.config),
        "files": {name: file(moment, name) for name in FILES},
        "directory": entries(moment.container_files),
        "bundle": {"place": moment.bundle, ".": moment.bundle_mode} | entries(moment.bundle_files),
        "processes": processes(moment),
        "ends": sorted([end.holder, end.fifo, end.access] for end in moment.ends),
        "fifos": moment.fifo_modes,
        "stdio": [re.sub(r"\d+", "N", moment.init_fds[n]) for n in "012"],
        "cgroup": {
            name: text for name, text in moment.cgroup_files.items() if not name.endswith(UNSTEADY)
        },
        "inspect": {name: moment.inspect["Config"].get(name) for name in INSPECTED},
        "mounts": [mount(line) for line in said.pop("mounts", [])],
        "inside": said,
    }


def document(found):
    """Return config.json without what says nothing: `false`, 0 and [] are what is not said.

    A filter of hundreds of lines is only named, a daemon's pid left out.
    """
    found = without(found, nothing=(False, [], {}, None))
    resources = without(found["linux"]["resources"], nothing=(0, {}))
    found["linux"]["resources"] = resources
    found["process"]["user"].get("additionalGids", []).sort()  # dockerd has them in a map
    if "seccomp" in found["linux"]:
        found["linux"]["seccomp"] = "a filter"
    for hook in found.get("hooks", {}).get("prestart", []):
        hook["path"] = re.sub(r"\d+", "N", hook["path"])
        hook["args"] = [re.sub(r"^[0-9a-f]{12}$", "<NETWORK>", word) for word in hook["args"]]
    return found


def without(value, nothing):
    """Return plain data without members that say nothing, at any depth."""
    if isinstance(value, list):
        return [without(one, nothing) for one in value]
    if not isinstance(value, dict):
        return value
    inside = {key: without(one, nothing) for key, one in value.items()}
    return {
        key: one
        for key, one in inside.items()
        if not any(one is no or (one == no and type(one) is type(no)) for no in nothing)
    }


def entries(found):
    """Return name -> kind and mode."""
    return {name: f"{entry.kind} {entry.mode}" for name, entry in sorted(found.items())}


def processes(moment):
    """Return the container's first process and what stands above it, as far as it is the engine's.

    Of the daemons only the names: how they are called is the recipe's affair.
    """
    above = [one for one in moment.ancestors if re.search("docker|container", one.comm)]
    daemons = [os.path.basename(one.argv[0]) for one in above[1:]]
    return [[*moment.init.argv[:2]], above[0].argv, *daemons]


def file(moment, name):
    """Return mode and text of a file of the container's directory."""
    found = moment.container_files.get(name)
    return [found.mode, found.text] if found else None


def sections(moment):
    """Return what the program printed, by name, as lines."""
    text = "".join(row.get("log", "") for row in moment.log).replace("\r\n", "\n")
    parts = re.split(r"^== (\w+)\n", text.replace("\r", ""), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    found.pop("ready", None)
    return {name: part.splitlines() for name, part in found.items()}


def mount(line):
    """Return one line of mountinfo without numbers, the layers of an overlay only counted."""
    one = procfs.parse_mount(line)
    words = [OVERLAY.sub(r"\1", word) for word in one.super_options if word != "uuid=on"]
    source = os.path.basename(one.source) if one.fstype == "overlay" else one.source
    return {
        "target": one.target,
        "root": one.root,
        "fstype": one.fstype,
        "source": source,
        "options": one.options,
        "super": sorted(words),
        "propagation": one.propagation,
    }


def settle(rows, key, host):
    """Sort mounts of one kind and depth, in place: dockerd takes them from maps without order."""
    binds = {bind.split(":")[1] for bind in host["Binds"] or []}
    for targets in (binds, set(host.get("Tmpfs") or ())):
        for depth in {target.count("/") for target in targets}:
            own = [n for n, row in enumerate(rows)
                   if row[key] in targets and row[key].count("/") == depth]  # fmt: skip
            for place, row in zip(
                own, sorted((rows[n] for n in own), key=lambda row: row[key]), strict=True
            ):
                rows[place] = row


def differences(ours, theirs, place=""):
    """Return a line for each place where two portraits differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = dict.fromkeys([*ours, *theirs])
        pairs = [(key, ours.get(key, "-"), theirs.get(key, "-")) for key in keys]
    elif is_table(ours) and is_table(theirs) and len(ours) == len(theirs):
        pairs = [(n, *row) for n, row in enumerate(zip(ours, theirs, strict=True))]
    else:
        return [] if ours == theirs else [f"{place}\n  ours    {ours}\n  theirs  {theirs}"]
    return [line for key, *both in pairs for line in differences(*both, f"{place}/{key}")]


def is_table(value):
    """Say whether it is a list of objects."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
