"""The setting `ssl_transport` -> how an accepted socket becomes a TLS connection.

Two transports speak TLS: the event loop's own, and aiofastnet's, which reads and writes through OpenSSL directly and
costs less for small requests (docs/decisions/0008-tls-transport.md). It takes OpenSSL's context out of Python's
SSLContext and leaves out the Python object that belongs to each connection, so that a context with callbacks into
Python (SNI, key log) crashes the process, and it decodes clients' certificates through a file on the disk. So it serves
contexts that Palfrey made itself and that ask for no certificate; config/checks.py refuses it for others.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from palfrey.errors import BootError

if TYPE_CHECKING:
    import socket

    from palfrey.system.tls import ServerTls

SHUTDOWN_TIMEOUT = 86400.0
"""Seconds that a closing connection may take, from `close` on, with what it still has to write. The connection itself
sees to it that a client that does not take it, or does not answer our close_notify, is dropped long before."""
Connect = Callable[[Callable[[], asyncio.Protocol], "socket.socket"], Awaitable[object]]


def tls_connector(loop: asyncio.AbstractEventLoop, tls: ServerTls, name: str) -> Connect:
    """How sockets are connected to protocols under TLS. Raises BootError when the transport is not installed."""
    return functools.partial(
        _transport(loop, tls, name),
        ssl=tls.context,
        ssl_handshake_timeout=tls.handshake_timeout,
        ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
    )


def _transport(loop: asyncio.AbstractEventLoop, tls: ServerTls, name: str) -> Callable[..., Awaitable[object]]:
    if name == "loop" or not tls.plain:
        return loop.connect_accepted_socket
    try:
        import aiofastnet
    except ImportError as error:
        raise BootError(f"ssl_transport = aiofastnet: {error}; install palfrey[fast], or leave it out") from None
    # It says each failed handshake, that is each port scan, at ERROR; who asks for its log gets it.
    logger = logging.getLogger("aiofastnet")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    return functools.partial(aiofastnet.connect_accepted_socket, cast("asyncio.AbstractEventLoop", _Loop(loop)))


class _Loop:
    """What aiofastnet asks of a loop. A handshake that fails is told to its waiter and to nobody else."""

    __slots__ = ("_loop", "add_reader", "add_writer", "call_later", "call_soon", "create_future", "get_debug",
                 "remove_reader", "remove_writer")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.add_reader = loop.add_reader
        self.add_writer = loop.add_writer
        self.call_later = loop.call_later
        self.call_soon = loop.call_soon
        self.create_future = loop.create_future
        self.get_debug = loop.get_debug
        self.remove_reader = loop.remove_reader
        self.remove_writer = loop.remove_writer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # 1.2 passes the class ConnectionResetError for a client that leaves early, which logging cannot format.
        if isinstance(context.get("exception"), BaseException) and context["message"] != "SSL handshake failed":
            self._loop.call_exception_handler(context)
