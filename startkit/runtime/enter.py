"""`exec`: one more process in a container that is there already.

Rule: the process is our child and a member of the container's namespaces (cloned by a
throw-away child that joined them), and it does nothing before it stands in the container's
cgroups. It tells of a failure over a pipe that a successful exec closes.

Source: runc-exec(8), setns(2); CVE-2019-5736 (not dumpable from before it joins).
"""

from __future__ import annotations

import os

from startkit import kernel
from startkit.runtime import caps, cgroup, create, init, namespaces, process, state
from startkit.runtime.bundle import broken_rule
from startkit.runtime.shape import PROCESS
from startkit.runtime.text import ContainerError, parse_json, reason, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from startkit.runtime.text import Log

NAMESPACES = {"mnt": "mount", "net": "network", "uts": "uts", "ipc": "ipc", "pid": "pid",
              "user": "user", "cgroup": "cgroup"}  # fmt: skip


class Visit:
    """One `exec` in progress: whom to become, and, once inside, what to execute."""

    slave = hop = report = down = -1
    program = ""
    environment: dict[str, str]

    def __init__(self, container: state.Container, wanted: dict[str, Any], log: Log) -> None:
        self.container, self.process, self.log = container, wanted, log
        sets = caps.Sets(wanted.get("capabilities") or {})
        self.identity = process.Identity(wanted, sets, caps.bounding_set())
        self.console: Any = None
        self.preserve_fds = 0
        # Where --cgroup wants it to be; else it goes where the container is.
        self.cgroups: list[str] = []
        self.linux: dict[str, Any] = read_config(container).get("linux") or {}
        self.filter = create.compile_filter(self.linux.get("seccomp"))

    def ask_to_listen(self, listener: int) -> None:
        """Have the runtime give the seccomp agent our listener. Only write(2) is safe before."""
        os.write(self.report, b"\0%d" % listener)
        os.read(self.down, 2)


def read_config(container: state.Container) -> dict[str, Any]:
    """Return the config.json that the container was made from. Raises OSError, ValueError."""
    with open(os.path.join(container.record["bundle"], "config.json"), encoding="utf-8") as file:
        found: dict[str, Any] = parse_json(file.read())
    return found


def read_process(path: str) -> dict[str, Any]:
    """Return a process.json, checked. Raises ContainerError."""
    try:
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = parse_json(file.read())
    except OSError as error:
        raise ContainerError(f"open {reason(error)}") from None
    except ValueError as error:
        raise ContainerError(f"{path}: not JSON: {error}") from None
    return check_process(found, path)


