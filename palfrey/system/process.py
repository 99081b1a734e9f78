"""The process itself: who it runs as, where it stands, what it is called, how it goes to the background.

Plain system calls in the right order, each with an error that says what to do. Nothing here is undone on failure:
the callers are at their start and end when one of these fails. In the order of a start: `own_directory` and
`change_directory`, sockets, `daemonize`, the pid file, `drop_privileges`, `set_title`.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import select
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import NoReturn

from palfrey.errors import EXIT_ERROR, EXIT_OK, ConfigError

# Memory -------------------------------------------------------------------------------------------------------------

KEPT = 8 << 20
"""Bytes. Blocks up to this size are taken from the heap, and of its free end up to twice as much is kept."""


def keep_freed_memory() -> None:
    """Has glibc keep what was freed for the next need, instead of returning it to the kernel each time.

    From 128 KB on it does by default, and takes it back page by page for the next messages: a fifth to a third of what
    a WebSocket echo of 64 KB costs. It raises the limits by itself when a larger block is mapped and freed (mallopt(3),
    M_MMAP_THRESHOLD); the one here is never written to, and costs nothing. Other C libraries do nothing of the kind.
    """
    _ = bytes(KEPT)


# Who ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class User:
    """An account: `name` is None for a number that the system has no account for; then `gid` is None too."""

    uid: int
    name: str | None
    gid: int | None


def resolve_user(text: str) -> User:
    """Look an account up by name or number. Raises ConfigError when a name is unknown."""
    try:
        entry = pwd.getpwuid(_number(text)) if text.isdigit() else pwd.getpwnam(text)
    except KeyError:
        if text.isdigit():
            return User(_number(text), None, None)
        raise ConfigError(f"there is no user {text!r} on this system; create it or give a number") from None
    return User(entry.pw_uid, entry.pw_name, entry.pw_gid)


def resolve_group(text: str) -> int:
    """Look a group up by name or number. Raises ConfigError when a name is unknown."""
    if text.isdigit():
        return _number(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ConfigError(f"there is no group {text!r} on this system; create it or give a number") from None


def _number(text: str) -> int:
    value = int(text)
    if value >= 2**32 - 1:  # (uid_t) -1 means "leave as it is" to the kernel
        raise ConfigError(f"{text} is not a user or group number")
    return value


def drop_privileges(user: str | None, group: str | None) -> None:
    """Become `user` and `group` for good; without a group, the user's own one and those it is a member of.

    A process that is them already is left alone, so a configuration works for root and for the user itself. Raises
    ConfigError when this process may not, or when root could be had back.
    """
    if user is None and group is None:
        return
    account = resolve_user(user) if user is not None else User(os.geteuid(), None, None)
    if group is not None:
        gid = resolve_group(group)
    elif account.gid is not None:
        gid = account.gid
    else:
        raise ConfigError(f"user {user} is a number without an account, so its group is unknown; set `group` too")
    if (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) == (account.uid, account.uid, gid, gid):
        if account.uid != 0:
            return
    elif os.geteuid() != 0:
        asked = f"user {user!r}" if user is not None else f"group {group!r}"
        raise ConfigError(f"only root may switch to {asked}; start as root, or leave user and group unset")
    try:
        # Groups first: after setuid() there is no right left to change them.
        if account.name is not None:
            os.initgroups(account.name, gid)
        else:
            os.setgroups([gid])
        os.setgid(gid)
        os.setuid(account.uid)
    except OSError as error:
        raise ConfigError(
            f"cannot switch to user {account.uid}, group {gid}: {error.strerror}; "
            "a container needs the capabilities SETUID and SETGID for it"
        ) from None
    if account.uid != 0 and _can_become_root():
        raise ConfigError("root could be had back after switching user; refusing to serve")


def _can_become_root() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True


# Where --------------------------------------------------------------------------------------------------------------


def own_directory(environ: MutableMapping[str, str] = os.environ) -> str:
    """The working directory as its user calls it: $PWD, symlinks kept, if that really is where we are."""
    logical = environ.get("PWD", "")
    if os.path.isabs(logical):
        with contextlib.suppress(OSError):
            if os.path.samefile(logical, "."):
                return logical
    try:
        return os.getcwd()
    except OSError:
        raise ConfigError("the working directory no longer exists; change to one that does") from None


def change_directory(path: str, environ: MutableMapping[str, str] = os.environ) -> str:
    """Go to `path`, relative to $PWD, keep $PWD right and return it.

    By $PWD and not by where we are: when `/srv/app/current` has been switched to another release, a reload that goes
    there again (by the path returned here) finds the new one. At the start $PWD may be another program's; store
    `own_directory()` in it first. Raises ConfigError.
    """
    base = environ.get("PWD", "")
    target = os.path.normpath(os.path.join(base if os.path.isabs(base) else own_directory(environ), path))
    try:
        os.chdir(target)
    except OSError as error:
        raise ConfigError(f"cannot change to the directory {target}: {error.strerror}") from None
    environ["PWD"] = target
    return target


# Name and descriptors -----------------------------------------------------------------------------------------------


def set_title(text: str) -> None:
    """Show `text` in ps and top."""
    from setproctitle import setproctitle

    setproctitle(text)


def fill_standard_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed (`>&-`), before anything else is opened.

    Else a socket would get the number, and be what the application prints to; and libuv aborts a process in which it
    has to close one of these numbers.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


def close_fds(fds: Iterable[int]) -> None:
    """Close each descriptor; one that is closed already, or is -1, is passed over."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


