"""The life of one container, seen from its shim.

START ends with the report to containerd; then the loop copies bytes and obeys
`control` until init has exited; then END. The shim's own exit closes `exit`, which
tells containerd that the container is gone, whoever died first. Source: era 6.
"""

from __future__ import annotations

import os
import time

from startkit import kernel, steps
from startkit.shim import lines, reap, streams
from startkit.shim.fifos import Fifo
from startkit.shim.runtime import OciError, Runtime
from startkit.shim.stdio import Pipes
from startkit.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from startkit.shim.console import Terminal

REPORT = 1  # a shim's stdout is a pipe to containerd
GRACE_MS = 2000  # for output that a process outside the container may still hold open
PAUSES_S = (0.001, 0.005, 0.02, 0.1)  # a pipe tells nobody that it has become empty


class Shim:
    """One container: what the steps work on."""

    def __init__(self, container: str, bundle: str, runtime: str) -> None:
        self.id, self.bundle, self.runtime_name = container, bundle, runtime
        self.process: dict[str, Any] = {}
        self.fifos: dict[str, Fifo] = {}
        self.streams: list[streams.Stream] = []
        self.exit = self.control = -1
        self.pid = 0
        self.takes_all_along = True  # init's death kills its pid namespace
        self.status: int | None = None
        self.half_line = b""
        self.children = reap.watch_children()

    def read_process(self) -> None:
        """Learn from process.json what containerd wants; the current directory holds it."""
        self.process = lines.read("process.json")
        self.runtime = Runtime(self.runtime_name, self.process.get("runtimeArgs", []))

    def become_subreaper(self) -> None:
        """Make the shim the parent of what the runtime leaves behind."""
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)

    def open_exit(self) -> None:
        """Hold `exit` for writing: containerd sees end of file when the shim is gone.

        Until here stderr was `exit`: no shim is ever alive and taken for dead.
        """
        self.exit = os.open("exit", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(0, 2)

    def open_control(self) -> None:
        """Hold both ends of `control`, so that a dead containerd is no end of file."""
        self.control = os.open("control", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def open_fifos(self) -> None:
        """Open both ends of the FIFOs that dockerd has made, and the container's own ends."""
        names = ("stdin", "stdout") if self.process["terminal"] else ("stdin", "stdout", "stderr")
        for name in names:
            if path := self.process.get(name):
                self.fifos[name] = Fifo(path)
        self.stdio = self.terminal() if self.process["terminal"] else Pipes(self.fifos)

    def terminal(self) -> Terminal:
        """Return a terminal; its module brings two more, which most shims do without."""
        from startkit.shim.console import Terminal

        return Terminal(self.fifos)

    def close_fifos(self) -> None:
        """Let go of the FIFOs."""
        for fifo in self.fifos.values():
            fifo.close()
        self.fifos.clear()
        self.stdio.close()

    def create(self) -> None:
        """Run the runtime's create: afterwards init exists and waits."""
        options = ["--bundle", self.bundle, "--pid-file", os.path.abspath("pid")]
        options += self.stdio.options
        if self.process.get("noPivotRoot"):
            options.append("--no-pivot")
        try:
            self.runtime.run("create", *options, self.id, stdio=self.stdio.stdio)
            with open("pid") as pid:
                self.pid = int(pid.read())
            self.takes_all_along = reap.is_namespace_init(self.pid)
            self.streams = self.stdio.connect()
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """Delete what create made, quietly: create may have made nothing."""
        try:
            self.runtime.run("delete", "--force", self.id)
        except Exception as error:
            lines.log(f"delete: {error}", "warning")

    def start(self) -> None:
        """Run the runtime's start: the user's program replaces init."""
        self.runtime.run("start", self.id)
        self.runtime.rest()

    def report(self) -> None:
        """Tell containerd init's pid; where it has died meanwhile, the next reads `starttime`."""
        lines.write("starttime", reap.start_time(self.pid))
        tell(pid=self.pid)
        os.dup2(0, REPORT)

    def serve(self) -> None:
        """Copy and obey until init has exited."""
        while self.status is None:
            self.turn()

    def turn(self, timeout_ms: int | None = None) -> bool:
        """Wait for something to do, and do it; tell whether there was anything."""
        ready = streams.wait(self.streams, [self.children, self.control], timeout_ms)
        if self.children in ready:
            os.read(self.children, 4096)
            self.status = reap.reap().get(self.pid, self.status)
        if self.control in ready:
            self.obey(os.read(self.control, 4096))
        streams.step_ready(self.streams, ready)
        return bool(ready)

    def obey(self, orders: bytes) -> None:
        """Carry out lines of `control`: TYPE WIDTH HEIGHT, where 0 closes stdin and 1 resizes."""
        *whole, self.half_line = (self.half_line + orders).split(b"\n")
        for order in whole:
            try:
                kind, width, height = (int(word) for word in order.split())
                if kind == 0 and (stdin := self.stdin()):
                    stdin.close_when_empty()
                elif kind == 1:
                    self.stdio.resize(width, height)
            except (OSError, ValueError) as error:
                lines.log(f"control: {order.decode(errors='replace')}: {error}")

    def stdin(self) -> streams.Stream | None:
        """Return the stream towards the container, out of a FIFO; None once nothing goes in."""
        source = self.fifos["stdin"].read if "stdin" in self.fifos else None
        return next((s for s in self.streams if s.source == source), None)

    def write_exit_status(self) -> None:
        """Put on record how init ended, before anything else can go wrong."""
        lines.write("exitStatus", str(self.status))

    def kill_rest(self) -> None:
        """Kill what init left behind, where no pid namespace has done so."""
        if not self.takes_all_along:
            self.runtime.run("kill", "--all", self.id, "KILL")

    def drain(self) -> None:
        """Deliver everything that the container wrote, and wait until dockerd has read it."""
        if stdin := self.stdin():
            self.streams.remove(stdin)
        while any(stream.wants() for stream in self.streams):
            if not self.turn(GRACE_MS) and self.is_hopeless():
                break
        pauses = iter(PAUSES_S)
        while not self.let_go():
            time.sleep(next(pauses, PAUSES_S[-1]))

    def let_go(self) -> bool:
        """Close each FIFO that has been read to its end, or cannot be; tell whether all are."""
        for name in self.outputs():
            fifo = self.fifos[name]
            if not fifo.unread() or not fifo.is_linked():
                fifo.close()
                del self.fifos[name]
        return not self.outputs()

    def outputs(self) -> list[str]:
        """Return the names of the FIFOs that dockerd reads."""
        return [name for name in self.fifos if name != "stdin"]

    def is_hopeless(self) -> bool:
        """Tell whether waiting longer brings nothing: all is delivered, or nobody can read."""
        return not any(s.pending for s in self.streams) or not any(
            self.fifos[name].is_linked() for name in self.outputs()
        )

    def delete(self) -> None:
        """Run the runtime's delete: no cgroup and no state of the container is left."""
        self.runtime.run("delete", self.id)
        self.runtime.rest()


START = (
    Step("read-process", Shim.read_process, says="process.json, containerd's wishes"),
    Step("become-subreaper", Shim.become_subreaper, says="orphans of the runtime become children"),
    Step("open-exit", Shim.open_exit, says="its end of file will tell that the container is gone"),
    Step("open-control", Shim.open_control, says="orders: close stdin, resize"),
    Step("open-fifos", Shim.open_fifos, Shim.close_fifos, says="both ends of each named pipe"),
    Step("create", Shim.create, Shim.forget, says="the runtime makes the container; init waits"),
    Step("start", Shim.start, says="the user's program takes init's place"),
    Step("report", Shim.report, says="starttime and init's pid, to containerd"),
)
END = (
    Step("write-exit-status", Shim.write_exit_status, says="exitStatus, 128 + N for a signal"),
    Step("kill-rest", Shim.kill_rest, says="whoever outlived init"),
    Step("drain", Shim.drain, says="dockerd reads the last bytes, then end of file"),
    Step("close-fifos", Shim.close_fifos, says="nothing more goes in"),
    Step("delete", Shim.delete, says="the runtime takes the container apart"),
)


def main(argv: list[str]) -> int:
    """Run `ID BUNDLE RUNTIME`.

    With a word more it is not the container's own shim, but runs one command of its
    runtime: pause, resume, or delete to clean up after a shim that was killed.
    """
    if len(argv) < 3:
        os.write(2, b"startkit-containerd-shim: want ID BUNDLE RUNTIME; containerd calls it\n")
        return 2
    shim = Shim(*argv[:3])
    kernel.set_title(["docker-containerd-shim", *argv[:3]])
    try:
        if argv[3:]:
            shim.read_process()
            shim.forget() if argv[3] == "delete" else shim.runtime.run(argv[3], shim.id)
            tell(pid=0)
            return 0
        steps.run(START, shim)
    except BaseException as error:
        report_failure(error)
        return 1
    shim.serve()
    code = 0
    for step in END:
        try:
            step.do(shim)
        except Exception as error:
            lines.log(f"{step.name}: {type(error).__name__}: {error}")
            code = 1  # containerd cleans up after this shim as after a killed one
    return code


def report_failure(error: BaseException) -> None:
    """Tell containerd, in the words that reach the client, and the shim's own log."""
    who = "oci runtime error" if isinstance(error, OciError) else "shim error"
    text = f"{who}: {error}"
    lines.log("; ".join([text, *getattr(error, "__notes__", [])]))
    tell(error=text)


def tell(**fields: str | int) -> None:
    """Say one line to containerd; where it has died, the next one finds its own way."""
    try:
        os.write(REPORT, lines.line(**fields))
    except BrokenPipeError:
        lines.log("containerd is not there to hear it", "warning")
