"""Signals without `signal`: that module would import `enum`, 3 ms, for its constants.

Rule: `_signal`, the C half of it, is touched nowhere else.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KILL, STOP = 9, 19
LIBC_OWN = (32, 33)  # signal(7): NPTL keeps the first two real-time signals


def number_of(word: str) -> int:
    """Return the number of a signal given as 9, KILL or SIGKILL; -1 where there is none.

    0 is one: kill(2) sends nothing and tells whether it could.
    """
    name = "SIG" + word.upper().removeprefix("SIG")
    number = int(word) if word.isascii() and word.isdecimal() else getattr(_signal, name, -1)
    return number if isinstance(number, int) and 0 <= number < _signal.NSIG else -1


def words(number: int) -> str:
    """Return a signal as runc words it: `signal: bad system call`."""
    return f"signal: {(_signal.strsignal(number) or str(number)).lower()}"


def restore_defaults() -> None:
    """Undo what Python, or the runtime's parent, did to signals: all default, none blocked."""
    for number in _signal.valid_signals():
        if number not in (KILL, STOP, *LIBC_OWN):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])


def on(number: int, handler: Callable[..., object]) -> None:
    """Call `handler(number, frame)` when the signal arrives."""
    _signal.signal(number, handler)


def send(handle: int, number: int) -> None:
    """Send a signal to the process behind a pidfd. Raises ProcessLookupError."""
    _signal.pidfd_send_signal(handle, number)