def check_process(wanted: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return a process that breaks no rule. Raises ContainerError naming where it came from."""
    if isinstance(wanted, dict) and not wanted.get("args"):
        raise ContainerError("process args cannot be empty")
    broken = broken_rule(wanted, PROCESS, "")
    if broken:
        raise ContainerError(f"{origin} {broken}")
    return wanted


def describe_process(container: state.Container, args: list[str], flags: Any) -> dict[str, Any]:
    """Return the bundle's process with other arguments, and changed as the flags say."""
    wanted: dict[str, Any] = read_config(container)["process"]
    wanted["args"], wanted["terminal"] = args, "tty" in flags
    wanted["cwd"] = flags.get("cwd") or wanted["cwd"]
    wanted["env"] = [*(wanted.get("env") or ()), *split(flags, "env")]
    if "no-new-privs" in flags:
        wanted["noNewPrivileges"] = True
    if flags.get("user"):
        uid, _, gid = flags["user"].partition(":")
        wanted["user"] = {**(wanted.get("user") or {}), "uid": number("uid", uid)}
        if gid:
            wanted["user"]["gid"] = number("gid", gid)
    if "additional-gids" in flags:
        groups = [number("gid", word) for word in split(flags, "additional-gids")]
        wanted["user"] = {**(wanted.get("user") or {}), "additionalGids": groups}
    sets = dict(wanted.get("capabilities") or {})
    for kind in ("bounding", "effective", "permitted", "ambient"):
        sets[kind] = [*(sets.get(kind) or ()), *split(flags, "cap")]
    return check_process({**wanted, "capabilities": sets}, "exec")


def split(flags: dict[str, str], name: str) -> list[str]:
    """Return the values of a flag that may be given more than once."""
    return flags[name].split("\0") if flags.get(name) else []


def number(what: str, word: str) -> int:
    """Return an id. Raises ContainerError."""
    if not word.isdecimal():
        raise ContainerError(f"parsing {word} as int for {what} failed: invalid syntax")
    return int(word)


def execute(container: state.Container, args: list[str], flags: Any, log: Log) -> int:
    """Run a program in a container; return its exit code, or 0 at once with --detach."""
    detach, socket = "detach" in flags, flags.get("console-socket")
    refuse_status(container, paused="ignore-paused" in flags)
    if flags.get("process"):
        wanted = read_process(flags["process"])
    else:
        wanted = describe_process(container, args, flags)
    terminal = bool(wanted.get("terminal"))
    if terminal and detach and not socket:
        raise ContainerError("cannot allocate tty if we will detach without setting console socket")
    if socket and not (terminal and detach):
        raise ContainerError("cannot use console socket if we will not detach or allocate tty")
    visit = Visit(container, wanted, log)
    visit.preserve_fds = number("preserve-fds", flags.get("preserve-fds", "0"))
    visit.cgroups = sub_cgroups(container, split(flags, "cgroup"))
    receiver = open_console(visit, socket) if terminal else None
    pid = enter(visit)
    if flags.get("pid-file"):
        state.write_file(flags["pid-file"], str(pid), mode=0o644)
    if detach:
        return 0
    from startkit.runtime import foreground

    return foreground.stay(pid, receiver)


def refuse_status(container: state.Container, *, paused: bool) -> None:
    """Refuse to enter a container that is over, or, unless told to, one that stands still."""
    status = container.status()
    if status not in ("created", "running", "paused"):
        raise ContainerError(f"cannot exec in a {status} container")
    if status == "paused" and not paused:
        raise ContainerError("cannot exec in a paused container (use --ignore-paused to override)")


def open_console(visit: Visit, socket: str | None) -> Any:
    """Give the visit somewhere to send its terminal; return our end, if it is to us."""
    import _socket

    from startkit.runtime import console

    if socket:
        visit.console = console.connect(socket)
        return None
    visit.console, receiver = _socket.socketpair()
    return receiver


def enter(visit: Visit) -> int:
    """Return the pid of the visitor, once its program runs. Raises ContainerError."""
    if visit.process.get("rlimits"):
        import resource  # noqa: F401 (inside there is nothing to import from)
    if init.has_attributes(visit):
        import startkit.runtime.attributes  # noqa: F401 (as well)
    for name in visit.identity.sets.unavailable:
        visit.log.warning(f"capability {name} is not available, it is left out")
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    entries = open_namespaces(visit.container)
    down, up = os.pipe(), os.pipe()
    visit.report = up[1]
    visit.hop = init.build_hop(visit)
    visit.log.debug(f"nsexec container setup: clone into the namespaces of {visit.container.pid}")
    pid = namespaces.start_init(entries, None)
    if pid == 0:
        os.close(down[1])
        visit.down = down[0]
        be_visitor(visit, user=any(e["type"] == "user" for e in entries))
    visit.log.debug(f"child process in init(): {pid}")
    os.close(up[1])
    os.close(visit.hop)
    try:
        move(pid, visit)
        visit.log.debug("setns_init: about to exec")
        os.write(down[1], b"go")
        with open(up[0], "rb", 0) as pipe:
            said = pipe.read(65536) or b""
            if said[:1] == b"\0":
                from startkit.runtime import listener

                assert visit.filter is not None
                listener.hand_over(visit.filter, visit.container.describe(), pid, int(said[1:]))
                os.write(down[1], b"go")
                said = b""
            words = told(said + pipe.read())
        if words:
            raise ContainerError(words)
    except BaseException:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(down[1])
        if visit.console is not None:
            visit.console.close()
    return pid


def open_namespaces(container: state.Container) -> list[dict[str, str]]:
    """Open those of init's namespaces that are not ours, as entries with paths to join.

    Init is seen alive after they have been opened: they are not a later process's.
    """
    found = []
    for name, kind in NAMESPACES.items():
        fd = os.open(f"/proc/{container.pid}/ns/{name}", os.O_RDONLY)
        if os.fstat(fd).st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
            found.append({"type": kind, "path": f"/proc/self/fd/{fd}"})
    if not container.is_alive():
        raise ContainerError("cannot exec in a stopped container")
    return found


def sub_cgroups(container: state.Container, words: list[str]) -> list[str]:
    """Return the cgroups, each at the path below it that `[controller,...:]path` names.

    None without such words. Raises ContainerError.
    """
    found = cgroup.by_hierarchy(container.record["cgroups"]) if words else {}
    own = dict(found)
    for word in words:
        controllers, _, path = word.rpartition(":")
        if ".." in path.split("/"):
            raise ContainerError(f"{path} is not a sub cgroup path")
        for controller in controllers.split(",") if controllers else own:
            name = next((n for n in own if controller in (n, *n.split(","))), None)
            if name is None:
                raise ContainerError(f"unknown controller {controller} in --cgroup {word}")
            found[name] = os.path.join(own[name], path.strip("/")).rstrip("/")
    return list(found.values())


def move(pid: int, visit: Visit) -> None:
    """Put the visitor into the container's cgroups and set how readily it is killed."""
    for directory in visit.cgroups:
        try:
            cgroup.write(f"{directory}/cgroup.procs", str(pid))
        except OSError as error:
            raise ContainerError(f"adding pid {pid} to cgroups: {reason(error)}") from None
    for directory in () if visit.cgroups else visit.container.record["cgroups"]:
        version1 = os.path.exists(f"{directory}/tasks")
        try:
            cgroup.write(f"{directory}/{'tasks' if version1 else 'cgroup.procs'}", str(pid))
        except OSError as error:
            if version1 or error.errno != 16:
                raise
            # The container has cgroups of its own below this one: go where init went.
            path = read_unified(visit.container.pid)
            cgroup.write(f"{cgroup.read_hierarchies()['']}{path}/cgroup.procs", str(pid))
    if visit.process.get("oomScoreAdj") is not None:
        cgroup.write(f"/proc/{pid}/oom_score_adj", str(visit.process["oomScoreAdj"]))


def read_unified(pid: int) -> str:
    """Return a process's path in the v2 hierarchy."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))


def be_visitor(visit: Visit, *, user: bool) -> NoReturn:
    """Be the process inside: wait to be moved, become the user, execute; never return."""
    try:
        if os.read(visit.down, 2) != b"go":
            os._exit(init.EXIT_FAILED)
        os.setsid()
        process.close_on_exec(3 + visit.preserve_fds)
        init.join_keyring(visit.container.id)
        if user:
            init.become_root()
        if visit.console is not None:
            from startkit.runtime import console

            root = os.open("/", os.O_PATH | os.O_DIRECTORY)
            master, visit.slave = console.open_pty(root, visit.process.get("consoleSize"))
            console.send_descriptor(visit.console, master, b"/dev/ptmx")
        init.forget_imports()
        init.become_user(visit)
        process.execute(visit)
    except BaseException as error:
        os.write(visit.report, reason(error).encode())
    finally:
        os._exit(init.EXIT_FAILED)
