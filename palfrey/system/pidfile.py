"""The pid file: which process to signal, and a guard against starting the same service twice.

The file appears whole: it is written beside its place and linked there, which fails when one is there already. One
that is there belongs to a living process, and the start is refused, unless it is provably left over: its process is
gone, or the pid has since gone to another program (it is not a Palfrey or Python, and began after the file was
written; either alone could be wrong, by a renamed process or a clock that was set). On the way out the file is
removed only while it still names this process, so that a successor that took the path over keeps its own.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from palfrey.errors import ConfigError

_LONGEST = 32
"""Bytes read of an existing file; a pid has at most 10 digits."""


class Pidfile:
    """The pid file at `path`, which is made absolute: a later chdir changes nothing."""

    __slots__ = ("_pid", "path")

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._pid = 0

    def create(self, after: int = 0) -> None:
        """Write this process's pid; raises ConfigError when another process holds the file or it cannot be written.

        To be called by the process that stays, after `daemonize`. `after` is a process that is known to be at its end,
        be it that it can still be seen.
        """
        self._pid = os.getpid()
        try:
            temporary = self._write_beside()
            try:
                self._put(temporary, after)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
        except OSError as error:
            raise ConfigError(f"cannot write the pid file {self.path}: {error.strerror}") from None

    def remove(self) -> bool:
        """Remove the file if it still is this process's; True if it was removed. A forked child's call does nothing."""
        try:
            if self._pid == os.getpid() and self.read() == self._pid:
                os.unlink(self.path)
                return True
        except (OSError, ConfigError):
            pass  # after a drop of privileges the directory may be closed to us; the next start sees a dead pid
        return False

    def rename(self, path: str) -> None:
        """Move the file over that of a predecessor, or wherever it is to be (an upgrade); raises ConfigError."""
        target = os.path.abspath(path)
        try:
            if self.read() != os.getpid():
                raise ConfigError(f"the pid file {self.path} is not this process's any more")
            os.rename(self.path, target)
        except OSError as error:
            raise ConfigError(f"cannot rename the pid file {self.path} to {target}: {error.strerror}") from None
        self.path = target

    def read(self) -> int | None:
        """The pid in the file, None where it is empty or missing; ConfigError when it holds something else."""
        try:
            with open(self.path, "rb") as file:
                text = file.read(_LONGEST).strip()
        except FileNotFoundError:
            return None
        if not text:
            return None
        if not text.isdigit() or int(text) == 0:
            raise ConfigError(f"{self.path} holds no pid; is it really a pid file? Remove it or name another")
        return int(text)

    def _write_beside(self) -> str:
        fd, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(self.path)}.", dir=os.path.dirname(self.path))
        try:
            with open(fd, "w", encoding="ascii") as file:
                os.fchmod(fd, 0o644)
                file.write(f"{self._pid}\n")
        except OSError:  # a full disk
            os.unlink(temporary)
            raise
        return temporary

    def _put(self, temporary: str, after: int) -> None:
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not os.path.lexists(self.path):
                os.replace(temporary, self.path)
                return
        else:
            return
        holder = self.read()
        if holder not in (None, self._pid, after) and _is_held(holder, os.stat(self.path).st_mtime):
            raise ConfigError(
                f"the pid file {self.path} is held by process {holder}, which is running; "
                "stop it, name another pid file, or remove this one if that is no server of yours"
            )
        os.replace(temporary, self.path)


def _is_held(pid: int, written: float) -> bool:
    """Whether the process that wrote `pid` into the file at the time `written` may still live."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:  # no pid at all
        return False
    except PermissionError:
        pass  # another user's, but alive
    import psutil

    try:
        process = psutil.Process(pid)
        words = " ".join([process.name(), *process.cmdline()[:2]]).lower()
        return "palfrey" in words or "python" in words or process.create_time() <= written
    except psutil.NoSuchProcess:  # or a zombie, which has no command line
        return False
    except psutil.Error:
        return True
