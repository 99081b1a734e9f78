"""What an arbiter hands to the one that is to succeed it, across exec(2): one environment variable of JSON.

    pid          the heir's: what names another process was left behind by somebody and is not for us
    from         the pid of who hands it on
    channel      the descriptor of a `Channel` between the two (palfrey/master/upgrade.py says what goes over it)
    stderr       the real standard error. Descriptor 2 is, until here, a file that the other one reads if we fail early
    generation   the number that the heir's generations begin after
    workers      [as configured, as the operator has set it]
    pidfile      the path that the other one's pid file has, or null
    listeners    each with fd, address (the fields of `Address`) and file: where a UNIX socket is, and its inode

systemd's sockets are not among these: they are handed on as systemd does it. Descriptors keep their numbers. The two
processes may be of different versions, so that what is unknown is passed over, and new keys must not be needed. `claim`
makes them close-on-exec again and takes the variable out of the environment: neither workers nor what they start find
any of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import socket
import sys
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from palfrey.system.channel import Channel
from palfrey.system.process import close_fds
from palfrey.system.sockets import Address, Listener

VARIABLE = "PALFREY_INHERIT"


@dataclass(slots=True)
class Inheritance:
    predecessor: int
    channel: Channel
    generation: int = 0
    workers: tuple[int, int] = (0, 0)
    pidfile: str | None = None
    listeners: list[Listener] = field(default_factory=list)

    def failed(self, reason: str, detail: str = "") -> None:
        """Tell the predecessor why this process will not serve."""
        self.channel.send("failed", reason=reason, detail=detail)


@functools.cache
def claim() -> Inheritance | None:
    """This process's inheritance; None for one that was simply started."""
    return receive(os.environ)


def receive(environ: MutableMapping[str, str]) -> Inheritance | None:
    """Take what the variable describes. None where it is not there or not for this process."""
    try:
        left = json.loads(environ.pop(VARIABLE, "null"))
        if left is None or left["pid"] != os.getpid():
            return None
        _restore_stderr(left["stderr"])
        found = Inheritance(
            left["from"],
            Channel(socket.socket(fileno=left["channel"])),
            left["generation"],
            (left["workers"][0], left["workers"][1]),
            left["pidfile"],
        )
        for entry in left["listeners"]:
            with contextlib.suppress(OSError):
                found.listeners.append(_revived(entry))
    except (ValueError, TypeError, LookupError, OSError):
        return None
    return found


def bequeath(
    *,
    channel: int,
    stderr: int,
    generation: int,
    workers: tuple[int, int],
    pidfile: str | None,
    listeners: Iterable[Listener],
    predecessor: int,
) -> str:
    """The variable's text. To be called in the process that is about to become the heir; makes all inheritable."""
    listeners = [listener for listener in listeners if listener.address.kind != "systemd"]
    for fd in (channel, stderr, *(listener.fileno() for listener in listeners)):
        os.set_inheritable(fd, True)
    left = {
        "pid": os.getpid(),
        "from": predecessor,
        "channel": channel,
        "stderr": stderr,
        "generation": generation,
        "workers": workers,
        "pidfile": pidfile,
        "listeners": [_described(listener) for listener in listeners],
    }
    return json.dumps(left)


def _described(listener: Listener) -> dict[str, Any]:
    return {"fd": listener.fileno(), "address": dataclasses.asdict(listener.address), "file": listener.file}


def _revived(entry: dict[str, Any]) -> Listener:
    sock = socket.socket(fileno=entry["fd"])
    sock.setblocking(False)
    sock.set_inheritable(False)
    known = {each.name for each in dataclasses.fields(Address)}
    address = Address(**{name: value for name, value in entry["address"].items() if name in known})
    file = entry["file"]
    return Listener(sock, address, (file[0], (file[1][0], file[1][1])) if file is not None else None)


def _restore_stderr(fd: int) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    os.dup2(fd, 2)
    close_fds([fd])
