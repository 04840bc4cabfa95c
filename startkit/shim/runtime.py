"""runc's command line, one command after another.

Rule: `docker-runc` is the runtime of this project, in a forked child of the shim;
any other name or path is a program. The shim itself never imports the runtime.
"""

from __future__ import annotations

import fcntl
import os
import select

from startkit.shim import lines, reap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

EMBEDDED = "docker-runc"
LOG = "log.json"
DIED = 255  # the worker's own end; no command answers with it


class OciError(Exception):
    """The runtime said no; the text is its own last sentence."""


class Runtime:
    """One container's runtime. `options` go before every command."""

    def __init__(self, name: str, options: list[str]) -> None:
        self.name = name
        self.options = [*options, "--log", os.path.abspath(LOG), "--log-format", "json"]
        self.worker: Worker | None = None

    def run(self, *command: str, stdio: tuple[int, int, int] | None = None) -> None:
        """Run one command to its end, with `stdio` as its descriptors 0 to 2.

        Raises OciError, OSError where the program is not there.
        """
        argv = [*self.options, *command]
        run = self.run_embedded if self.name == EMBEDDED else self.run_program
        code = run(argv, stdio)
        if code:
            message = lines.last_error(LOG) or f"{self.name} {command[0]} exited with {code}"
            raise OciError(message)

    def run_program(self, argv: list[str], stdio: tuple[int, int, int] | None) -> int:
        """Start a program, and wait for it."""
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio or (0, 0, 0))
        ]
        pid = os.posix_spawnp(
            self.name,
            [self.name, *argv],
            os.environ,
            file_actions=actions,
            setsigdef=reap.ALL,
        )
        return reap.wait(pid)

    def run_embedded(self, argv: list[str], stdio: tuple[int, int, int] | None) -> int:
        """Hand the command to the forked worker, starting one where there is none."""
        if self.worker is None:
            self.worker = Worker(stdio or (0, 0, 0))
        code = self.worker.run(argv)
        if code == DIED:
            self.rest()
        return code

    def rest(self) -> None:
        """Let the worker go: what it imported goes with it."""
        if self.worker:
            self.worker.close()
            self.worker = None


class Worker:
    """A forked child that has imported the runtime and runs commands, one line each.

    `create` and `start` follow each other, and importing is most of their time.
    """

    def __init__(self, stdio: tuple[int, int, int]) -> None:
        orders, self.orders = os.pipe2(os.O_CLOEXEC)
        self.answers, answers = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if not self.pid:
            serve(orders, answers, stdio)
        os.close(orders)
        os.close(answers)
        self.death = os.pidfd_open(self.pid)

    def run(self, argv: list[str]) -> int:
        """Return the command's exit code, or the worker's own where it died of it."""
        os.write(self.orders, "\0".join(argv).encode() + b"\n")
        poll = select.poll()
        poll.register(self.answers, select.POLLIN)
        poll.register(self.death, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if self.answers in ready:
            answer = os.read(self.answers, 1)
            if answer:
                return answer[0]
        return DIED

    def close(self) -> None:
        """End the worker, and wait for its end."""
        for fd in (self.orders, self.answers, self.death):
            os.close(fd)
        reap.wait(self.pid)


def serve(orders: int, answers: int, stdio: tuple[int, int, int]) -> NoReturn:
    """Be the worker. Descriptors: `stdio` is 0 to 2, then the two pipes, and nothing else."""
    code = DIED
    try:
        reap.reset_signals()
        # Up to numbers that are free, then down: no dup2 hits one still needed.
        fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 5) for fd in (*stdio, orders, answers)]
        for number, fd in enumerate(fds):
            os.dup2(fd, number, inheritable=number < 3)
        os.closerange(5, 65536)
        from startkit.runtime import cli

        while order := os.read(3, 65536):
            os.write(4, bytes([call(cli.main, order[:-1].decode().split("\0")) & 255]))
        code = 0
    finally:
        os._exit(code)


def call(main: object, argv: list[str]) -> int:
    """Return the exit code of a command line's `main`, whichever way it ends."""
    try:
        return int(main(argv) or 0)  # type: ignore[operator]  # imported in the child only
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:
        lines.log(f"runtime: {type(error).__name__}: {error}")
        return 1
