"""The successor's process: forked, and on its way to being another program.

Between fork and exec it is given the listeners (`palfrey/system/inheritance.py`), its end of the line to us, what
systemd meant for the service, and nobody's signal handlers; all else closes itself. What it writes to standard error
before it has come to itself (a missing interpreter, a broken installation) goes to a file without a name, so that its
words can be read here should they be its last.
"""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from palfrey.master.signals import SIGNALS, blocked
from palfrey.system.channel import Channel, channel_pair
from palfrey.system.inheritance import VARIABLE, bequeath

if TYPE_CHECKING:
    from palfrey.master.records import Pool
    from palfrey.master.start import House

NOT_EXECUTED = 127
"""The shell's exit status for a command that was not found."""
_LAST_WORDS = 16384
"""Bytes of a failed successor's standard error that are read."""


class Successor:
    """The predecessor's side: the process, the line to it, and its first words on standard error."""

    __slots__ = ("_errors", "line", "pid")

    def __init__(self, pid: int, line: Channel, errors: Any) -> None:
        self.pid = pid
        self.line = line
        self._errors = errors

    def words(self) -> str:
        """What it has written to standard error, of which nothing is kept afterwards; "" when it was nothing."""
        if self._errors is None:
            return ""
        size = os.fstat(self._errors.fileno()).st_size
        said = os.pread(self._errors.fileno(), _LAST_WORDS, max(0, size - _LAST_WORDS))
        self._close_errors()
        return said.decode(errors="replace").strip()

    def close(self) -> None:
        """It has ended, or this is a forked child of ours, that has no business with it."""
        self.line.close()
        self._close_errors()

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def launch(house: House, pool: Pool) -> Successor:
    """Fork it. Whether it comes to execute anything it says itself. Raises OSError."""
    ours, theirs = channel_pair()
    errors = None
    try:
        errors = _file_without_name()
        with blocked():
            pid = os.fork()
            if pid == 0:
                _become(house, pool, theirs, errors.fileno(), os.getppid())
    except OSError:
        Successor(0, ours, errors).close()
        raise
    finally:
        theirs.close()
    return Successor(pid, ours, errors)


def _become(house: House, pool: Pool, channel: Channel, errors: int, parent: int) -> NoReturn:
    """In the child, signals still blocked."""
    reason, detail = "it did not come to execute anything", ""
    try:
        signal.set_wakeup_fd(-1)
        for signum in (*(command.signum for command in SIGNALS), signal.SIGPIPE):
            signal.signal(signum, signal.SIG_DFL)
        environment = dict(house.invocation.environment)
        hand_on_systemd(environment, [fd for fd, _ in house.generations.inherited])
        environment[VARIABLE] = bequeath(
            channel=channel.fileno(),
            stderr=os.dup(2),
            generation=house.generations.count,
            workers=(pool.terms.workers, pool.target),
            pidfile=house.pidfile_path,
            listeners=house.generations.current.listeners,
            predecessor=parent,
        )
        os.dup2(errors, 2)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        house.invocation.execute(environment)
    except OSError as error:
        what = f" {error.filename}" if error.filename else ""
        reason = f"cannot execute{what}: {error.strerror}"
    except BaseException:
        detail = traceback.format_exc()
    finally:
        channel.send("failed", reason=reason, detail=detail)
        os._exit(NOT_EXECUTED)


def _file_without_name() -> Any:
    """In memory where the system can do that: a service may have no directory to write to."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("palfrey"), "rb")
    return tempfile.TemporaryFile()


def hand_on_systemd(environment: dict[str, str], fds: list[int]) -> None:
    """What systemd addressed to one pid is meant for the service, and so for this process."""
    pid = str(os.getpid())
    if "WATCHDOG_PID" in environment:
        environment["WATCHDOG_PID"] = pid
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
    except OSError:  # a reload has closed it
        fds = []
    if fds:
        environment["LISTEN_PID"] = pid
    else:
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environment.pop(name, None)
