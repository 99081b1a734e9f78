"""What the kernel knows of a TCP connection that its buffers hide from whoever writes to it."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Protocol

_BYTES_ACKED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` in Linux's struct tcp_info (include/uapi/linux/tcp.h), which only ever grows at its end."""


class Socket(Protocol):
    """The part of a socket that is used: event loops hand out imitations."""

    def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
        """As socket.getsockopt."""


def acknowledged(sock: Socket) -> int | None:
    """How many bytes the peer's kernel has taken since the connection began; None where that cannot be known.

    The buffer of a transport says little about a slow reader: the kernel's own may hold megabytes and asks for more
    only when a third of it is free, so that a peer which reads steadily would seem to stand still for minutes.
    """
    if sys.platform != "linux":
        return None
    try:
        facts = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
    except OSError:  # a UNIX socket, or a connection that is gone
        return None
    if len(facts) < _BYTES_ACKED.size:  # Linux before 4.1
        return None
    count: int = _BYTES_ACKED.unpack(facts)[0]
    return count
