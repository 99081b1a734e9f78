"""Takes connections from the listeners and makes protocol objects of them.

The listeners are the arbiter's; a worker borrows them, watches each with `add_reader` and accepts. All workers watch
the same sockets, so what one does not take another will. A worker that is full stops watching until a connection goes,
and one that has run out of descriptors for a while: the connections wait in the kernel's queue, which outlives every
worker. Full is less than what the limit of open files allows: an application that cannot open one fails.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import resource
import socket
from typing import TYPE_CHECKING

from palfrey.asgi.start import start
from palfrey.protocols.http1.connection import Http1Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from palfrey.protocols.service import Service
    from palfrey.system.sockets import Listener
    from palfrey.system.tls import ServerTls
    from palfrey.types import HostPort

log = logging.getLogger("palfrey.error")

BATCH = 16
"""Connections taken in one turn from one listener: more, and a burst lands on the worker that woke up first."""
PAUSE = 0.5
"""Seconds of not accepting after the process ran out of something that a connection needs."""
SPARE_FILES = 64
"""Descriptors, at least, that connections leave to the application, the log files and the loop."""
TLS_SHUTDOWN_TIMEOUT = 86400.0
"""Seconds that a closing connection may take, from `close` on, with what it still has to write. The connection itself
sees to it that a client that does not take it, or does not answer our close_notify, is dropped long before."""

# accept(2): these concern the one connection, which is gone already, or nothing at all.
_NOTHING = (BlockingIOError, InterruptedError, ConnectionAbortedError, ConnectionResetError)
_STILLBORN = {
    *(errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH),
    getattr(errno, "ENONET", errno.ENETDOWN),  # Linux alone has it
}
"""Errors of the one connection that Linux hands to accept(2), to be treated like EAGAIN (its manual page)."""


class Acceptor:
    """All listeners of one worker."""

    def __init__(self, service: Service, listeners: Sequence[Listener], tls: ServerTls | None, limit: int) -> None:
        """`tls`: None for plain connections. `limit`: of connections, 0 for as many as there can be."""
        self._service = service
        self._listeners = list(listeners)
        self._connect: Callable[..., Awaitable[object]] = service.loop.connect_accepted_socket
        if tls is not None:
            self._connect = functools.partial(
                self._connect,
                ssl=tls.context,
                ssl_handshake_timeout=tls.handshake_timeout,
                ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT,
            )
        self._scheme = "https" if tls is not None else "http"
        self._limit = _room(limit)
        self._adopting: set[asyncio.Task[None]] = set()
        self._watching = False
        self._complained = False
        self._servers = {listener.fileno(): _fixed_name(listener) for listener in self._listeners}

    @property
    def adopting(self) -> set[asyncio.Task[None]]:
        """Connections that have been accepted and are not served yet (TLS handshakes, chiefly)."""
        return self._adopting

    def start(self) -> None:
        """Begins to accept."""
        if not self._watching:
            self._watching = True
            for listener in self._listeners:
                self._service.loop.add_reader(listener.fileno(), self._ready, listener)

    def stop(self) -> None:
        """Stops accepting. What is in the queue stays there for others."""
        if self._watching:
            self._watching = False
            for listener in self._listeners:
                self._service.loop.remove_reader(listener.fileno())

    def empty(self, most: int) -> None:
        """Takes all that is queued, up to `most` connections a listener: the service ends and nobody else will."""
        for listener in self._listeners:
            for _ in range(most):
                if not self._take(listener):
                    break

    def give_up(self) -> None:
        """Drops the connections that are not served yet."""
        for task in self._adopting:
            task.cancel()

    def close(self) -> None:
        """Closes this process's copies of the listeners."""
        self.stop()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _ready(self, listener: Listener) -> None:
        for _ in range(BATCH):
            if self._limit and len(self._service.connections) + len(self._adopting) >= self._limit:
                self._rest()
                return
            if not self._take(listener):
                return

    def _rest(self) -> None:
        self.stop()
        self._service.on_room = self._start_again

    def _adopted(self, task: asyncio.Task[None]) -> None:
        self._adopting.discard(task)
        self._service.make_room()

    def _start_again(self) -> None:
        if not self._service.draining and self._listeners:
            self.start()

    def _take(self, listener: Listener) -> bool:
        """One connection from the queue. False when there is none to be had now."""
        try:
            sock, peer = listener.sock.accept()
        except _NOTHING as error:
            return not isinstance(error, BlockingIOError)
        except OSError as error:
            if error.errno in _STILLBORN:
                return True
            self._cannot_accept(listener, error)
            return False
        sock.setblocking(False)
        # Named now: by the time that the task runs a draining worker has closed its listeners.
        server = self._servers[listener.fileno()]
        task = start(self._service.loop, self._adopt(sock, peer, server))
        if not task.done():
            self._adopting.add(task)
            task.add_done_callback(self._adopted)
        return True

    def _cannot_accept(self, listener: Listener, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.error("Cannot accept connections on %s: %s. They wait in its queue", listener.url, error.strerror)
        # Whatever it is, the listener stays readable: without a rest the loop would turn for nothing else.
        self.stop()
        self._service.loop.call_later(PAUSE, self._start_again)

    async def _adopt(self, sock: socket.socket, peer: object, server: HostPort | None) -> None:
        client: HostPort | None = None
        if sock.family != socket.AF_UNIX and isinstance(peer, tuple):
            client = (peer[0], peer[1])
        try:
            server = server or _name(sock)
            connection = Http1Connection(self._service, client, server, self._scheme)
            await self._connect(lambda: connection, sock)
        except OSError as error:  # ssl.SSLError is one
            log.debug("A connection from %s ended before its first request: %s", client, error)
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise


def _room(limit: int) -> int:
    """How many connections a worker may hold: those asked for, within what its limit of open files allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limit
    most = max(1, files - max(SPARE_FILES, files // 10))
    return min(limit, most) if limit else most


def _fixed_name(listener: Listener) -> HostPort | None:
    """ASGI's `server` where it is the same for all connections; None behind a wildcard address."""
    if listener.sock.family == socket.AF_UNIX:
        return (listener.url.removeprefix("unix:"), None)
    host, port = listener.sock.getsockname()[:2]
    return None if host in ("0.0.0.0", "::") else (host, port)


def _name(sock: socket.socket) -> HostPort:
    host, port = sock.getsockname()[:2]
    return (host, port)
