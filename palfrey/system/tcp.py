"""What the kernel knows of a TCP connection that its buffers hide from whoever writes to it."""

from __future__ import annotations

import select
import socket
import struct
import sys
from contextlib import suppress
from typing import NamedTuple, Protocol

_TCP_INFO = struct.Struct("=24xI92xQ16xI")
"""`tcpi_unacked` (segments), `tcpi_bytes_acked` and `tcpi_notsent_bytes` in Linux's struct tcp_info
(include/uapi/linux/tcp.h), which only ever grows at its end."""


class Socket(Protocol):
    """The part of a socket that is used: event loops hand out imitations."""

    def fileno(self) -> int:
        """As socket.fileno."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
        """As socket.getsockopt."""


class Writer(Protocol):
    """The part of a transport that is used."""

    def write_eof(self) -> None:
        """As asyncio.WriteTransport.write_eof."""


class Outflow(NamedTuple):
    """What has become of the bytes that were written to a connection."""

    taken: int
    """How many the peer's kernel has acknowledged since the connection began."""
    pending: bool
    """Whether ours still holds some. As long as it holds none, no transport does."""


def outflow(sock: Socket) -> Outflow | None:
    """None where it cannot be known.

    The buffer of a transport says little about a slow reader: the kernel's own may hold megabytes and asks for more
    only when a third of it is free, so that a peer which reads steadily would seem to stand still for minutes.
    """
    if sys.platform != "linux":
        return None
    try:
        facts = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # a UNIX socket, or a connection that is gone
        return None
    if len(facts) < _TCP_INFO.size:  # Linux before 4.6
        return None
    unacknowledged, taken, unsent = _TCP_INFO.unpack(facts)
    return Outflow(taken, bool(unacknowledged or unsent))


def end_writing(transport: Writer) -> None:
    """Writes the end of file. Where the peer has reset the connection, which the reading side is told, asyncio's own
    transports raise, and uvloop's do not: this does not."""
    with suppress(OSError):
        transport.write_eof()


def has_unread(sock: Socket) -> bool:
    """Whether something has come, bytes or the end, that nobody has read yet."""
    if sock.fileno() < 0:
        return False
    readable = select.poll()
    readable.register(sock.fileno(), select.POLLIN)
    return bool(readable.poll(0))
