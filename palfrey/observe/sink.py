"""Where log bytes go: a file, a pipe, a terminal or a socket, written without ever waiting for its reader.

The law: `write()` returns at once, whatever the other end does. A reader that has stopped (`palfrey | less`, a
stalled log shipper) or a full disk must not stop the event loop, and a log must never raise into its caller.

How it works. A descriptor that could block is written through an open file description of our own with
O_NONBLOCK: to set that flag on the inherited stdout would set it for the shell that shares it. Linux gives such
a description by opening /proc/self/fd/N; a socket (journald's stdout) takes MSG_DONTWAIT per call; elsewhere the
descriptor is polled first and given at most PIPE_BUF bytes. On anything but a file, whole lines leave in pieces
of at most PIPE_BUF, which the kernel takes entirely or not at all (POSIX write(2)), so that the lines of several
workers never mix. A longer line is written as it is.

What the kernel does not take is kept, up to `KEEP` bytes, and tried again at the next `write()` or `flush()`, or
by a timer where one was attached. Beyond that, whole new lines are dropped and counted, and one line says how
many once there is room again.

The arbiter opens its sinks before privileges drop; workers inherit them and call `after_fork()`. A sink knows
nothing of formats: palfrey/observe/logging.py and access.py hand it whole, encoded lines.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Protocol, Self

from palfrey.errors import ConfigError

KEEP = 1024 * 1024
"""Bytes kept for a reader that does not read; a pipe's own buffer is 64 KiB on Linux."""
PIECE = select.PIPE_BUF
"""Largest write that a pipe takes whole (4096 on Linux, 512 on macOS)."""
CLOSE_WAIT = 1.0
"""Seconds that `close()` gives a slow reader."""
RETRY_FIRST, RETRY_LAST = 0.02, 1.0
"""Seconds between attempts while blocked: doubled from the first to the last."""

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_REASONS = {
    errno.ENOENT: "the directory {directory} does not exist: make it, or name another",
    errno.ENOTDIR: "{directory} is not a directory",
    errno.EISDIR: "it is a directory: name a file in it",
    errno.EACCES: "this user may not write there: change the owner or mode, or name another",
    errno.EPERM: "this user may not write there: change the owner or mode, or name another",
    errno.EROFS: "the file system is read-only",
    errno.ENXIO: "it is a named pipe that nobody reads: start its reader first",
}


class CallLater(Protocol):
    """The shape of an event loop's `call_later`, so that nothing here has to know one."""

    def __call__(self, delay: float, callback: Callable[[], None], /) -> object: ...


class Kind(Enum):
    """What a descriptor is, which decides how it is written."""

    FILE = "file"
    """A regular file or a plain device: a write is done or fails, it waits for nobody."""
    STREAM = "stream"
    """A pipe or terminal through a non-blocking description of our own."""
    SHARED = "shared"
    """A pipe or terminal whose (blocking) description others share: polled before each write."""
    SOCKET = "socket"


