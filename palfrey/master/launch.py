"""The successor's process: forked, and on its way to being another program.

It is forked twice, and the process between ends at once: so its parent is at no time this process, which is about to
end, but the one that stays, init or the service manager. systemd waits for a main process, and sees its death, only
where that was its own child when it became that. What tells us of its end is the end of the line.

Between the second fork and exec it is given the listeners (`palfrey/system/inheritance.py`), its end of the line to
us, what systemd meant for the service, and nobody's signal handlers; all else closes itself. What it writes to standard
error before it has come to itself (a missing interpreter, a broken installation) goes to a file without a name, so that
its words can be read here should they be its last.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import tempfile
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from palfrey.master.signals import SIGNALS, blocked
from palfrey.system.channel import Channel, channel_pair
from palfrey.system.inheritance import VARIABLE, bequeath
from palfrey.system.process import close_fds

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
    """Fork it. Whether it comes to execute anything it says itself. Raises OSError.

    This process must not adopt orphans meanwhile (`palfrey.system.process.adopt_orphans`).
    """
    ours, theirs = channel_pair()
    errors, ends = None, []
    try:
        errors = _file_without_name()
        ends = list(os.pipe())
        predecessor = os.getpid()
        with blocked():
            between = os.fork()
            if between == 0:
                _be_between(house, pool, theirs, errors.fileno(), predecessor, ends[1])
        with contextlib.suppress(ChildProcessError):
            os.waitpid(between, 0)
        os.close(ends.pop())
        pid = int(os.read(ends[0], 32) or -errno.ECHILD)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
    except OSError:
        Successor(0, ours, errors).close()
        raise
    finally:
        theirs.close()
        close_fds(ends)
    return Successor(pid, ours, errors)


def _be_between(house: House, pool: Pool, channel: Channel, errors: int, predecessor: int, told: int) -> NoReturn:
    """In the process between, signals blocked: fork the successor, which writes its pid, or write the negative errno
    of why not; and end."""
    try:
        if os.fork() == 0:
            os.write(told, b"%d" % os.getpid())
            _become(house, pool, channel, errors, predecessor)
    except OSError as error:
        os.write(told, b"%d" % -(error.errno or errno.EAGAIN))
    finally:
        os._exit(0)


def _become(house: House, pool: Pool, channel: Channel, errors: int, predecessor: int) -> NoReturn:
    """In the successor, signals still blocked."""
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
            predecessor=predecessor,
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
