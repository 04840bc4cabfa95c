"""runc's command line.

Rule: the flags are data, the bodies are a few lines; everything else lies in the module
that a command is about, and is imported by that command alone: `state` and `kill` must
not pay for `create`.

Exit codes: 0, 1 for any failure with one line on stderr (and in --log), 3 for an unknown
command, as runc does; `run` exits as the container did.
"""

from __future__ import annotations

import gc
import os

from startkit import __version__
from startkit.runtime import state
from startkit.runtime.text import ContainerError, Log, json_text, reason, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Body = Callable[["Arguments"], int]

DEFAULT_ROOT = "/run/startkit-runc"
OCI_VERSION = "1.0.2"
MANY = 10**6

# flag: whether it takes a value. Both `--flag value` and `--flag=value`, one dash or two.
GLOBAL_FLAGS = {"root": True, "log": True, "log-format": True, "debug": False, "version": False,
                "systemd-cgroup": False, "help": False, "h": False, "v": False}  # fmt: skip
CREATE_FLAGS = {"bundle": True, "b": True, "console-socket": True, "pid-file": True,
                "no-pivot": False, "no-new-keyring": False, "preserve-fds": True}  # fmt: skip
RUN_FLAGS = {**CREATE_FLAGS, "detach": False, "d": False, "keep": False}
SHORT = {"b": "bundle", "d": "detach", "f": "force", "a": "all", "q": "quiet", "h": "help",
         "v": "version", "e": "env", "t": "tty", "u": "user", "c": "cap", "p": "process",
         "g": "additional-gids", "r": "resources"}  # fmt: skip
EXEC_FLAGS = {"console-socket": True, "cwd": True, "env": True, "e": True, "tty": False,
              "t": False, "user": True, "u": True, "additional-gids": True, "g": True,
              "process": True, "p": True, "detach": False, "d": False, "pid-file": True,
              "no-new-privs": False, "cap": True, "c": True, "preserve-fds": True,
              "ignore-paused": False, "cgroup": True}  # fmt: skip
UPDATE_FLAGS = dict.fromkeys(("resources", "r", "blkio-weight", "cpu-period", "cpu-quota",
    "cpu-share", "cpu-shares", "cpu-rt-period", "cpu-rt-runtime", "cpuset-cpus", "cpuset-mems",
    "memory", "memory-reservation", "memory-swap", "pids-limit"), True)  # fmt: skip
# Flags whose values add up, with NUL between.
REPEATED = ("env", "cap", "additional-gids", "cgroup")
# Commands whose words may look like flags, or come before them.
WORDY = ("kill", "exec", "ps")


class UsageError(ContainerError):
    """The command line itself is wrong."""


class Arguments:
    """A parsed command line: `flags` by long name, then the words that are left."""

    def __init__(self, root: str, log: Log) -> None:
        self.root, self.log = root, log
        self.flags: dict[str, str] = {}
        self.words: list[str] = []

    def container(self) -> state.Container:
        """Return the container that the first word names."""
        return state.load_container(self.root, self.words[0])


def parse_flags(words: list[str], known: dict[str, bool]) -> tuple[dict[str, str], list[str]]:
    """Return the leading flags by long name ("true" for those without a value), and the rest."""
    flags: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, given, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name not in known:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not known[name]:
            value = value or "true"
        elif not given:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        # -f is --force where there is one, --format elsewhere, as in runc.
        name = "format" if name == "f" and "format" in known else SHORT.get(name, name)
        flags[name] = f"{flags[name]}\0{value}" if name in REPEATED and name in flags else value
    return {name: value for name, value in flags.items() if value != "false"}, rest


def create(arguments: Arguments) -> int:
    """Create a container: all is set up, the program is not started."""
    from startkit.runtime import create as creator

    creator.create(prepare(arguments))
    return 0


