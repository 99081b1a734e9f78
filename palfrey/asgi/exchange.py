"""One HTTP request and its response, as an ASGI application sees them, whatever the protocol below.

Law: `phase` only ever moves forward, NEW -> HEADED -> STREAMING -> DONE.

    NEW        nothing sent. `http.response.start` -> HEADED
    HEADED     the head is held here, unsent, until the first content, so that both leave in one write; a failure up
               to now is still answered with a 500
    STREAMING  the head is out; a failure can only cut the response short
    DONE       the response is complete, or cannot be any more. The application may run on (background work)

The protocol calls `feed`, `feed_eof` and `disconnect`, which only record and wake; the application calls `receive`
and `send`, which reach the protocol through the `Stream` port and nothing else. `run` surrounds the application: its
failures are logged with the request and become a 500 or a cut connection, never a desynchronised one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from enum import Enum
from typing import TYPE_CHECKING

from palfrey.asgi.stream import ClientDisconnected, Framing, InvalidHeader
from palfrey.errors import from_the_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palfrey.asgi.stream import Stream
    from palfrey.types import ASGIApp, Header, HostPort, Message, Scope

log = logging.getLogger("palfrey.error")

CLIENT_LEFT = 499
"""The status of a request whose client left before an answer had begun, for the access log (nginx's number)."""

_PLAIN_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")


class Phase(Enum):
    """How far the response is."""

    NEW = "new"
    HEADED = "headed"
    STREAMING = "streaming"
    DONE = "done"


class Peer(Enum):
    """What is known of the client."""

    THERE = "there"
    LEAVING = "leaving"
    """It sends no more; `receive()` says http.disconnect, but it may still read."""
    GONE = "gone"


class ApplicationError(RuntimeError):
    """The application broke the order of ASGI messages or the lengths that it promised."""


# Looked up once: an attribute of an Enum class costs a third of a dictionary miss.
NEW, HEADED, STREAMING, DONE = Phase.NEW, Phase.HEADED, Phase.STREAMING, Phase.DONE
THERE, LEAVING, GONE = Peer.THERE, Peer.LEAVING, Peer.GONE
DECLARED, WHOLE, OPEN, NONE = Framing.DECLARED, Framing.WHOLE, Framing.OPEN, Framing.NONE


class Exchange:
    """See the module. Its public attributes are also the facts that the access log reads."""

    __slots__ = (
        "_app",
        "_content",
        "_content_eof",
        "_framing",
        "_remaining",
        "_stream",
        "_trailers",
        "_trailers_due",
        "_waiters",
        "body_bytes",
        "expects_continue",
        "peer",
        "phase",
        "response_headers",
        "scope",
        "started",
        "status",
        "task",
    )

    def __init__(self, stream: Stream, app: ASGIApp, scope: Scope, expects_continue: bool, started: float) -> None:
        """`started` is time.monotonic() at the head's arrival; `expects_continue` is RFC 9110 section 10.1.1's."""
        self._stream = stream
        self._app = app
        self.scope = scope
        self.started = started
        self.phase = NEW
        self.peer = THERE
        self.status = 0
        self.response_headers: Sequence[Header] = ()
        self.body_bytes = 0
        self.task: asyncio.Task[None] | None = None
        self.expects_continue = expects_continue
        self._content = b""
        self._content_eof = False
        self._framing = OPEN
        self._remaining = 0
        self._trailers_due = False
        self._trailers: list[Header] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    # ---------------------------------------------------------------- from the protocol

    def feed(self, data: bytes) -> None:
        """Content of the request, decoded. The caller has checked it against the limits."""
        self._content = self._content + data if self._content else data
        self._wake()

    def feed_eof(self) -> None:
        """The request's content is complete."""
        self._content_eof = True
        self._wake()

    def leaving(self) -> None:
        """The client has stopped sending for good, and may or may not still be reading."""
        if self.peer is THERE:
            self.peer = LEAVING
            self._wake()

    def disconnect(self) -> None:
        """The client is gone: `receive()` says so, `send()` raises."""
        self.peer = GONE
        self._note_unanswered()
        self._wake()

    def _wake(self) -> None:
        waiters = self._waiters
        if waiters is not None:
            self._waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # ---------------------------------------------------------------- from the application

    async def receive(self) -> Message:
        """ASGI's receive: content as it arrives, then http.disconnect once the exchange is over."""
        if self.expects_continue:
            self.expects_continue = False
            if self.peer is THERE and (self.phase is NEW or self.phase is HEADED):
                self._stream.send_informational(100, ())
        while True:
            content = self._content
            if content:
                self._content = b""
                if self.phase is not DONE:  # after it the stream may carry another exchange, whose count this is not
                    self._stream.credit(len(content))
                return {"type": "http.request", "body": content, "more_body": not self._consume_eof()}
            if self._content_eof and self._consume_eof():
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.phase is DONE or self.peer is not THERE:
                return {"type": "http.disconnect"}
            waiter = asyncio.get_running_loop().create_future()
            # Each has a future of its own: one task cancelled in receive() must not end another's wait. Applications
            # poll by such cancellations (Starlette's is_disconnected), so those that are over are let go.
            self._waiters = [*(each for each in self._waiters or () if not each.done()), waiter]
            await waiter

    def _consume_eof(self) -> bool:
        """Whether the last content has been handed over; true once, so that the end is told once."""
        if self._content_eof:
            self._content_eof = False
            return True
        return False

    async def send(self, message: Message) -> None:
        """ASGI's send. Raises ApplicationError for what must not be sent, ClientDisconnected when nobody listens."""
        kind = message["type"]
        if self.peer is GONE:
            raise ClientDisconnected(f"the client is gone: {kind} cannot be sent")
        if kind == "http.response.body":
            phase = self.phase
            if phase is HEADED:
                self._send_head(message.get("body", b""), message.get("more_body", False))
            elif phase is STREAMING:
                self._send_more(message.get("body", b""), message.get("more_body", False))
            else:
                state = "before http.response.start" if phase is NEW else "after the response was complete"
                raise ApplicationError(f"http.response.body was sent {state}")
        elif kind == "http.response.start":
            self._hold_head(message)
            return
        else:
            await self._send_other(kind, message)
        if not self._stream.writable and self.phase is not DONE:
            await self._stream.drain()

    def _hold_head(self, message: Message) -> None:
        if self.phase is not NEW:
            raise ApplicationError("http.response.start was sent twice")
        status = message["status"]
        if not (isinstance(status, int) and 200 <= status <= 999):
            raise ApplicationError(f"http.response.start has status {status!r}: a final status is 200 to 999")
        headers = message.get("headers", ())
        self.response_headers = headers if isinstance(headers, (list, tuple)) else list(headers)
        self.status = status
        self._trailers_due = bool(message.get("trailers", False))
        self.phase = HEADED

    def _send_head(self, body: bytes, more: bool) -> None:
        status = self.status
        declared = -1
        for name, value in self.response_headers:
            if len(name) == 14 and name.lower() == b"content-length":
                declared = _content_length(value, declared)
        if status in {204, 304} or self.scope["method"] == "HEAD":
            framing, body = NONE, b""
        elif declared >= 0:
            framing = DECLARED
            self._check_first(declared, len(body), more)
            self._remaining = declared - len(body)
        else:
            framing = OPEN if more or self._trailers_due else WHOLE
        self._framing = framing
        self._stream.send_head(status, self.response_headers, body, more or self._trailers_due, framing)
        self.body_bytes = len(body)
        self.phase = STREAMING
        if not more:
            self._content_sent()

    @staticmethod
    def _check_first(declared: int, length: int, more: bool) -> None:
        # Nothing is out yet, so that a head that lies about its content can still become a 500.
        if length > declared or (not more and length < declared):
            raise ApplicationError(f"Content-Length is {declared}, but the content has {length} bytes")

    def _send_more(self, body: bytes, more: bool) -> None:
        if self._framing is NONE:
            body = b""
        elif self._framing is DECLARED:
            # Set only once it holds: an application that goes on after the error must not end up with a wrong length.
            remaining = self._remaining - len(body)
            if remaining < 0:
                raise ApplicationError(f"the content is {-remaining} bytes longer than its Content-Length")
            if not more and remaining:
                raise ApplicationError(f"the content is {remaining} bytes shorter than its Content-Length")
            self._remaining = remaining
        if body or not more:
            self._stream.send_body(body, more or self._trailers_due)
        self.body_bytes += len(body)
        if not more:
            self._content_sent()

    def _content_sent(self) -> None:
        if not self._trailers_due:
            self._done()

    def _done(self) -> None:
        self.phase = DONE
        self._wake()
        self._stream.finished(self)

    async def _send_other(self, kind: str, message: Message) -> None:
        if kind == "http.response.trailers":
            self._send_trailers(message)
        elif kind == "http.response.pathsend":
            await self._send_path(message["path"])
        elif kind == "http.response.early_hint":
            # RFC 8297: interim responses come before the final head, which is held until the first content.
            if self.phase is STREAMING or self.phase is DONE:
                raise ApplicationError("http.response.early_hint was sent after the response had begun")
            self._stream.send_informational(103, [(b"link", link) for link in message["links"]])
        else:
            raise ApplicationError(f"an HTTP application cannot send {kind!r}")

    def _send_trailers(self, message: Message) -> None:
        if self.phase is not STREAMING or not self._trailers_due:
            raise ApplicationError("http.response.trailers was sent without trailers=True, or before the content")
        self._trailers = [*(self._trailers or ()), *message.get("headers", ())]
        if not message.get("more_trailers", False):
            self._trailers_due = False
            self._stream.send_trailers(self._trailers)
            self._done()

    async def _send_path(self, path: str) -> None:
        """The http.response.pathsend extension: the file is the whole content."""
        if self.phase is not HEADED:
            raise ApplicationError("http.response.pathsend must follow http.response.start")
        # O_NONBLOCK: a path that turns out to be a FIFO must not stop the loop before it is refused.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise ApplicationError(f"http.response.pathsend: {path} is not a regular file")
            self._declare(facts.st_size)
            self._trailers_due = False
            self._send_head(b"", facts.st_size > 0)
            if self.phase is STREAMING:
                await self._send_opened(fd, facts.st_size)
        finally:
            os.close(fd)

    def _declare(self, size: int) -> None:
        """Sees to it that Content-Length is the file's, before anything is out: a file may have changed since."""
        for name, value in self.response_headers:
            if name.lower() == b"content-length":
                declared = _content_length(value, -1)
                if declared != size and self.status not in {204, 304} and self.scope["method"] != "HEAD":
                    raise ApplicationError(f"Content-Length is {declared}, but the file has {size} bytes")
                return
        self.response_headers = [*self.response_headers, (b"content-length", b"%d" % size)]

    async def _send_opened(self, fd: int, size: int) -> None:
        if self._framing is NONE:
            self._send_more(b"", False)
            return
        await self._stream.send_file(fd, 0, size, False)
        self.body_bytes = size
        self._done()

    # ---------------------------------------------------------------- around the application

    async def run(self, running: set[Exchange]) -> None:
        """Runs the application to its end and answers for what it leaves undone.

        The caller has put this exchange into `running`, which it leaves at the end. Raises CancelledError and
        KeyboardInterrupt only.
        """
        try:
            await self._app(self.scope, self.receive, self.send)
        except BaseException as error:  # SystemExit in a handler must not end the worker either
            if self.peer is THERE or not _is_farewell(error):
                log.error("Exception in ASGI application, answering %s", self.describe(), exc_info=from_the_app(error))
            self._fail()
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                raise
        else:
            if self.phase is not DONE:
                self._returned_early()
        finally:
            running.discard(self)

    def _returned_early(self) -> None:
        if self.peer is not THERE:
            # It was told http.disconnect, and an application that then just returns (Django) does well.
            self._give_up()
            return
        state = "starting" if self.phase is NEW else "completing"
        log.error("The ASGI application returned without %s its response, answering %s", state, self.describe())
        self._fail()

    def _fail(self) -> None:
        """A 500 while the head is unsent, a cut otherwise."""
        if self.phase is DONE:
            return
        if self.phase is STREAMING or self.peer is GONE:
            self._give_up()
            return
        self.status = 500
        self.response_headers = (_PLAIN_TEXT,)
        self._trailers_due = False
        self.phase = HEADED
        self._send_head(b"Internal Server Error", False)

    def _give_up(self) -> None:
        if self.phase is not DONE:
            self._note_unanswered()
            self.phase = DONE
            self._stream.reset()

    def _note_unanswered(self) -> None:
        if self.phase is NEW or self.phase is HEADED:
            self.status = CLIENT_LEFT

    # ---------------------------------------------------------------- facts

    def describe(self) -> str:
        """The request in a few words, for the log; control characters escaped."""
        client = self.client
        origin = (
            "an unnamed client" if client is None else client[0] if client[1] is None else f"{client[0]}:{client[1]}"
        )
        return f'"{self.method} {ascii(self.target)[2:-1]}" from {origin}'

    @property
    def client(self) -> HostPort | None:
        client: HostPort | None = self.scope["client"]
        return client

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def target(self) -> bytes:
        """The path and query as they came (RFC 9112 section 3.2.1)."""
        query: bytes = self.scope["query_string"]
        path: bytes = self.scope["raw_path"]
        return path + b"?" + query if query else path

    @property
    def http_version(self) -> str:
        version: str = self.scope["http_version"]
        return version

    @property
    def request_headers(self) -> list[Header]:
        headers: list[Header] = self.scope["headers"]
        return headers


def _content_length(value: bytes, seen: int) -> int:
    """An application's Content-Length, said once and well formed (RFC 9110 section 8.6)."""
    if not value.isdigit() or len(value) > 18:
        raise InvalidHeader(f"Content-Length {value!r} is not a length")
    if seen >= 0:
        raise InvalidHeader("Content-Length is given more than once")
    return int(value)


def _is_farewell(error: BaseException | None) -> bool:
    """Whether a gone client is all that went wrong: frameworks wrap what `send()` raised, or are cancelled by it."""
    while error is not None:
        # Starlette has a word of its own for an http.disconnect in the middle of a body; there is nothing to import.
        if (
            isinstance(error, (ClientDisconnected, asyncio.CancelledError))
            or type(error).__name__ == "ClientDisconnect"
        ):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(_is_farewell(inner) for inner in error.exceptions)
        error = error.__cause__ or error.__context__
    return False
