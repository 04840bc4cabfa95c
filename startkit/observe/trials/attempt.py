"""A runtime at work on a bundle: its command line called, its container watched.

Rule: only the command line, /proc and the file system are used; what a call says and
how it exits is written down and never judged. All that a trial makes, it takes away.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib
from typing import IO, TYPE_CHECKING, Any

import msgspec

from startkit.observe import cgroups, disk, procfs
from startkit.observe.evidence import Glimpse, Ran, Trial
from startkit.observe.trials import strays

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from startkit.observe.evidence import Process

CALL_S = 20.0
TRIAL_S = 60.0  # all calls of one
WHOLE = 16 << 20  # bytes that a call or a program may say
READY_S = 10.0
SETTLE_S = 1.0  # for processes that are about to end
LOOK_S = 0.5  # how often it is seen how much a call has written
SAID = 1000  # characters of what a call says that stand in a reason
POLL_S = 0.005  # there is no event for a file that grows
CALLS = ("create", "created=state", "start", "ready", "running=state", "kill=kill KILL", "end",
         "stopped=state", "delete")  # fmt: skip
APPLETS = (
    *("sh", "cat", "echo", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "pwd"),
    *("readlink", "sleep", "stat", "stty", "tr", "true", "tty", "umask", "uname", "wc"),
)


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bundle of golden/bundles.toml, and what is done with it."""

    name: str
    says: str
    calls: tuple[str, ...] = CALLS  # [LABEL=]COMMAND [WORDS]; `ready` and `end` wait, `edit` edits
    asks: dict[str, str] = {}  # name -> shell command whose output is told
    last: str = "echo == ready; exec sleep 1000"
    program: list[str] | None = None  # instead of the shell that asks
    hooks: list[str] = []
    fails: str = ""  # the hook that does
    config: dict[str, Any] = {}  # a merge patch for bundle.json
    text: str = ""  # config.json, where it is no such document


def load_bundles(golden: Path) -> dict[str, Recipe]:
    """Return the bundles of golden/bundles.toml by name. Raises ValueError, one line."""
    path = golden / "bundles.toml"
    try:
        recipes = msgspec.convert(tomllib.loads(path.read_text())["bundle"], list[Recipe])
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return {recipe.name: recipe for recipe in recipes}


def merge(target: Any, patch: Any) -> Any:
    """Return a document with a JSON merge patch applied. Source: RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime's command line: what comes before it, and the program."""

    program: str
    around: tuple[str, ...] = ()

    def version(self) -> tuple[str, str]:
        """Return name and version as `--version` tells. Raises OSError, ValueError."""
        with strays.adopted(), tempfile.TemporaryFile() as file:
            status = run([self.program, "--version"], CALL_S, stdin=file, stdout=file, stderr=file)
            file.seek(0)
            said = file.read(SAID).decode(errors="replace")
        words = said.split()
        if status or len(words) < 3 or words[1] != "version":
            raise ValueError(f"{self.program} --version: {said.strip()!r}")
        return words[0], words[2].partition("+")[0]


def run(argv: Sequence[str], limit_s: float, **files: IO[bytes]) -> int:
    """Run a program with files for its streams; return its exit status.

    Raises subprocess.SubprocessError when it takes too long or writes more than WHOLE; it
    is dead then, and what it started is left to `strays`.
    """
    child = subprocess.Popen(argv, **files)  # type: ignore[call-overload]
    end = time.monotonic() + limit_s
    while True:
        try:
            return int(child.wait(LOOK_S))
        except subprocess.TimeoutExpired:
            much = any(os.fstat(file.fileno()).st_size > WHOLE for file in files.values())
            late = time.monotonic() > end
            if not (much or late):
                continue
        child.kill()
        child.wait()
        why = f"no end after {limit_s:.0f} s" if late else f"it says more than {WHOLE >> 20} MiB"
        raise subprocess.SubprocessError(f"{' '.join(argv)}: {why}")


def text_of(path: Path) -> str:
    """Return what a regular file holds, at most WHOLE bytes of it; "" where it is none."""
    if disk.kind_of(str(path)) != "file":
        return ""
    with path.open("rb") as file:
        return file.read(WHOLE).decode(errors="replace")