def prepare(arguments: Arguments) -> creator.Creation:  # type: ignore[name-defined] # noqa: F821
    """Return the creation that the flags of `create` and `run` describe."""
    from startkit.runtime import bundle
    from startkit.runtime import create as creator

    flags = arguments.flags
    state.check_id(arguments.words[0])
    found = bundle.read_bundle(flags.get("bundle") or ".")
    creation = creator.Creation(arguments.root, arguments.words[0], found, arguments.log)
    creation.pid_file = flags.get("pid-file")
    creation.console_socket = flags.get("console-socket")
    creation.pivot = "no-pivot" not in flags
    creation.new_keyring = "no-new-keyring" not in flags
    count = flags.get("preserve-fds", "0")
    if not count.isdecimal():
        raise UsageError(f"--preserve-fds: {count} is not a number")
    creation.preserve_fds = int(count)
    return creation


def start(arguments: Arguments) -> int:
    """Run the program of a container that was created."""
    from startkit.runtime import lifecycle

    lifecycle.start(arguments.container(), arguments.log)
    return 0


def run(arguments: Arguments) -> int:
    """Create and start a container and, unless detached, wait for its end."""
    from startkit.runtime import foreground

    creation, detached = prepare(arguments), "detach" in arguments.flags
    return foreground.run(creation, detach=detached, keep="keep" in arguments.flags)


def show_state(arguments: Arguments) -> int:
    """Print a container's state as JSON."""
    say(json_text(arguments.container().describe()))
    return 0


def kill(arguments: Arguments) -> int:
    """Send a signal, SIGTERM by default, to a container's init."""
    from startkit.runtime import lifecycle

    number = parse_signal(arguments.words[1] if len(arguments.words) > 1 else "SIGTERM")
    lifecycle.kill(arguments.container(), number, everyone="all" in arguments.flags)
    return 0


def parse_signal(word: str) -> int:
    """Return the number of a signal given as 9, KILL or SIGKILL. Raises UsageError."""
    from startkit.runtime import signals

    number = signals.number_of(word)
    if number < 0:
        raise UsageError(f"unknown signal {word!r}")
    return number


def delete(arguments: Arguments) -> int:
    """Remove a stopped container; --force kills it first, and forgives that it does not exist."""
    from startkit.runtime import lifecycle

    force = "force" in arguments.flags
    try:
        container = arguments.container()
    except ContainerError:
        if not force:
            raise
        state.remove_remains(arguments.root, arguments.words[0])
        return 0
    lifecycle.delete(container, arguments.log, force=force)
    return 0


def show_list(arguments: Arguments) -> int:
    """List the containers under the root: a table, ids alone (-q), or JSON (-f json)."""
    found = state.list_containers(arguments.root)
    if "quiet" in arguments.flags:
        say("\n".join(container.id for container in found))
    elif arguments.flags.get("format") == "json":
        say(json_text([container.describe() for container in found]))
    else:
        row = "{:<66}{:<12}{:<12}{:<40}{}".format
        say(row("ID", "PID", "STATUS", "BUNDLE", "CREATED"))
        for container in found:
            seen = container.describe()
            say(row(*(str(seen[key]) for key in ("id", "pid", "status", "bundle", "created"))))
    return 0


def late(name: str, says: str) -> Body:
    """Return the body `commands.NAME`, imported only when it is called."""

    def body(arguments: Arguments) -> int:
        from startkit.runtime import commands

        return getattr(commands, name)(arguments) or 0

    body.__doc__ = says
    return body


def refuse(_: Arguments) -> int:
    """Not there: startkit-runc has no checkpoints."""
    raise ContainerError("startkit-runc has no checkpoints: it does not know CRIU")