class Sink:
    """One destination of log lines. Thread-safe; made by `Sink.open()` or `Sink.standard()`."""

    __slots__ = (
        "_call_later",
        "_delay",
        "_dropped",
        "_error",
        "_fd",
        "_kind",
        "_lock",
        "_owner",
        "_pending",
        "_setting",
        "_socket",
        "_stream",
        "_thread",
        "_waiting",
        "lost",
        "name",
        "path",
    )

    def __init__(self, fd: int, kind: Kind, *, name: str, path: str | None = None) -> None:
        """Takes over `fd`. `name` is what the destination is called in messages."""
        self.name = name
        self.path = path
        self.lost = 0
        """Lines dropped over this sink's life in this process."""
        self._fd = fd
        self._kind = kind
        self._socket = socket.socket(fileno=fd) if kind is Kind.SOCKET else None
        self._setting = ""
        self._owner: tuple[int, int] | None = None
        self._stream: int | None = None
        self.after_fork()

    @classmethod
    def open(cls, path: str, *, setting: str, owner: tuple[int, int] | None = None) -> Self:
        """A sink that appends to `path`, made if it does not exist.

        `setting` is named in the ConfigError for a path that cannot be written. `owner` (uid, gid) is given the
        file when we are root, so that workers that run as that user can open it anew after a rotation.
        """
        path = os.path.abspath(path)
        fd, kind = _open_path(path, setting, owner)
        sink = cls(fd, kind, name=path, path=path)
        sink._setting, sink._owner = setting, owner
        return sink

    @classmethod
    def standard(cls, fd: int) -> Self:
        """A sink on an inherited descriptor, 1 or 2. The descriptor itself stays open and is not changed."""
        own, kind = _open_stream(fd)
        sink = cls(own, kind, name=_NAMES.get(fd, f"descriptor {fd}"))
        sink._stream = fd
        return sink

    def follow(self) -> None:
        """After the standard streams were replaced (by a daemon's /dev/null): lets go of the old one."""
        if self._stream is None or self._fd < 0:
            return
        with self._lock:
            self._advance()
            self._release()
            self._fd, self._kind = _open_stream(self._stream)
            self._socket = socket.socket(fileno=self._fd) if self._kind is Kind.SOCKET else None

    def after_fork(self) -> None:
        """Forgets what the parent has yet to write: it will, and twice would be once too often."""
        self._lock = threading.RLock()
        self._pending = bytearray()
        self._dropped = 0
        self._error = ""
        """Why the last write failed; "" when its reader was merely slow."""
        self._call_later: CallLater | None = None
        self._thread = 0
        self._waiting = False
        self._delay = RETRY_FIRST

    def attach(self, call_later: CallLater) -> None:
        """From now on a blocked sink tries again by a timer of the calling thread's event loop."""
        self._call_later = call_later
        self._thread = threading.get_ident()

    def detach(self) -> None:
        """The event loop ends: only `write()` and `flush()` try again."""
        self._call_later = None

    def fileno(self) -> int:
        """The descriptor written to, -1 once closed. It stays the same when the file is opened anew."""
        return self._fd

    def isatty(self) -> bool:
        """Whether somebody looks at it on a terminal."""
        return self._fd >= 0 and os.isatty(self._fd)

    def write(self, data: bytes) -> None:
        """Writes `data`: one or more whole lines, each with its newline. Never blocks, never raises."""
        with self._lock:
            if self._pending or self._dropped:
                self._advance()
            if self._pending or self._dropped:
                self._keep(data, begun=False)
            elif (taken := self._push(data)) < len(data):
                self._keep(data[taken:], begun=taken > 0 and data[taken - 1] != 0x0A)
            if self._pending:
                self._try_later()

    def flush(self) -> bool:
        """Tries to write what was kept; True when something is still left. Never blocks, never raises."""
        with self._lock:
            self._advance()
            return bool(self._pending)

    def reopen(self) -> None:
        """Opens the path anew, then lets go of the old file: for rotation. A standard stream stays what it is.

        Lines that were kept go to the old file where it takes them, else to the new one. Raises ConfigError, and
        goes on with the old file, when the path cannot be opened.
        """
        if self.path is None or self._fd < 0:
            return
        with self._lock:
            self._advance()
            fd, self._kind = _open_path(self.path, self._setting, self._owner)
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)

    def close(self, wait: float = CLOSE_WAIT) -> None:
        """Writes what is left, giving a slow reader `wait` seconds, and closes. Later writes are only counted."""
        with self._lock:
            if self._fd < 0:
                return
            self._call_later = None
            deadline = time.monotonic() + wait
            self._advance()
            while self._pending and self._kind is not Kind.FILE:
                seconds = deadline - time.monotonic()
                before = len(self._pending)
                if seconds <= 0 or not _wait_writable(self._fd, seconds):
                    break
                self._advance()
                if len(self._pending) == before and self._error:
                    break  # the reader is gone: waiting cannot help
            self.lost += self._pending.count(b"\n")
            self._pending.clear()
            self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(fd)

    def _advance(self) -> None:
        """Writes kept lines, and the line about dropped ones as soon as half of the room is free again.

        Half, so that a reader that crawls gets one such line for many lost ones, and not one each.
        """
        if self._pending:
            taken = self._push(self._pending)
            del self._pending[:taken]
            if taken:  # the reader is back: what is left, a pipe's worth at a time, must not wait for long
                self._delay = RETRY_FIRST
        if self._dropped and len(self._pending) <= KEEP // 2 and self._fd >= 0:
            lines = "log line was" if self._dropped == 1 else "log lines were"
            why = f"{self.name}: {self._error}" if self._error else f"the reader of {self.name} is too slow"
            self._pending += f"WARNING:  {self._dropped} {lines} dropped: {why}\n".encode()
            self._dropped = 0
            taken = self._push(self._pending)
            del self._pending[:taken]
        if not self._pending:
            self._delay = RETRY_FIRST

    def _keep(self, data: bytes, *, begun: bool) -> None:
        """Keeps as many of the lines as there is room for. `begun`: the first one has been written in part."""
        room = KEEP - len(self._pending)
        if self._dropped or len(data) > room:
            cut = 0 if self._dropped else data.rfind(b"\n", 0, max(room, 0)) + 1
            if begun and not cut:
                cut = data.find(b"\n") + 1 or len(data)
            dropped = data.count(b"\n", cut)
            self._dropped += dropped
            self.lost += dropped
            data = data[:cut]
        self._pending += data

    def _push(self, data: bytes | bytearray) -> int:
        """Writes until the kernel takes no more; the number of bytes that it took."""
        limit = len(data) if self._kind is Kind.FILE else PIECE
        start = 0
        with memoryview(data) as view:
            while start < len(data):
                with view[start : _end_of_piece(data, start, limit)] as piece:
                    sent = self._send(piece)
                if not sent:
                    break
                start += sent
        return start

    def _send(self, piece: memoryview) -> int:
        """One system call. 0 when nothing was taken, with the reason noted."""
        try:
            if self._socket is not None:
                return self._socket.send(piece, socket.MSG_DONTWAIT)
            if self._kind is Kind.SHARED:
                if not _wait_writable(self._fd, 0):
                    raise BlockingIOError
                return os.write(self._fd, piece[:PIECE])
            return os.write(self._fd, piece)
        except BlockingIOError:
            self._error = ""
        except OSError as error:
            self._error = error.strerror or str(error)
        return 0

    def _try_later(self) -> None:
        # A loop's timers may be touched from its own thread only; another thread's line waits for the next one.
        if self._call_later is None or self._waiting or threading.get_ident() != self._thread:
            return
        try:
            self._call_later(self._delay, self._on_timer)
        except RuntimeError:  # the loop is closed
            self._call_later = None
        else:
            self._waiting = True
            self._delay = min(self._delay * 2, RETRY_LAST)

    def _on_timer(self) -> None:
        self._waiting = False
        if self.flush():
            self._try_later()


