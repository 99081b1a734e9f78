"""Makes connections of what was accepted: from a descriptor to a transport of the loop with a protocol upon it.

The loop takes a connected socket by `connect_accepted_socket` alone, a coroutine. Over TLS a task runs it, which takes
as long as the handshake. A plain connection needs neither a task nor a socket object, as tried with uvloop 0.22 and
0.23 (asyncio's own loop does need sockets):

- The coroutine waits once, for `connection_made`, which the loop calls at its next turn. So it is stepped by hand:
  now, and behind that call. Should a loop ever wait for more, a task takes over where the steps ended.
- uvloop asks a socket for its family, its type and its number, copies the number and lets the object be. One object
  a listener is lent to all its connections; a socket of Python's for each would be an allocation and a system call.

Together they save a fifth of what a request over a new connection costs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from palfrey.protocols.http1.connection import Http1Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from palfrey.protocols.service import Service
    from palfrey.system.sockets import Listener
    from palfrey.system.tls import ServerTls
    from palfrey.types import HostPort

log = logging.getLogger("palfrey.error")

TLS_SHUTDOWN_TIMEOUT = 86400.0
"""Seconds that a closing connection may take, from `close` on, with what it still has to write. The connection itself
sees to it that a client that does not take it, or does not answer our close_notify, is dropped long before."""


class Door:
    """A listener as connections come through it; and, to uvloop, the socket of the one that is just coming through."""

    __slots__ = ("accept", "family", "listener", "number", "proto", "server", "type")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        sock = listener.sock
        self.accept: Callable[[], tuple[int, Any]] = getattr(sock, "_accept", None) or functools.partial(_accept, sock)
        """accept(2): the descriptor, which is closed on exec, and the peer's address."""
        self.family, self.type, self.proto = sock.family, sock.type, sock.proto
        self.number = -1
        self.server = _fixed_name(listener)
        """ASGI's `server` where it is the same for all connections; None behind a wildcard address."""

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        """uvloop's when it has closed the descriptor itself."""

    def name(self, number: int) -> HostPort:
        """ASGI's `server` of a connection behind a wildcard address."""
        sock = socket.socket(self.family, self.type, self.proto, number)
        try:
            host, port = sock.getsockname()[:2]
        finally:
            sock.detach()
        return (host, port)


class Adopter:
    """See the module. `adopt` begins, and `len()` counts what has begun and is not served yet."""

    def __init__(self, service: Service, tls: ServerTls | None, on_gone: Callable[[], None]) -> None:
        """`on_gone` is called when one that has begun came to nothing."""
        self._service = service
        self._loop = service.loop
        self._on_gone = on_gone
        self._connect: Callable[..., Any] = service.loop.connect_accepted_socket
        self._protocol: Callable[..., asyncio.Protocol] = _protocol(service)
        self._scheme = "http"
        self._light = tls is None and type(service.loop).__module__.partition(".")[0] == "uvloop"
        if tls is not None:
            self._scheme = "https"
            self._connect = functools.partial(
                self._connect,
                ssl=tls.context,
                ssl_handshake_timeout=tls.handshake_timeout,
                ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT,
            )
        self._stepped: list[tuple[Any, Any]] = []
        """Coroutines that were stepped once, and what they wait for."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._given_up = False

    def __len__(self) -> int:
        return len(self._stepped) + len(self._tasks)

    def adopt(self, door: Door, number: int, peer: Any) -> None:
        """Takes what `door.accept` returned, which is ours to close from here on."""
        client: HostPort | None = None if door.family is socket.AF_UNIX else (peer[0], peer[1])
        try:
            # Named now: by the time that the connection is made a draining worker has closed its listeners.
            server = door.server or door.name(number)
            factory = functools.partial(self._protocol, self._service, client, server, self._scheme)
            if self._light:
                door.number = number
                steps = self._connect(factory, door)
                stepped = self._stepped
                stepped.append((steps, steps.send(None)))
                if len(stepped) == 1:
                    self._loop.call_soon(self._step)
                return
        except OSError as error:  # gone already
            log.debug("A connection from %s ended before it was made: %s", client, error)
            os.close(number)
            return
        sock = socket.socket(door.family, door.type, door.proto, number)
        sock.setblocking(False)
        self._run(self._with_socket(factory, sock, client), sock.close)

    async def settle(self, timeout: float) -> None:
        """Returns when all that has begun is served or came to nothing, or the time is up; what is left then is
        dropped."""
        for _ in range(2):  # behind `_step`, and where it comes again
            if self._stepped:
                await asyncio.sleep(0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        self.give_up()

    def give_up(self) -> None:
        """Drops what is not served yet. Nothing more is to be accepted."""
        self._given_up = True
        for task in self._tasks:
            task.cancel()

    def _step(self, again: bool = False) -> None:
        """The loop has called `connection_made` of all that were stepped once: the second step is the last. Of several
        that were accepted in one turn, it has yet to call that of the later ones: `again` is behind these."""
        stepped, self._stepped = self._stepped, []
        for number, (steps, waited) in enumerate(stepped):
            due = waited is None or waited.done()
            if not due and not again:
                self._stepped = stepped[number:]
                self._loop.call_soon(self._step, True)
                return
            try:
                self._run(self._carry_on(steps, steps.send(None) if due else waited), steps.close)
            except StopIteration as end:
                if self._given_up:
                    end.value[0].get_protocol().cut()  # no longer the one that it was made with, perhaps
            except OSError as error:
                log.debug("A connection ended before it was made: %s", error)
                self._on_gone()

    async def _carry_on(self, steps: Any, waited: asyncio.Future[Any] | None) -> None:
        await _Rest(steps, waited)

    async def _with_socket(self, factory: Callable[[], asyncio.Protocol], sock: socket.socket, client: object) -> None:
        try:
            await self._connect(factory, sock)
        except OSError as error:  # ssl.SSLError is one
            log.debug("A connection from %s ended before its first request: %s", client, error)
            sock.close()

    def _run(self, coroutine: Coroutine[Any, Any, None], undo: Callable[[], None]) -> None:
        """In a task; if that is given up, maybe before it has begun, `undo` is called."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._done, undo))

    def _done(self, undo: Callable[[], None], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            undo()
        self._on_gone()


class _Rest:
    """The rest of a coroutine that has been stepped and waits for this, for a task to await."""

    def __init__(self, steps: Any, waited: asyncio.Future[Any] | None) -> None:
        self._steps, self._waited = steps, waited

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            while True:
                yield self._waited
                self._waited = self._steps.send(None)
        except StopIteration:
            return
        finally:
            self._steps.close()


def _protocol(service: Service) -> Callable[..., asyncio.Protocol]:
    """What a connection begins with. HTTP/2 is loaded where it is spoken."""
    if service.http2 is None:
        return Http1Connection
    from palfrey.protocols.http2.connection import Http2Connection
    from palfrey.protocols.http2.front import Front

    return functools.partial(Front, Http2Connection)


def _accept(sock: socket.socket) -> tuple[int, Any]:
    """For Pythons whose sockets have no `_accept`, which is not documented but what `accept` itself builds on."""
    accepted, peer = sock.accept()
    return accepted.detach(), peer


def _fixed_name(listener: Listener) -> HostPort | None:
    """ASGI's `server` where it is the same for all connections; None behind a wildcard address."""
    if listener.sock.family == socket.AF_UNIX:
        return (listener.url.removeprefix("unix:"), None)
    host, port = listener.sock.getsockname()[:2]
    return None if host in ("0.0.0.0", "::") else (host, port)
