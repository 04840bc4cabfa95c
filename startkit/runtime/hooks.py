"""Hooks: programs of the config that run at fixed moments, the state on their stdin.

Rule: a hook gets the state, its own args and env and nothing else (without an `env` the
runtime's, as under runc and crun); its output is kept for the error message. Whether a
failure stops the container is the caller's business.

Source: OCI config.md POSIX-platform Hooks, runtime.md Lifecycle.
"""

from __future__ import annotations

import os
import select

from startkit import kernel
from startkit.runtime import process, signals, trampoline
from startkit.runtime.text import ContainerError, json_text, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def run_hooks(
    kind: str, hooks: list[dict[str, Any]], state: dict[str, Any], way: tuple[int, int] = (-1, -1)
) -> None:
    """Run the hooks of one kind in order. Raises ContainerError at the first that fails.

    `way`: the hop, and its report, for programs that are the container's; see `trampoline.py`.
    """
    for index, hook in enumerate(hooks):
        problem = run_hook(hook, json_text(state).encode(), way)
        if problem:
            raise ContainerError(f"error running hook #{index} of {kind} {hook['path']}: {problem}")


def run_hook(hook: dict[str, Any], state: bytes, way: tuple[int, int]) -> str:
    """Run one hook to its end or its time limit; return what went wrong, or ""."""
    stdin, output = os.memfd_create("hook-stdin"), os.memfd_create("hook-output")
    os.write(stdin, state)
    os.lseek(stdin, 0, os.SEEK_SET)
    try:
        if not os.access(hook["path"], os.X_OK):
            os.stat(hook["path"])  # tells what is wrong, where it is not the mode
            raise PermissionError(13, "Permission denied")
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            be_hook(hook, (stdin, output, output), parent, way)
        problem = wait(pid, hook.get("timeout"))
        said = told(os.pread(output, 2000, 0)).strip()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(stdin)
        os.close(output)
    return f"{problem}, output: {said}" if problem and said else problem


def be_hook(
    hook: dict[str, Any], stdio: tuple[int, ...], parent: int, way: tuple[int, int]
) -> NoReturn:
    """Become the hook, which dies with the runtime: nobody else would know of it."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        if os.getppid() == parent:
            for number, fd in enumerate(stdio):
                os.dup2(fd, number)
            own = hook.get("env")
            environment = os.environ if own is None else dict(w.split("=", 1) for w in own)
            path, arguments = hook["path"], hook.get("args") or [hook["path"]]
            hop, report = way
            process.close_on_exec(3)
            if hop == -1:
                os.execve(path, arguments, environment)
            os.dup2(stdio[1], report)
            trampoline.jump(hop, report, [path, *arguments], dict(environment))
    except OSError as error:
        os.write(stdio[1], str(error.strerror).encode())
    finally:
        os._exit(127)


def wait(pid: int, timeout_s: int | None) -> str:
    """Wait for a child, kill it when its time is up; return what is wrong with its end, or ""."""
    handle = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    in_time = poll.poll(None if timeout_s is None else timeout_s * 1000)
    os.close(handle)
    if not in_time:
        os.kill(pid, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not in_time:
        return f"not done within {timeout_s} s"
    return signals.words(-code) if code < 0 else f"exit status {code}" if code else ""
