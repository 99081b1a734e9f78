"""One HTTP request and its response, as an ASGI application sees them, whatever the protocol below.

Law: `phase` only ever moves forward, NEW -> HEADED -> STREAMING -> TRAILERS -> DONE, but for FILE, which goes back.

    NEW        nothing sent. `http.response.start` -> HEADED
    HEADED     the head is held here, unsent, until the first content, so that both leave in one write; a failure up
               to now is still answered with a 500
    STREAMING  the head is out; a failure can only cut the response short
    FILE       a large file is on its way, and nothing may get between its bytes. It ends in STREAMING; one that broke
               off stays FILE, so that nothing sent behind it can make the response look whole
    TRAILERS   the content is complete, and only the trailers that were announced may follow
    DONE       the response is complete, or cannot be any more. The application may run on (background work)

The protocol calls `feed`, `feed_eof` and `disconnect`, which only record and wake; the application calls `receive`
and `send`, which reach the protocol through the `Stream` port and nothing else. `run` surrounds the application: its
failures are logged with the request and become a 500 or a cut connection, never a desynchronised one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from enum import Enum
from typing import TYPE_CHECKING

from palfrey.asgi.messages import (
    ApplicationError,
    Span,
    asks_for_trailers,
    check_trailers,
    content_length,
    named_span,
    open_whole,
)
from palfrey.asgi.request import Request
from palfrey.asgi.start import starter
from palfrey.asgi.stream import ClientDisconnected, Framing, is_farewell
from palfrey.errors import from_the_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palfrey.asgi.stream import Stream
    from palfrey.types import ASGIApp, Header, Headers, Message, Scope

log = logging.getLogger("palfrey.error")

CLIENT_LEFT = 499
"""The status of a request whose client left before an answer had begun, for the access log (nginx's number)."""

SMALL_FILE = 65536
"""Bytes of a file that are read at once and leave with the head, in one write: opening and preparing to have the kernel
send it costs more than a copy of this size."""

_PLAIN_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")


class Phase(Enum):
    """How far the response is."""

    NEW = "new"
    HEADED = "headed"
    STREAMING = "streaming"
    FILE = "file"
    TRAILERS = "trailers"
    DONE = "done"


class Peer(Enum):
    """What is known of the client."""

    THERE = "there"
    LEAVING = "leaving"
    """It sends no more; `receive()` says http.disconnect, but it may still read."""
    GONE = "gone"


# Looked up once: an attribute of an Enum class costs a third of a dictionary miss.
NEW, HEADED, STREAMING, DONE = Phase.NEW, Phase.HEADED, Phase.STREAMING, Phase.DONE
FILE, TRAILERS = Phase.FILE, Phase.TRAILERS
THERE, LEAVING, GONE = Peer.THERE, Peer.LEAVING, Peer.GONE
DECLARED, WHOLE, OPEN, NONE = Framing.DECLARED, Framing.WHOLE, Framing.OPEN, Framing.NONE


class Exchange(Request):
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
        "started",
        "status",
        "task",
    )

    kind = "ASGI"
    """The application's interface, for the log."""
    websockets = True
    """Whether an application of that interface can take them."""
    shows_scope = True
    """Whether the application is given the scope, and may change it. Where not, requests may share one; and it has the
    request target as it came, as "palfrey.target"."""
    starter = staticmethod(starter)
    """Of a loop: what is given the result of `run`, and gives the task, if there is one."""

    _framing: Framing
    """Of the response's content, once the head is out."""
    _remaining: int
    """Of the bytes that it was promised to have, where `_framing` is DECLARED."""

    def __init__(
        self,
        stream: Stream,
        app: ASGIApp,
        scope: Scope,
        expects_continue: bool,
        started: float,
        complete: bool = False,
    ) -> None:
        """`started` is time.monotonic() at the head's arrival; `expects_continue` is RFC 9110 section 10.1.1's.

        `complete` says that the request has no content.
        """
        self._stream = stream
        self._app = app
        self.scope = scope
        self.id_field = None
        self.started = started
        self.phase = NEW
        self.peer = THERE
        self.status = 0
        self.response_headers: Sequence[Header] = ()
        self.body_bytes = 0
        self.task: asyncio.Task[None] | None = None
        self.expects_continue = expects_continue
        self._content: bytes | bytearray = b""
        self._content_eof = complete
        self._trailers_due = False
        self._trailers: list[Header] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    # ---------------------------------------------------------------- from the protocol

    def feed(self, data: bytes) -> None:
        """Content of the request, decoded. The caller has checked it against the limits."""
        content = self._content
        if not content:
            self._content = data
        elif type(content) is bytearray:
            content += data
        else:
            self._content = bytearray(content) + data  # not to be copied for each of many small pieces
        self._wake()

    def feed_eof(self) -> None:
        """The request's content is complete."""
        self._content_eof = True
        if self._waiters is not None:
            self._wake()

    def switched(self, status: int, headers: Headers) -> None:
        """The stream speaks another protocol from now on: all that is left of this exchange is its application, and its
        line in the log when that is over."""
        self.status = status
        self.response_headers = headers if isinstance(headers, (list, tuple)) else list(headers)
        self.phase = DONE
        del self._stream  # which nobody asks for anything once this is DONE, and which need not live as long as this
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

    def file_sent(self, count: int) -> None:
        """So many more bytes of a file are on their way: said as it goes, for those who watch for progress."""
        self.body_bytes += count

    def _wake(self) -> None:
        waiters = self._waiters
        if waiters is not None:
            self._waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    @property
    def receiving(self) -> bool:
        """Whether the application waits in `receive()` now: then it is the client that keeps it waiting."""
        return any(not waiter.done() for waiter in self._waiters or ())

    @property
    def unanswered(self) -> bool:
        """Whether its client waits for the application: not so in background work behind the response, nor while it is
        the client that keeps the application waiting."""
        return self.phase is not DONE and not self._stream.waits_for_client()

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
                body = content if type(content) is bytes else bytes(content)
                return {"type": "http.request", "body": body, "more_body": not self._consume_eof()}
            if self._content_eof and self._consume_eof():
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.phase is DONE or self.peer is not THERE:
                return {"type": "http.disconnect"}
            # Python 3.11 asks the kernel for the process's id to find the running loop. The task knows, if it is known:
            # one that is started eagerly may wait before it is.
            task = self.task
            waiter = (asyncio.get_running_loop() if task is None else task.get_loop()).create_future()
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
                raise self._out_of_order(kind)
        elif kind == "http.response.start":
            self._hold_head(message)
            return
        else:
            await self._send_other(kind, message)
        if not self._stream.writable and self.phase is not DONE:
            await self._stream.drain()

    def _out_of_order(self, kind: str) -> ApplicationError:
        """For content that is sent where none may be."""
        if self.phase is NEW:
            return ApplicationError(f"{kind} was sent before http.response.start")
        if self.phase is FILE:
            return ApplicationError(f"{kind} was sent while a file was being sent, or after its sending had failed")
        return ApplicationError(f"{kind} was sent after the response was complete")

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

    def _send_head(self, body: bytes, more: bool, declared: int | None = None) -> None:
        """`declared` is what the fields say of the content's length, -1 for nothing; None: to be looked for."""
        status = self.status
        if self.id_field is not None and not any(name.lower() == self.id_field[0] for name, _ in self.response_headers):
            self.response_headers = [*self.response_headers, self.id_field]
        if declared is None:
            declared = -1
            for name, value in self.response_headers:
                if len(name) == 14 and name.lower() == b"content-length":
                    declared = content_length(value, declared)
        if status in {204, 304} or self.scope.get("method") == "HEAD":
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
            if self._trailers_due:
                self.phase = TRAILERS
            else:
                self._done()

    def _send_whole(self, status: int, headers: tuple[Header, ...], declared: int, lasting: bool, body: bytes) -> None:
        """A whole response in one step, from NEW to DONE. `declared` is what its fields say of its length, or -1;
        `lasting`: they come again."""
        self.status = status
        self.response_headers = headers
        bodiless = status in {204, 304} or self.scope["method"] == "HEAD"
        if bodiless or declared != len(body) or self.id_field is not None:
            self.phase = HEADED
            self._send_head(body, False, declared)
            return
        stream = self._stream
        if lasting:
            stream.send_again(status, headers, body)
        else:
            stream.send_head(status, headers, body, False, DECLARED)
        self.body_bytes = declared
        self.phase = DONE
        if self._waiters is not None:
            self._wake()
        stream.finished(self)

    @staticmethod
    def _check_first(declared: int, length: int, more: bool) -> None:
        # Nothing is out yet, so that a head that lies about its content can still become a 500.
        if length > declared or (not more and length < declared):
            raise ApplicationError(f"Content-Length is {declared}, but the content has {length} bytes")

    def _send_more(self, body: bytes, more: bool) -> None:
        if self._framing is NONE:
            body = b""
        elif self._framing is DECLARED:
            self._take_of_length(len(body), more)
        if body or not more:
            self._stream.send_body(body, more or self._trailers_due)
        self.body_bytes += len(body)
        if not more:
            self._content_sent()

    def _take_of_length(self, count: int, more: bool) -> None:
        """Counts content against the Content-Length that it was promised by."""
        remaining = self._remaining - count
        if remaining < 0:
            raise ApplicationError(f"the content is {-remaining} bytes longer than its Content-Length")
        if not more and remaining:
            raise ApplicationError(f"the content is {remaining} bytes shorter than its Content-Length")
        # Set only once it holds: an application that goes on after the error must not end up with a wrong length.
        self._remaining = remaining

    def _content_sent(self) -> None:
        if self._trailers_due:
            self.phase = TRAILERS
        else:
            self._done()

    def _done(self) -> None:
        self.phase = DONE
        if self._waiters is not None:
            self._wake()
        self._stream.finished(self)

    async def _send_other(self, kind: str, message: Message) -> None:
        if kind == "http.response.trailers":
            self._send_trailers(message)
        elif kind == "http.response.pathsend":
            await self._send_path(message["path"])
        elif kind == "http.response.zerocopysend":
            await self._send_file(kind, named_span(message), message.get("more_body", False))
        elif kind == "http.response.early_hint":
            self._send_hint(message)
        else:
            raise ApplicationError(f"an HTTP application cannot send {kind!r}")

    def _send_hint(self, message: Message) -> None:
        """ASGI allows hints until the content is complete, and a server to ignore them.

        RFC 8297: they come before the final head, which is held until the first content. Behind it they are useless.
        """
        if self.phase is DONE or self.phase is TRAILERS:
            raise self._out_of_order("http.response.early_hint")
        if self.phase is NEW or self.phase is HEADED:
            self._stream.send_informational(103, [(b"link", link) for link in message["links"]])

    def _send_trailers(self, message: Message) -> None:
        if self.phase is not TRAILERS:
            raise ApplicationError("http.response.trailers was sent without trailers=True, or before the content's end")
        fields = list(message.get("headers", ()))
        check_trailers(fields)
        self._trailers = [*(self._trailers or ()), *fields]
        if not message.get("more_trailers", False):
            self._stream.send_trailers(self._trailers if asks_for_trailers(self.request_headers) else ())
            self._done()

    async def _send_path(self, path: str) -> None:
        """The http.response.pathsend extension: the file is the whole content."""
        if self.phase is not HEADED:
            raise ApplicationError("http.response.pathsend must follow http.response.start at once")
        span = open_whole(path)
        try:
            await self._send_file("http.response.pathsend", span, False)
        finally:
            os.close(span.fd)

    async def _send_file(self, kind: str, span: Span, more: bool) -> None:
        """Content out of a file: a little of it as if it were a body's bytes, much of it by the stream's own means."""
        phase = self.phase
        if phase is HEADED:
            self._declare(span.length, more)
        elif phase is not STREAMING:
            raise self._out_of_order(kind)
        if self._framing is NONE if phase is STREAMING else self._bodiless():
            body = b""
        elif span.length <= SMALL_FILE:
            body = span.read()
        else:
            await self._send_large(span, more)
            return
        if phase is HEADED:
            self._send_head(body, more)
        else:
            self._send_more(body, more)

    async def _send_large(self, span: Span, more: bool) -> None:
        if self.phase is HEADED:
            self._send_head(b"", True)
        if self._framing is DECLARED:
            self._take_of_length(span.length, more)
        self.phase = FILE
        await self._stream.send_file(*span, more or self._trailers_due)
        if self.phase is not FILE:
            raise ClientDisconnected("the response was cut while a file was being sent")
        self.phase = STREAMING
        if not more:
            self._content_sent()

    def _bodiless(self) -> bool:
        return self.status in {204, 304} or self.scope.get("method") == "HEAD"

    def _declare(self, size: int, more: bool) -> None:
        """Sees to it that Content-Length fits a file, before anything is out: the file may have changed since."""
        declared = -1
        for name, value in self.response_headers:
            if name.lower() == b"content-length":
                declared = content_length(value, declared)
        if declared < 0:
            if not more and not self._trailers_due:
                self.response_headers = [*self.response_headers, (b"content-length", b"%d" % size)]
        elif (size > declared or (size < declared and not more)) and not self._bodiless():
            raise ApplicationError(f"Content-Length is {declared}, but the file has {size} bytes")

    # ---------------------------------------------------------------- around the application

    async def run(self, running: set[Exchange]) -> None:
        """Runs the application to its end and answers for what it leaves undone.

        The caller has put this exchange into `running`, which it leaves at the end. Raises CancelledError and
        KeyboardInterrupt only.
        """
        try:
            await self._app(self.scope, self.receive, self.send)
        except BaseException as error:  # SystemExit in a handler must not end the worker either
            self._failed(from_the_app(error))
            if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
                raise
        else:
            if self.phase is not DONE:
                self._returned_early()
        finally:
            running.discard(self)

    def _failed(self, error: BaseException) -> None:
        """The application raised: says so, unless all that is wrong is a client that left, and ends the response."""
        if self.phase is DONE and isinstance(error, asyncio.CancelledError):
            log.warning("Cut short: what the application went on with behind its answer to %s", self.describe())
        elif self.peer is not THERE and is_farewell(error):
            self._give_up()
            return
        else:
            what = getattr(self._app, "palfrey_name", f"{self.kind} application")
            log.error("Exception in %s, answering %s", what, self.describe(), exc_info=error)
        self._fail()

    def _returned_early(self) -> None:
        if self.peer is not THERE:
            # It was told http.disconnect, and an application that then just returns (Django) does well.
            self._give_up()
            return
        state = "starting" if self.phase is NEW else "completing"
        log.error(
            "The %s application returned without %s its response, answering %s", self.kind, state, self.describe()
        )
        self._fail()

    def _fail(self) -> None:
        """A 500 while the head is unsent, a cut otherwise."""
        if self.phase is DONE:
            return
        if self.peer is GONE or not (self.phase is NEW or self.phase is HEADED):
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