def _end_of_piece(data: bytes | bytearray, start: int, limit: int) -> int:
    """Where the piece that begins at `start` ends: as many whole lines as fit `limit`, at least one."""
    if len(data) - start <= limit:
        return len(data)
    end = data.rfind(b"\n", start, start + limit) + 1
    return end or data.find(b"\n", start + limit) + 1 or len(data)


def _open_stream(fd: int) -> tuple[int, Kind]:
    """A descriptor of our own for an inherited one, non-blocking where it might block."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:  # started with `>&-`: the number may be somebody else's soon
        return os.open(os.devnull, os.O_WRONLY), Kind.FILE
    if stat.S_ISSOCK(mode):
        return os.dup(fd), Kind.SOCKET
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        own = _own_description(fd)
        return (os.dup(fd), Kind.SHARED) if own is None else (own, Kind.STREAM)
    return os.dup(fd), Kind.FILE


def _own_description(fd: int) -> int | None:
    """A non-blocking description of the pipe or terminal behind `fd`, or None where there is no way to one.

    Fails where the pipe belongs to another user (`su`), and outside Linux, where /dev/fd/N shares the flags.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_APPEND)
    except OSError:
        return None


def _open_path(path: str, setting: str, owner: tuple[int, int] | None) -> tuple[int, Kind]:
    """Opens `path` for appending. O_NONBLOCK is for named pipes; regular files do not heed it."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY, 0o644)
    except OSError as error:
        why = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise ConfigError(f"{setting}: cannot open {path}: {why.format(directory=os.path.dirname(path))}") from None
    mode = os.fstat(fd).st_mode
    if owner is not None and stat.S_ISREG(mode) and os.geteuid() == 0:
        try:
            os.fchown(fd, *owner)
        except OSError:  # a file system without owners; a later reopen will say so if it matters
            pass
    return fd, Kind.STREAM if stat.S_ISFIFO(mode) or os.isatty(fd) else Kind.FILE


def _wait_writable(fd: int, seconds: float) -> bool:
    """Whether `fd` takes at least PIPE_BUF bytes (or has failed) within `seconds`."""
    if sys.platform == "darwin":  # where poll(2) does not know terminals
        return bool(select.select([], [fd], [], seconds)[1])
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    return bool(poller.poll(seconds * 1000))
