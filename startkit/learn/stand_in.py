"""A student's function in the engine's seat; two lines after a module of the engine call this.

Rule: it runs inside of dockerd, the shim and the runtime, so the standard library only, and
nothing is imported once a function runs: in init that would be the container's. What goes
wrong in the student's file is written down with its line, then it is the engine's to undo.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

LIMIT_S = 3.0
AGAIN_S = 0.2
LAST = 3  # a function that holds out against so many interruptions takes its process along
STOPPED = "no end after"
ENTER, LEAVE, NOTE, PRINT = "enter", "leave", "note", "print"
SHOWN, WIDTH = 20, 200  # lines that a process may print, characters of one


class Stopped(BaseException):
    """The time is over; `except Exception` in a student's loop does not stop this."""


class Seat:
    """One file of a course. `notes` is open from the start: later it may be out of reach."""

    def __init__(self, file: str, notes: str) -> None:
        self.file, self.times, self.returns = file, 0, ""
        self.shown = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.notes = os.open(notes, flags, 0o600)

    def call(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call within the limit. Raises what the function raises, never more than Exception."""
        before = signal.signal(signal.SIGALRM, self.interrupt)
        self.times = 0
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S, AGAIN_S)
        self.write(ENTER, function.__code__.co_firstlineno, os.getpid())
        try:
            result = function(*args, **named)
            self.look(function, result)
            return result
        except BaseException as error:
            text = self.tell(error)
            if isinstance(error, Exception):
                raise
            raise RuntimeError(text) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            self.write(LEAVE, 0, os.getpid())

    def interrupt(self, number: int, frame: object) -> NoReturn:
        """Handle SIGALRM, wherever the function is."""
        self.times += 1
        error = Stopped(f"{STOPPED} {LIMIT_S:.0f} s")
        if self.times == LAST:
            self.tell(error)
            os._exit(1)
        raise error

    def look(self, function: Callable[..., Any], result: object) -> None:
        """Note a result of another type than the engine's; what comes of it is to be seen."""
        name = self.returns.partition("[")[0].rpartition(".")[2]
        kinds = {one.__name__ for one in type(result).__mro__}
        if name not in {"", "Any", "None", *kinds}:
            text = f"returned {type(result).__name__}, not {self.returns}"
            self.write(NOTE, function.__code__.co_firstlineno, text)

    def tell(self, error: BaseException) -> str:
        """Note the error: the student's line, a tab, a sentence. Return the sentence."""
        line, at = 0, error.__traceback__
        while at:
            line = at.tb_lineno if at.tb_frame.f_code.co_filename == self.file else line
            at = at.tb_next
        name = [] if isinstance(error, Stopped) else [type(error).__name__]
        text = ": ".join([*name, *filter(None, [" ".join(str(error).split())])])
        self.write(NOTE, line, text)
        return text

    def show(self, *words: object, sep: str | None = " ", **_: object) -> None:
        """Stand in for `print`: who reads a shim's output? The first lines are kept."""
        for text in (sep or "").join(map(str, words)).split("\n"):
            self.shown += 1
            if self.shown <= SHOWN:
                self.write(PRINT, 0, text[:WIDTH])

    def write(self, kind: str, line: int, text: object) -> None:
        """Append a row to the notes: kind, the student's line, a text, with tabs between."""
        os.write(self.notes, f"{kind}\t{line}\t{text}\n".encode(errors="replace"))


def take(module: dict[str, Any], name: str, file: str, notes: str) -> None:
    """Put the function from `file` in the place of `name`, which is `function` or `Class.method`.

    The file sees the module's own names, as if it stood there.
    """
    seat = Seat(file, notes)
    owner, _, last = name.rpartition(".")
    with open(file, encoding="utf-8") as source:
        code = compile(source.read(), file, "exec")
    own = {**module, "__file__": file, "print": seat.show}
    seat.call(lambda: exec(code, own))
    function = own[last]

    def stand_in(*args: Any, **named: Any) -> Any:
        return seat.call(function, *args, **named)

    old = getattr(module[owner], last) if owner else module[last]
    seat.returns = old.__annotations__.get("return", "")
    if owner:
        setattr(module[owner], last, stand_in)
    else:
        module[last] = stand_in
    for steps in [value for value in module.values() if isinstance(value, tuple)]:
        for step in steps:
            if getattr(step, "do", None) is old:
                step.do = stand_in