class Attempt:
    """One bundle from create to what is left of it. `root`: a directory of its own."""

    def __init__(self, runtime: Runtime, recipe: Recipe, base: dict[str, Any], root: Path) -> None:
        self.runtime, self.recipe, self.root = runtime, recipe, root
        self.id = f"startkit-{recipe.name}-{os.getpid()}"
        self.bundle = root / "bundle"
        self.hooks = self.bundle / "rootfs" / "hooks"
        self.output = root / "output"
        self.config = self.filled(merge(base, recipe.config))
        self.pid = 0
        self.before: set[int] = set()  # our children that have nothing to do with it
        self.end = time.monotonic() + TRIAL_S
        self.terminal = -1  # our end of the container's
        self.calls: dict[str, Ran] = {}
        self.glimpses: dict[str, Glimpse] = {}

    def filled(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config with places, program and hooks put in."""
        text = json.dumps(config).replace("<BUNDLE>", str(self.bundle)).replace("<ID>", self.id)
        found: dict[str, Any] = json.loads(text)
        asks = [f"echo '== {name}'; {{ {ask}; }} 2>&1" for name, ask in self.recipe.asks.items()]
        script = "\n".join([*asks, self.recipe.last])
        program = self.recipe.program
        found["process"]["args"] = ["/bin/sh", "-c", script] if program is None else program
        if self.recipe.hooks:
            found["hooks"] = {kind: [self.hook(kind)] for kind in self.recipe.hooks}
        return found

    def hook(self, kind: str) -> dict[str, Any]:
        """Return a hook that writes down that it ran, what it was told, and where it was."""
        place = "/hooks" if kind == "startContainer" else self.hooks
        status = int(kind == self.recipe.fails)
        # long enough for who does not wait for it
        late = "sleep 0.2; " if kind == "startContainer" else ""
        script = late + (
            f"echo {kind} >> {place}/order; cat > {place}/{kind}.state; "
            f"readlink /proc/self/ns/uts > {place}/{kind}.uts; exit {status}"
        )
        return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}

    def run(self) -> Trial:
        """Make the bundle, call the runtime, take everything away."""
        broken, left = None, []
        with strays.adopted() as self.before:  # init becomes our child
            try:
                self.write()
                for step in self.recipe.calls:
                    self.step(step)
                left = self.leftovers()
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                broken = str(error)[:SAID]
            finally:
                self.clear()
        self.clear_host()
        return Trial(
            name=self.recipe.name,
            id=self.id,
            bundle=str(self.bundle),
            config=self.config,
            calls=self.calls,
            glimpses=self.glimpses,
            output=self.said(),
            files=self.files(),
            leftovers=left,
            broken=broken,
        )

    def write(self) -> None:
        """Write bundle and rootfs: busybox, and names for it."""
        busybox = shutil.which("busybox")
        if busybox is None:
            raise ValueError("busybox is not installed: apt-get install busybox-static")
        binaries = self.bundle / "rootfs" / "bin"
        binaries.mkdir(parents=True)
        self.hooks.mkdir(mode=0o777)
        shutil.copy(busybox, binaries / "busybox")
        for applet in APPLETS:
            (binaries / applet).symlink_to("busybox")
        for name in ("dev", "proc", "sys"):  # in a user namespace nobody there may make them
            (self.bundle / "rootfs" / name).mkdir()
        self.root.chmod(0o755)  # for a user namespace's root
        (self.bundle / "file").write_text("of the bundle\n")
        self.write_config(self.config)

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json, or the recipe's text for it."""
        (self.bundle / "config.json").write_text(self.recipe.text or json.dumps(config))

    def files(self) -> dict[str, str]:
        """Return what hooks wrote, the pid file, and in `kept` what is in the bundle afterwards."""
        found = {path.name: text_of(path) for path in sorted(self.hooks.glob("*"))}
        found["pid"] = text_of(self.root / "pid")
        found["kept"] = " ".join(sorted(path.name for path in self.bundle.glob("*")))
        return found

    def step(self, step: str) -> None:
        """Do one step of the recipe."""
        label, _, call = step.rpartition("=")
        command, *words = call.split()
        if step == "ready":
            self.until_said("== ready")
        elif step == "end":
            self.until_ended()
        elif step == "edit":
            late = {"process": {"args": ["/bin/sh", "-c", "echo == late; exec sleep 1000"]}}
            self.write_config(merge(self.config, late))
        else:
            self.call(label or command, command, words)

    def call(self, label: str, command: str, words: Sequence[str]) -> None:
        """Call the runtime, keep what came of it; `state` is a glimpse as well."""
        argv = [self.runtime.program, "--root", str(self.root / "state"), command]
        flags = [word for word in words if word.startswith("-")]
        rest = [word for word in words if not word.startswith("-")]
        if command == "create":
            flags += ["--bundle", str(self.bundle), "--pid-file", str(self.root / "pid")]
        named = rest and rest[0] == "NOBODY"
        argv += [*flags, "nobody" if named else self.id, *rest[bool(named) :]]
        own = self.output if command == "create" else self.root / "own"
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(own.open("ab+"))
            errors = stack.enter_context((self.root / "errors").open("wb+"))
            # Not the null device: crun 1.8 gives a container's input to its user, device or not.
            nothing = stack.enter_context((self.root / "nothing").open("wb+"))
            console = self.listen(stack) if command == "create" else None
            if console:
                argv[4:4] = ["--console-socket", console.getsockname()]
            limit_s = min(CALL_S, self.end - time.monotonic())
            status = run([*self.runtime.around, *argv], limit_s,
                         stdin=nothing, stdout=out, stderr=errors)  # fmt: skip
            if console and not status:
                self.take_terminal(console)
        text = "" if command == "create" else text_of(own)
        if command != "create":
            own.unlink()
        said = text + text_of(self.root / "errors")
        self.calls[label] = Ran(argv=argv[3:], status=status, said=said)
        if command == "create" and not status:
            self.pid = self.init()
        if command == "state":
            self.glimpses[label] = self.glimpse(text)

    def init(self) -> int:
        """Return the pid in the pid file. Raises ValueError where it is not below us."""
        text = text_of(self.root / "pid").strip()
        pid = int(text) if text.isdecimal() else 0
        if pid not in strays.descendants(self.before):
            raise ValueError(f"create: done, but its pid file has no child of it: {text[:40]!r}")
        return pid

    def glimpse(self, text: str) -> Glimpse:
        """Return what `state` said and what is to be seen of the process that it names."""
        try:
            state = msgspec.json.decode(text)
        except (ValueError, RecursionError):
            state = None
        pid = state.get("pid") if isinstance(state, dict) else None
        ours = isinstance(pid, int) and pid in strays.descendants(self.before)
        directories = cgroups.find(self.id)
        return Glimpse(
            state=state if isinstance(state, dict) else None,
            init=procfs.process(pid) if isinstance(pid, int) and ours else None,
            cgroup_dirs=directories,
            cgroup_files=cgroups.files(directories),
            output=self.said(),
        )

    def listen(self, stack: contextlib.ExitStack) -> socket.socket | None:
        """Return a socket for a terminal's other end to come through, where the config has one."""
        if not self.config["process"].get("terminal"):
            return None
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(self.root / "console"))
        listening.listen()
        listening.settimeout(READY_S)
        return listening

    def take_terminal(self, listening: socket.socket) -> None:
        """Receive the terminal's other end, as a runtime sends it over a console socket."""
        with listening.accept()[0] as connection:
            connection.settimeout(READY_S)
            _, (self.terminal, *_), _, _ = socket.recv_fds(connection, 64, 1)

    def said(self) -> str:
        """Return what the program has said so far."""
        while self.terminal >= 0 and select.select([self.terminal], [], [], 0)[0]:
            try:
                data = os.read(self.terminal, 4096)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            with self.output.open("ab") as file:
                file.write(data.replace(b"\r", b""))
                if not data or file.tell() > WHOLE:
                    break
        return text_of(self.output)

    def until_said(self, text: str) -> None:
        """Wait until the program has said something, has ended, or READY_S are over."""
        end = time.monotonic() + READY_S
        while text not in self.said() and time.monotonic() < end and not self.ended(0):
            time.sleep(POLL_S)

    def until_ended(self) -> None:
        """Wait for init's end; reap it, as its parent has to."""
        self.ended(READY_S)

    def ended(self, timeout_s: float) -> bool:
        """Say whether init has ended, at most `timeout_s` from now; it is reaped then."""
        if not self.pid:
            return True
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not select.select([handle], [], [], timeout_s)[0]:
                return False
        finally:
            os.close(handle)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        return True

    def leftovers(self) -> list[str]:
        """Return what is left of the container after the recipe's last call."""
        found = [f"cgroup {path}" for path in cgroups.find(self.id).values()]
        found += [f"mount {one.target}" for one in procfs.mounts() if self.below(one.target)]
        state = self.root / "state"
        found += [f"state {path.name}" for path in sorted(state.glob("*"))]
        found += [f"state {path}" for path in disk.named("/run", self.id)]
        return found + [f"process {' '.join(one.argv)}" for one in self.living()]

    def living(self) -> list[Process]:
        """Return the processes that do not end within SETTLE_S; those of a container kept, now."""
        end = time.monotonic() + (0 if (self.root / "state" / self.id).exists() else SETTLE_S)
        while True:
            below = map(procfs.process, strays.descendants(self.before))
            found = [one for one in below if one and one.argv]  # the dead have no arguments
            if not found or time.monotonic() > end:
                return found
            time.sleep(POLL_S)

    def below(self, path: str) -> bool:
        """Say whether a path lies in the bundle."""
        return path.startswith(f"{self.bundle}/")

    def clear(self) -> None:
        """Let the runtime remove what may be left; processes are ended by who adopts them."""
        argv = [self.runtime.program, "--root", str(self.root / "state"), "delete", "--force"]
        with (
            contextlib.suppress(OSError, subprocess.SubprocessError),
            (self.root / "errors").open("wb+") as file,
        ):
            run(
                [*self.runtime.around, *argv, self.id], CALL_S, stdin=file, stdout=file, stderr=file
            )
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1

    def clear_host(self) -> None:
        """Remove what a runtime has left where it was not told to leave anything."""
        for place in disk.named("/run", self.id):
            shutil.rmtree(place, ignore_errors=True)
        cgroups.remove(self.id)