# Family --------------------------------------------------------------------------------------------------------------

CAN_ADOPT = sys.platform == "linux"
"""Whether this system lets a process adopt the orphans among its descendants."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
"""linux/prctl.h"""


def adopt_orphans(adopt: bool = True) -> None:
    """From now on children of this process's descendants whose parent has ended become its own, to be waited for; or
    no longer.

    Where CAN_ADOPT only. Processes that it forks do not adopt. Raises OSError (a sandbox forbids it).
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))


def end_with_parent(parent: int) -> None:
    """From now on this process is killed when `parent`, who forked it, ends. Where CAN_ADOPT only.

    To be called after a change of user, which undoes it. It holds for this process alone, not for those that it forks.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(EXIT_OK)


@contextlib.contextmanager
def ending_with(parent: int) -> Iterator[None]:
    """Within, as `end_with_parent`, where the system can do that."""
    if not CAN_ADOPT:
        yield
        return
    with contextlib.suppress(OSError):  # a sandbox forbids it
        end_with_parent(parent)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _prctl(_PR_SET_PDEATHSIG, 0)


def when_parent_ends(parent: int, act: Callable[[], None]) -> None:
    """From now on `act` is called when `parent`, who forked this process, ends, between any two bytecodes of the main
    thread: also where no event loop turns. Where the system can do that; it takes the last of the real-time signals."""
    if not CAN_ADOPT:
        return
    signal.signal(signal.SIGRTMAX, lambda *_: act())
    with contextlib.suppress(OSError):  # a sandbox forbids it
        _prctl(_PR_SET_PDEATHSIG, signal.SIGRTMAX)
    if os.getppid() != parent:
        act()


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *(ctypes.c_ulong(argument) for argument in (value, 0, 0, 0))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def os_threads() -> dict[int, str]:
    """This process's threads by the system's count: thread id and name. Empty where the system does not tell."""
    threads = {}
    try:
        for entry in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{entry}/comm", encoding="utf-8", errors="replace") as file:
                threads[int(entry)] = file.read().rstrip("\n")
    except (OSError, ValueError):  # no /proc; a thread that has just ended
        pass
    return threads


# Background ---------------------------------------------------------------------------------------------------------


class Launcher:
    """The daemon's line to the command that started it, which waits to learn how the start went.

    The daemon calls `ready()` or `failed()` once. Its children close their copy (`close()`), else the command
    would wait on after the daemon's death. If the line goes dead without a word, the command says so and fails.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The pipe's write end; -1 once it has been used."""
        return self._fd

    def ready(self) -> None:
        """The server serves: the command exits with 0."""
        self._tell(EXIT_OK, "")

    def failed(self, status: int, text: str) -> None:
        """The server ends: the command prints `text` (any number of lines) on its stderr and exits with `status`."""
        self._tell(status, text)

    def close(self) -> None:
        """Leave without a word."""
        fd, self._fd = self._fd, -1
        close_fds([fd])

    def _tell(self, status: int, text: str) -> None:
        if self._fd < 0:
            return
        message = f"{status} {text}".encode(errors="replace")
        with contextlib.suppress(OSError):  # the command was interrupted; the daemon goes on
            while message:
                message = message[os.write(self._fd, message) :]
        self.close()


def daemonize() -> Launcher:
    """Go to the background; returns in the daemon only. The calling process waits and exits with the daemon's status.

    Forked twice and in a session of its own, the daemon can never get a terminal back. Its stdio is /dev/null from
    here on (a terminal or an ssh session that stays referred to would hang), so what a user must see goes through
    the Launcher. The pid changes: take systemd's LISTEN_FDS and the pid file's pid on the right side of this. To be
    called before there are threads, and after `fill_standard_streams`.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if os.fork():
        os.close(write_end)
        _await_daemon(read_end, mask)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(read_end)
    os.setsid()
    if os.fork():
        os._exit(EXIT_OK)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    return Launcher(write_end)


def _read_all(fd: int, woken: int) -> bytes:
    """All that comes, unless a signal's handler raises: `woken` can be read when one has come. A read of `fd` alone
    would not notice one that comes just before it."""
    parts = []
    while True:
        ready, _, _ = select.select([fd, woken], [], [])
        if woken in ready:  # by a signal whose handler has not raised
            os.read(woken, 4096)
        if fd in ready:
            parts.append(os.read(fd, 65536))
            if not parts[-1]:
                return b"".join(parts)


def _await_daemon(read_end: int, mask: set[int | signal.Signals]) -> NoReturn:
    """In the calling process, SIGINT blocked: wait for the daemon's word, then exit. The caller's handlers, which may
    be the server's own, are the daemon's now."""
    status = EXIT_ERROR
    try:
        woken, waking = os.pipe()
        os.set_blocking(waking, False)
        signal.set_wakeup_fd(waking)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        number, _, text = _read_all(read_end, woken).decode(errors="replace").partition(" ")
        if number:
            status = int(number)
        else:
            text = "palfrey: the server ended before it was ready; see its error log"
    except KeyboardInterrupt:
        text = "palfrey: the server goes on starting in the background"
    with contextlib.suppress(OSError):
        if text:
            sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()
    os._exit(status)
