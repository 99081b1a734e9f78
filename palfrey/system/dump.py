"""Stacks of a process that hangs, written by a signal handler in C: it needs neither the interpreter nor its lock.

Two signals, sent by the arbiter (`palfrey/master/hands.py`) or by people: SIGUSR2 shows where a process is and lets it
go on, SIGABRT shows it and then does what it did before (a worker ends). What is written goes to the descriptor as it
is, without a time or a label.

After either a Python handler is called, once the interpreter turns in the main thread: at once in a loop, a sleep, a
wait for a lock or a regular expression, never inside other C code. Python's `signal` and `faulthandler` know nothing of
one another: whoever replaces the handler of the one has to arm the other anew, which is why both are done here.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType

DUMP = signal.SIGUSR2
"""Shows the stacks of all threads, and is nothing else to a process that was armed."""

Handler = Callable[[int, FrameType | None], object]


def dump_on_abort(fd: int, then: Handler | None = None) -> None:
    """Arm this process for SIGABRT, and for the signals of a crash. `fd` must stay open and the same file.

    Afterwards `then` is called; without it, the process ends by the signal.
    """
    faulthandler.disable()
    signal.signal(signal.SIGABRT, then or signal.SIG_DFL)
    faulthandler.enable(file=fd, all_threads=True)  # register() does not take SIGABRT


def dump_on_request(fd: int, then: Handler | None = None) -> None:
    """Arm this process for DUMP; afterwards `then` is called, and what was interrupted goes on.

    May be called again: with another `then`, or because an application may have changed what the signal does. A
    handler of the application's own stays, and is called after the stacks in place of `then`.
    """
    theirs = signal.getsignal(DUMP)
    faulthandler.unregister(DUMP)
    if not callable(theirs) or isinstance(theirs, _Shown):
        signal.signal(DUMP, _Shown(then))
    # With `chain` the kernel does not resume a system call that was interrupted, such as a wait for a lock: else Python
    # would come to call `then` only when it is over. (It resumes them itself.)
    faulthandler.register(DUMP, file=fd, all_threads=True, chain=True)


class _Shown:
    """What Python calls after a dump."""

    def __init__(self, then: Handler | None) -> None:
        self._then = then

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self._then is not None:
            self._then(signum, frame)


def write_lines(fd: int, lines: list[str]) -> None:
    """Below a dump and in the same manner: not by logging, which may be what hangs."""
    try:
        os.write(fd, "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
    except OSError:  # nobody reads; the dump itself did not arrive either
        pass


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, a debugger); False where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in b"Tt"
    except (OSError, IndexError):
        return False
