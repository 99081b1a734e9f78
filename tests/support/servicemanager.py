"""A stand-in for systemd: its notify, watchdog and activation protocols, for real processes and real sockets.

It does what systemd does with a `Type=notify-reload` service, as far as a service can see it (systemd.service(5),
sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)):

- receives datagrams on a UNIX socket, with the kernel's word for who sent each, and believes the main process alone
  (NotifyAccess=main), which MAINPID= may change;
- keeps the unit's state: activating until READY=1, reloading from RELOADING=1 (which must come with a MONOTONIC_USEC=
  later than the HUP) to READY=1, deactivating from STOPPING=1 on;
- starts the watchdog with the first READY=1, and sends SIGABRT to the main process when WATCHDOG=1 fails to come;
- hands in listening sockets as descriptors from 3 on, in the process that then becomes the service.

What it does not do is let a limit pass: EXTEND_TIMEOUT_USEC= is noted, nothing more.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.support.processes import PATIENCE

BECOME = """
import os, sys
fds, names, watchdog = eval(sys.argv[1])
spare = [os.dup2(fd, 100 + index) for index, fd in enumerate(fds)]
for index, fd in enumerate(spare):
    os.dup2(fd, 3 + index)
    os.close(fd)
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(names))
if watchdog:
    os.environ.update(WATCHDOG_PID=str(os.getpid()), WATCHDOG_USEC=str(round(watchdog * 1e6)))
os.execv(sys.executable, [sys.executable, "-m", "palfrey", *sys.argv[2:]])
"""
"""What names a pid can only be said in the process that has it, which then becomes the service."""


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram."""

    sender: int
    values: dict[str, str]
    when: float
    """time.monotonic()"""


class ServiceManager:
    """A context manager. `sockets` are (name, listening socket); `watchdog` is WatchdogSec=, in seconds."""

    def __init__(
        self,
        directory: Path,
        *,
        abstract: bool = False,
        watchdog: float = 0.0,
        sockets: Sequence[tuple[str, socket.socket]] = (),
    ) -> None:
        self.state = "activating"
        self.status = ""
        self.main_pid = 0
        self.messages: list[Message] = []
        """Of the main process."""
        self.ignored: list[Message] = []
        """Of others."""
        self._watchdog = watchdog
        self._sockets = list(sockets)
        self._told_to_reload = 0.0
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if abstract:
            self._sock.bind(b"\0palfrey-test-%d-%d" % (os.getpid(), time.monotonic_ns()))
            self.address = "@" + os.fsdecode(self._sock.getsockname()[1:])
        else:
            self.address = str(directory / "notify")
            self._sock.bind(self.address)

    # What the service is started with

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address}

    @property
    def command(self) -> tuple[str, ...]:
        """To put in place of `python -m palfrey`."""
        given = [sock.fileno() for _, sock in self._sockets], [name for name, _ in self._sockets], self._watchdog
        return sys.executable, "-c", BECOME, repr(given)

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(sock.fileno() for _, sock in self._sockets)

    # What systemctl asks for

    def reload(self) -> None:
        """ReloadSignal=SIGHUP."""
        self._told_to_reload = time.monotonic()
        os.kill(self.main_pid, signal.SIGHUP)

    def stop(self) -> None:
        """KillMode=mixed: only the main process is told."""
        os.kill(self.main_pid, signal.SIGTERM)

    # What is heard

    def wait_for(self, what: str, *, patience: float = PATIENCE) -> Message:
        """The next message with this line, `NAME=value` or `NAME=` for any value."""
        return self._wait(lambda message: _holds(message, what), what, patience)

    def wait_for_state(self, state: str, *, patience: float = PATIENCE) -> Message:
        """The message that brings the unit into this state."""
        return self._wait(lambda message: self.state == state, state, patience)

    def wait_for_status(self, text: str, *, patience: float = PATIENCE) -> Message:
        """The next message whose STATUS holds the text."""
        return self._wait(lambda message: text in message.values.get("STATUS", ""), text, patience)

    def watch(self) -> None:
        """Until the service has not been heard of for the watchdog's time; it is then aborted, as systemd would."""
        last = max(message.when for message in self.messages if _holds(message, "READY=1") or _alive(message))
        while True:
            message = self._receive(last + self._watchdog - time.monotonic())
            if message is None:
                os.kill(self.main_pid, signal.SIGABRT)
                return
            if _alive(message):
                last = message.when

    def _wait(self, fits: Callable[[Message], bool], what: str, patience: float) -> Message:
        deadline = time.monotonic() + patience
        while True:
            message = self._receive(deadline - time.monotonic())
            if message is None:
                heard = "\n".join(str(message.values) for message in self.messages)
                raise AssertionError(f"not told {what!r}; state {self.state}, told:\n{heard}")
            if fits(message):
                return message

    def _receive(self, patience: float) -> Message | None:
        """The main process's next message, its effect included."""
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            self._sock.settimeout(left)
            try:
                data, ancillary, _, _ = self._sock.recvmsg(65536, socket.CMSG_SPACE(struct.calcsize("3i")))
            except TimeoutError:
                return None
            ((_, _, credentials),) = ancillary
            values = dict(line.split("=", 1) for line in data.decode().split("\n"))
            message = Message(struct.unpack("3i", credentials)[0], values, time.monotonic())
            self.main_pid = self.main_pid or message.sender
            if message.sender != self.main_pid:
                self.ignored.append(message)
                continue
            self.messages.append(message)
            self._believe(message)
            return message
        return None

    def _believe(self, message: Message) -> None:
        self.status = message.values.get("STATUS", self.status)
        if _holds(message, "STOPPING=1"):
            self.state = "deactivating"
        elif _holds(message, "RELOADING=1"):
            since = int(message.values["MONOTONIC_USEC"]) / 1e6
            assert since >= self._told_to_reload, "systemd would take this for an earlier reload"
            self.state = "reloading"
        elif _holds(message, "READY=1"):
            self.state = "active"
        self.main_pid = int(message.values.get("MAINPID", self.main_pid))

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()


def _holds(message: Message, line: str) -> bool:
    name, _, value = line.partition("=")
    return name in message.values and value in ("", message.values[name])


def _alive(message: Message) -> bool:
    return _holds(message, "WATCHDOG=1")
