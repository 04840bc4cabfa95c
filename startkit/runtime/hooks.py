"""Hooks: programs of the config that run at fixed moments, the state on their stdin.

Rule: a hook gets the state, its own args and env and nothing else (without an `env` the
runtime's, as under runc and crun); its output is kept for the error message. Whether a
failure stops the container is the caller's business.

Source: OCI config.md POSIX-platform Hooks, runtime.md Lifecycle.
"""

from __future__ import annotations

import os
import select

from startkit.runtime.text import ContainerError, json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run_hooks(kind: str, hooks: list[dict[str, Any]], state: dict[str, Any]) -> None:
    """Run the hooks of one kind in order. Raises ContainerError at the first that fails."""
    for index, hook in enumerate(hooks):
        problem = run_hook(hook, json_text(state).encode())
        if problem:
            raise ContainerError(f"error running {kind} hook #{index} {hook['path']}: {problem}")


def run_hook(hook: dict[str, Any], state: bytes) -> str:
    """Run one hook to its end or its time limit; return what went wrong, or ""."""
    stdin, output = os.memfd_create("hook-stdin"), os.memfd_create("hook-output")
    os.write(stdin, state)
    os.lseek(stdin, 0, os.SEEK_SET)
    own = hook.get("env")
    environment = os.environ if own is None else dict(word.split("=", 1) for word in own)
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, output, 1),
               (os.POSIX_SPAWN_DUP2, output, 2)]  # fmt: skip
    try:
        arguments = hook.get("args") or [hook["path"]]
        pid = os.posix_spawn(hook["path"], arguments, environment, file_actions=actions)
        problem = wait(pid, hook.get("timeout"))
        said = os.pread(output, 2000, 0).decode(errors="replace").strip()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(stdin)
        os.close(output)
    return f"{problem}, output: {said}" if problem and said else problem


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
    return f"signal {-code}" if code < 0 else f"exit status {code}" if code else ""
