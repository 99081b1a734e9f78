"""systemd's small protocols: sockets handed in (sd_listen_fds(3)), states handed out (sd_notify(3)), its watchdog.

All are a few environment variables and need no library. Nothing here raises: without systemd there is nothing to
hear and nobody to tell. `listen_fds` and `watchdog` are read once at the start, before `daemonize` changes the pid that
they are meant for. When something is said, and why, is `palfrey/master/bulletin.py`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

FIRST_FD = 3
"""SD_LISTEN_FDS_START"""
VARIABLES = (
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)
"""What systemd tells the process that it starts, and nobody below it."""


def forget(environ: MutableMapping[str, str] = os.environ) -> None:
    """For a worker: an application that speaks sd_notify(3) would speak for the whole service."""
    for name in VARIABLES:
        environ.pop(name, None)


def listen_fds(environ: Mapping[str, str] = os.environ) -> list[tuple[int, str]]:
    """The descriptors that systemd opened for this process, as (fd, name); the name is "" where none was given.

    They are made non-inheritable by exec. What does not name this very pid (a variable that a parent has left behind)
    is not for us.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit()):
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for index in range(int(count)):
        try:
            os.set_inheritable(FIRST_FD + index, False)
        except OSError:  # not open, nor are those after it
            break
        found.append((FIRST_FD + index, names[index] if index < len(names) else ""))
    return found


def watchdog(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds within which systemd wants a sign of life from this process, time and again; None when it wants none from
    it (sd_watchdog_enabled(3))."""
    wanted = environ.get("WATCHDOG_USEC", "")
    if not (wanted.isascii() and wanted.isdigit() and int(wanted)):
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(wanted) / 1e6


def notify(state: str, environ: Mapping[str, str] = os.environ, *, patience: float = 0.0) -> bool:
    """Send lines of `NAME=value` to the service manager; False when there is none or it does not take them now, or
    within `patience` seconds."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    where = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(patience)
            sock.sendto(state.encode(), where)
    except (OSError, ValueError):
        return False
    return True


def ready_state(status: str = "", main_pid: int | None = None) -> str:
    """The service serves; also the end of a reload. `main_pid` when it is not the process that systemd started."""
    return _lines("READY=1", main_pid and f"MAINPID={main_pid}", status and f"STATUS={status}")


def main_pid_state(pid: int) -> str:
    """Another process is the main one from now on. It has to be of the same service."""
    return f"MAINPID={pid}"


def reloading_state(status: str = "") -> str:
    """A reload begins; Type=notify-reload wants the monotonic time with it, in microseconds."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return _lines("RELOADING=1", f"MONOTONIC_USEC={microseconds}", status and f"STATUS={status}")


def stopping_state(status: str = "") -> str:
    """The service has begun to end."""
    return _lines("STOPPING=1", status and f"STATUS={status}")


def status_state(status: str) -> str:
    """One line for `systemctl status`."""
    return _lines(f"STATUS={status}")


def alive_state() -> str:
    """The sign of life that `watchdog` asks for."""
    return "WATCHDOG=1"


def extend_state(seconds: float) -> str:
    """The start, reload or stop that is under way needs more time, this long from now. It never shortens a limit."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"


def _lines(*lines: str | int | None) -> str:
    # A line break inside a status would begin another assignment.
    return "\n".join(" ".join(line.splitlines()) for line in lines if isinstance(line, str) and line)