# command: body, flags, (fewest, most) words, usage
COMMANDS: dict[str, tuple[Body, dict[str, bool], tuple[int, int], str]] = {
    "create": (create, CREATE_FLAGS, (1, 1), "<container-id>"),
    "start": (start, {}, (1, 1), "<container-id>"),
    "run": (run, RUN_FLAGS, (1, 1), "<container-id>"),
    "state": (show_state, {}, (1, 1), "<container-id>"),
    "kill": (kill, {"all": False, "a": False}, (1, 2), "<container-id> [signal]"),
    "delete": (delete, {"force": False, "f": False}, (1, 1), "<container-id>"),
    "exec": (
        late("run_inside", "Run one more program in a container; exit as it does."),
        EXEC_FLAGS,
        (1, MANY),
        "<container-id> <program> [argument...]",
    ),
    "ps": (
        late("show_processes", "List a container's processes: ps's own lines, or pids (-f json)."),
        {"format": True, "f": True},
        (1, MANY),
        "<container-id> [ps options]",
    ),
    "pause": (late("pause", "Freeze all processes of a container."), {}, (1, 1), "<container-id>"),
    "resume": (late("resume", "Let a paused container go on."), {}, (1, 1), "<container-id>"),
    "update": (
        late("update", "Change a container's limits."),
        UPDATE_FLAGS,
        (1, 1),
        "<container-id>",
    ),
    "events": (
        late("show_events", "Print statistics, once (--stats) or until the end."),
        {"stats": False, "interval": True},
        (1, 1),
        "<container-id>",
    ),
    "spec": (
        late("write_spec", "Write an example config.json."),
        {"bundle": True, "b": True, "rootless": False},
        (0, 0),
        "",
    ),
    "features": (late("show_features", "Print as JSON what this runtime can."), {}, (0, 0), ""),
    "checkpoint": (refuse, {}, (0, MANY), "<container-id>"),
    "restore": (refuse, {}, (0, MANY), "<container-id>"),
    "list": (show_list, {"format": True, "f": True, "quiet": False, "q": False}, (0, 0), ""),
}


def main(argv: list[str]) -> int:
    """Run one command line, without the program's name; return the exit code."""
    # A collection would touch every object, and in a fork copy every page of the parent:
    # 2 ms, for garbage of a process that ends in 10.
    gc.disable()
    log = Log()
    try:
        flags, words = parse_flags(argv, GLOBAL_FLAGS)
        if "version" in flags:
            say(f"startkit-runc version {__version__}\ncommit: v{__version__}\nspec: {OCI_VERSION}")
            return 0
        if "help" in flags or not words:
            say(help_text())
            return 0
        log = Log(flags.get("log"), flags.get("log-format", "text"), debug="debug" in flags)
        return run_command(flags, words, log)
    except (ContainerError, OSError) as error:
        log.error(reason(error))
    except KeyboardInterrupt:
        log.error("interrupted")
    return 1


def run_command(flags: dict[str, str], words: list[str], log: Log) -> int:
    """Run the command that the global flags are followed by."""
    if log.form not in ("text", "json"):
        raise UsageError(f"invalid log format {log.form!r}")
    if "systemd-cgroup" in flags:
        raise UsageError("--systemd-cgroup is not supported by startkit-runc")
    if words[0] not in COMMANDS:
        say(f"No help topic for {words[0]!r}", to=2)
        return 3
    body, known, (fewest, most), usage = COMMANDS[words[0]]
    arguments = Arguments(os.path.abspath(flags.get("root") or DEFAULT_ROOT), log)
    known = {**known, "help": False, "h": False}
    arguments.flags, arguments.words = parse_flags(words[1:], known)
    # runc takes flags behind the id as well: `kill --all ID`, `delete ID --force`.
    if arguments.words and words[0] not in WORDY:
        later, more = parse_flags(arguments.words[1:], known)
        arguments.flags |= later
        arguments.words = [arguments.words[0], *more]
    if "help" in arguments.flags:
        what = (body.__doc__ or "").strip()
        flags_text = " ".join(f"[--{flag}]" for flag in known if len(flag) > 1)
        say(f"NAME:\n   startkit-runc {words[0]} - {what}\n")
        say(f"USAGE:\n   startkit-runc {words[0]} {flags_text} {usage}".rstrip())
        return 0
    if not fewest <= len(arguments.words) <= most:
        raise UsageError(f"usage: startkit-runc {words[0]} [flags] {usage}".rstrip())
    log.debug(f"{words[0]} {' '.join(arguments.words)}")
    return body(arguments)


def help_text() -> str:
    """Return the overview that --help prints."""
    lines = ["NAME:", "   startkit-runc - Open Container Initiative runtime", "", "USAGE:",
             "   startkit-runc [--root DIR] [--log FILE] [--log-format text|json] [--debug]",
             "                 COMMAND [flags] [words]", "", "COMMANDS:"]  # fmt: skip
    lines += [f"   {name:12}{body.__doc__}" for name, (body, *_) in COMMANDS.items()]
    return "\n".join(lines)
