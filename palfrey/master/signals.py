"""The signals that the arbiter obeys: one table, and an inbox that wakes the selector.

Handlers only record: Python runs them between any two bytecodes, so that nothing may be decided there. The C part of
a handler also writes to a socketpair (`signal.set_wakeup_fd`) that the arbiter's selector watches; the arbiter then
`take()`s what has come, in order. From `install()` on no signal is lost, however long the set-up takes: it waits in
the inbox. `blocked()` holds signals back in the kernel while handlers are put in place, and across a fork, so that
one meant for a new child meets the child's own dispositions and not the arbiter's inbox.
"""

from __future__ import annotations

import signal
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from palfrey.system.process import close_fds


@dataclass(frozen=True, slots=True)
class Command:
    """A signal, and what the arbiter does on it: the method `on_<handler>` of `palfrey.master.orders.Orders`."""

    signum: int
    handler: str
    doc: str

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name


SIGNALS: tuple[Command, ...] = (
    Command(signal.SIGTERM, "stop", "stop gracefully: workers finish what they have begun"),
    Command(signal.SIGINT, "quit", "stop at once"),
    Command(signal.SIGQUIT, "quit", "stop at once"),
    Command(signal.SIGHUP, "reload", "reload configuration and application, losing no request"),
    Command(signal.SIGTTIN, "more", "one worker more"),
    Command(signal.SIGTTOU, "fewer", "one worker fewer"),
    Command(signal.SIGUSR1, "reopen", "open log files anew, after a rotation"),
    Command(signal.SIGUSR2, "upgrade", "start the original command anew and hand the service over to it"),
    Command(signal.SIGWINCH, "withdraw", "in an upgrade that waits for you: retire the workers, keep the arbiter"),
    Command(signal.SIGCHLD, "child", "a worker has ended or stopped"),
)

IGNORED: tuple[int, ...] = (signal.SIGPIPE,)
"""Python's own choice, kept against whoever started us with another."""

IN_A_WORKER: dict[int, signal.Handlers] = {
    **{command.signum: signal.SIG_DFL for command in SIGNALS},
    # The terminal sends INT and HUP to the whole foreground group; the arbiter tells the workers what follows.
    signal.SIGINT: signal.SIG_IGN,
    signal.SIGHUP: signal.SIG_IGN,
    # Operators' `pkill -USR1 palfrey` and the like reach a worker before it has handlers of its own.
    signal.SIGUSR1: signal.SIG_IGN,
    signal.SIGUSR2: signal.SIG_IGN,
    signal.SIGTTIN: signal.SIG_IGN,
    signal.SIGTTOU: signal.SIG_IGN,
    signal.SIGPIPE: signal.SIG_IGN,
}
"""What a worker is born with. `palfrey/workers/worker.py` puts its own handlers over some of these."""


@contextmanager
def blocked() -> Iterator[set[int]]:
    """Hold back every signal of the table until the end of the block; gives those that were blocked before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {command.signum for command in SIGNALS})
    try:
        yield {int(signum) for signum in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What an operator who wants the service to end sends."""
AGAIN = 1.0
"""Seconds after which code that has caught the first interruption is interrupted again."""


class Interrupted(BaseException):
    """Raised in the user's code that the arbiter runs, see `Inbox.impatient`."""


class Inbox:
    """Signals that have come and were not taken yet."""

    def __init__(self) -> None:
        self._arrived: deque[int] = deque()
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._before: dict[int, object] = {}
        self._blocked: set[int] = set()
        self._impatient = False

    def fileno(self) -> int:
        """Readable when something has arrived."""
        return self._wake.fileno()

    def install(self) -> None:
        """Take over the signals of the table, those too that were blocked by whoever started us. Main thread only."""
        with blocked() as before:
            self._before = self._put_handlers()
            self._blocked = before & _BY_NUMBER.keys()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._blocked)

    def _put_handlers(self) -> dict[int, object]:
        """In place; those that were there."""
        # A full pipe is no loss: it wakes already, and what has come is recorded by the handler.
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        before: dict[int, object] = {command.signum: signal.signal(command.signum, self._record) for command in SIGNALS}
        return before | {signum: signal.signal(signum, signal.SIG_IGN) for signum in IGNORED}

    def _record(self, signum: int, frame: FrameType | None) -> None:
        self._arrived.append(signum)
        if self._impatient and signum in ENDINGS:
            raise Interrupted(f"{signal.Signals(signum).name} has come")

    @contextmanager
    def impatient(self, limit: float) -> Iterator[None]:
        """For code of the user's that the arbiter has to wait for: within, an order to end the service (which is taken
        afterwards, as ever) and the end of `limit` seconds (0: any number) raise Interrupted. What waits in C and does
        not ask for signals cannot be interrupted. Handlers that it puts in place of ours do not stay."""

        def give_up(signum: int, frame: FrameType | None) -> None:
            if self._impatient:
                raise Interrupted(f"not done within {limit:g} s")

        before = signal.signal(signal.SIGALRM, give_up)
        try:
            try:
                self._impatient = True
                signal.setitimer(signal.ITIMER_REAL, limit, AGAIN if limit else 0.0)
                yield
            finally:
                self._impatient = False
        finally:
            self._impatient = False  # once more, if just that was interrupted
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
            with blocked():
                self._put_handlers()  # what it imports may have put its own

    def take(self) -> list[Command]:
        """What has arrived since, oldest first; also empties the descriptor."""
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            pass
        taken = []
        while self._arrived:
            taken.append(_BY_NUMBER[self._arrived.popleft()])
        return taken

    def uninstall(self) -> None:
        """Give the signals back as they were, and close."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)
        with blocked():
            for signum, handler in self._before.items():
                signal.signal(signum, handler)  # type: ignore[arg-type]
            signal.set_wakeup_fd(-1)
        self._wake.close()
        self._waker.close()

    def shed(self) -> None:
        """In a forked child, signals still blocked: a worker's dispositions, and no trace of the inbox."""
        signal.set_wakeup_fd(-1)
        close_fds([self._wake.detach(), self._waker.detach()])
        for signum, disposition in IN_A_WORKER.items():
            signal.signal(signum, disposition)


_BY_NUMBER = {command.signum: command for command in SIGNALS}
