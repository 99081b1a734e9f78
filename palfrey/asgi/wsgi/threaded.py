"""`threads = N`: the application runs in a thread of the worker's, and the loop sends what it makes.

    loop     run        content that is there -> `Pool.submit`
             _run_later content that is to come is collected before; or, while fewer than half of the threads wait for
                        clients in this way, enough of it to begin, and the rest arrives while it is read
    thread   work       calls the application, iterates over what it returns, closes it
             _say       a part -> `_parts`, of which the loop is told
    loop     _pass_on   sends the parts in order, as the client takes them
             over       the thread is through with it

A thread may be WINDOW bytes ahead of the client, and then waits (`_gate`): so a response that is shorter than that
never holds a thread for a client, and a longer one takes no more memory. The wait ends when the client reads, or
leaves; then the application gets ClientDisconnected from `write()`, and its iterator is closed.

A wrapped file is sent by the loop, and the thread is free meanwhile.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from palfrey.asgi.exchange import DONE, GONE, THERE, Exchange
from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.stream import ClientDisconnected, is_farewell
from palfrey.asgi.wsgi.input import SPOOL, Arriving, Spool, collect
from palfrey.asgi.wsgi.response import WsgiExchange, as_bytes, close, parts_of, whole, zero_copy
from palfrey.errors import from_the_app

if TYPE_CHECKING:
    from contextvars import Context
    from typing import IO

    from palfrey.asgi.stream import Stream
    from palfrey.asgi.wsgi.pool import Pool
    from palfrey.types import ASGIApp, Scope

log = logging.getLogger("palfrey.error")

WINDOW = 1 << 20
"""Bytes of a response that a thread may be ahead of its client. When it has to wait, then for half of them: woken for
each part it would take the interpreter from the loop each time, for a switch interval (5 ms)."""
PART = 4096
"""What a part counts for beside its bytes: a thread that makes small ones must wait as well, or the loop had no end."""

_MAKING = threading.Lock()
_REFUSAL = (503, ((b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")), -1, False)


def _say_unclosed(error: BaseException, request: str) -> None:
    log.error("Exception in WSGI application, closing its answer to %s", request, exc_info=from_the_app(error))


class Closing:
    """The end of an exchange's result, in a thread, as it may be anything that the application does."""

    def __init__(self, exchange: ThreadedExchange, result: Any, context: Context) -> None:
        self._exchange = exchange
        self._result = result
        self._context = context

    def describe(self) -> str:
        return self._exchange.describe()

    def work(self) -> None:
        app = self._exchange.app
        try:
            self._context.run(close, self._result)
        except BaseException as error:
            _say_unclosed(error, self.describe())
        if app.errors.begun:
            app.errors.end(self)

    def over(self) -> None:
        self._exchange.app.pool.done()
        self._exchange.end()


class ThreadedExchange(WsgiExchange):
    """See the module."""

    __slots__ = (
        "_ahead",
        "_arriving",
        "_broken",
        "_context",
        "_error",
        "_file",
        "_gate",
        "_input",
        "_over",
        "_parts",
        "_result",
        "_running",
        "_sending",
        "_size",
        "thread",
    )

    def __init__(
        self, stream: Stream, app: ASGIApp, scope: Scope, expects_continue: bool, started: float, complete: bool = False
    ) -> None:
        super().__init__(stream, app, scope, expects_continue, started, complete)
        # The interpreter makes reading or writing one attribute atomic, and each has one writer at a time.
        self._begun = False
        self._head = None
        self._broken = False
        """Nothing can be sent any more, or all has been. Set by the loop."""
        self._over = False
        """The thread is through with it. Of the loop."""
        self._error: BaseException | None = None
        """What the application raised. Set by the thread, before it is through."""
        self._file: dict[str, Any] | None = None
        """The message that has a file sent, in the place of parts. Set by the thread, before it is through."""
        self._result: Any = None
        self._context: Context
        """Of the application, where `_file` is to be closed in it."""
        self._parts: deque[tuple[bytes, bool]] = deque()
        """What is to be sent, and whether there is more: from the thread to the loop."""
        self._sending: asyncio.Task[None] | None = None
        """Waits for the client, with parts at hand. Of the loop."""
        self._gate: threading.Condition | None = None
        """Guards `_ahead`. Made by the thread, before the first of several parts."""
        self._ahead = 0
        """Bytes in `_parts`."""
        self._arriving: Arriving | None = None
        self._input: IO[bytes] | None = None
        self._size = 0
        """The content's, where all of it is there."""
        self._running: set[Exchange]
        self.thread = 0
        """That works on it, by threading.get_ident(); 0 before and afterwards."""

    # ---------------------------------------------------------------- in the loop: from the request to a thread

    def run(self, running: set[Exchange]) -> asyncio.Task[None] | None:  # type: ignore[override]
        """Hands the request over, and returns at once; the task that receives its content, if that is still to come."""
        app: Any = self._app
        if getattr(app, "exchange", None) is None:  # the server's own answer in its place
            return asyncio.create_task(Exchange.run(self, running))
        self.app = app
        self._running = running
        if not self._content_eof:
            return asyncio.create_task(self._run_later())
        content = self._take_content()
        self._size = len(content)
        self._input = io.BytesIO(content)
        self._submit()
        return None

    def _submit(self) -> None:
        if self.peer is not THERE:
            self._drop()
        elif not self.app.pool.submit(self):
            log.warning("Answered 503, since too many requests wait for a thread: %s", self.describe())
            self._head = _REFUSAL
            self._put(b"Service Unavailable\n", False)
            self.end()

    async def _run_later(self) -> None:
        """Once the content is there, or enough of it to begin: uploads that are slow hold few threads."""
        pool, spool = self.app.pool, Spool()
        # One without a length is waited for: most frameworks take no content for one that has no CONTENT_LENGTH.
        declared = any(name == b"content-length" for name, _ in self.request_headers)
        early = False
        try:
            complete = await collect(self.receive, spool, SPOOL if declared else None)
            early = not complete and pool.reserve()
            if not complete and not early:
                await collect(self.receive, spool)
            self._take_up(spool, early)
        except BaseException as error:
            if early:
                pool.release()
            spool.close()
            self._not_collected(error)
            self.end()
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        self._submit()
        arriving = self._arriving
        if arriving is not None:
            try:
                await arriving.receive_rest(self.receive)
            finally:
                arriving.cut()
                pool.release()

    def _take_up(self, spool: Spool, early: bool) -> None:
        """What has been collected becomes the application's input; `early`: with more to come. Raises SpoolError."""
        content = spool.file()
        if not early:
            self._size = spool.size
            self._input = content
            return
        self._arriving = Arriving(content.read(), self.app.pool.call_back)
        spool.close()
        self._input = io.BufferedReader(self._arriving, 1 << 16)

    def leaving(self) -> None:
        super().leaving()
        self._withdraw()

    def disconnect(self) -> None:
        super().disconnect()
        self._withdraw()
        self._break()

    def _withdraw(self) -> None:
        """The client has left: if it still waits for a thread, it is not begun."""
        pool: Pool | None = getattr(self._app, "pool", None)
        if pool is not None and pool.withdraw(self):
            self._drop()

    def _drop(self) -> None:
        if self.peer is not GONE:  # else the connection has done it
            self._give_up()
        self.end()

    # ---------------------------------------------------------------- in a thread

    def work(self) -> None:
        """Runs the application."""
        self.thread = threading.get_ident()
        copy_context().run(self._work)
        self.thread = 0

    def _work(self) -> None:
        app = self.app
        result: Any = None
        try:
            if self.peer is not THERE:
                raise ClientDisconnected("the client left before a thread was free")
            environ = app.environs.make(self.scope, self._input, self._size, self.client_gone)
            result = app.call(environ, self.start_response)
            kind = type(result)
            body = whole(result) if (kind is list or kind is tuple) and not self._begun else None
            if body is not None:
                self._begun = True
                self._parts.append((body, False))
            else:
                self._file = zero_copy(result, self._head) if not self._begun else None
                if self._file is None:
                    self._iterate(result)
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too: they are the request's end, no more
            self._error = from_the_app(error)
        if self._file is not None:
            self._result, self._context = result, copy_context()
        else:
            try:
                close(result)
            except BaseException as error:
                if self._error is None:
                    self._error = from_the_app(error)
                else:
                    _say_unclosed(error, self.describe())
        if app.errors.begun:
            app.errors.end(self)

    def _iterate(self, result: Any) -> None:
        over = False
        for part in parts_of(result):
            content = part if type(part) is bytes else as_bytes(part)
            if not content:
                continue
            if over:
                raise ApplicationError("the content is longer than its Content-Length")
            if self._bodiless_head():
                break  # an endless stream would have no end
            # start_response may come as late as with the first part, which may be the whole content.
            over = not self._begun and self._head is not None and len(content) == self._head[2]
            self._say(content, not over)
        if not over:
            self._say(b"", False)

    def write(self, data: bytes) -> None:
        """Raises ClientDisconnected when nobody takes it. Waits while the client reads too slowly."""
        content = data if type(data) is bytes else as_bytes(data)
        if content or not self._begun:  # the first one sends the head
            self._say(content, True)

    def _say(self, part: bytes, more: bool) -> None:
        """Has the loop send it. Waits, if it is too far ahead then."""
        gate = self._gate
        if gate is None:
            with _MAKING:  # the application may have threads of its own that write
                gate = self._gate = self._gate or threading.Condition()
        self._begun = True
        with gate:
            if self._broken:
                raise ClientDisconnected("the client is gone, or the response is over")
            self._ahead += len(part) + PART
            self._parts.append((part, more))
        self.app.pool.call_back(self._pass_on)
        if self._ahead > WINDOW:
            with gate:
                while self._ahead > WINDOW // 2 and not self._broken:
                    gate.wait()

    # ---------------------------------------------------------------- in the loop: from a thread to the client

    def over(self) -> None:
        """The thread is through with it."""
        self.app.pool.done()
        self._over = True
        self._pass_on()

    def _pass_on(self) -> None:
        """Sends what the thread has said, as far as the client takes it."""
        if self._sending is not None:
            return
        parts = self._parts
        for _ in range(len(parts)):  # a thread that is faster than this must not keep the loop: it calls again for more
            if self.peer is GONE:
                self._break()
                break
            part, more = parts.popleft()
            try:
                self._put(part, more)
            except Exception as error:
                self._failed(error)
                self._break()
                break
            if self._gate is not None:
                self._take_off(len(part) + PART)
            if more and not self._stream.writable:
                self._sending = asyncio.create_task(self._wait_for_client())
                return
        if self._over:
            self._over = False
            self._conclude()

    async def _wait_for_client(self) -> None:
        await self._stream.drain()
        self._sending = None
        self._pass_on()

    def _take_off(self, count: int) -> None:
        gate = self._gate
        if gate is not None:
            with gate:
                self._ahead -= count
                if self._ahead <= WINDOW // 2:
                    gate.notify_all()

    def _break(self) -> None:
        """Nothing can be sent any more: tells the threads."""
        self._broken = True
        self._parts.clear()
        if self._arriving is not None:
            self._arriving.cut()
        gate = self._gate
        if gate is not None:
            with gate:
                gate.notify_all()

    def _conclude(self) -> None:
        """All that there is has been sent."""
        error, self._error = self._error, None
        if self._file is not None:
            self._sending = asyncio.create_task(self._send_wrapped(self._file))
            return
        if error is not None and not (self._broken and is_farewell(error)):
            self._failed(error)
        elif self.phase is not DONE:
            self._give_up()  # the client is gone
        self.end()

    async def _send_wrapped(self, message: dict[str, Any]) -> None:
        """The file of a FileWrapper; no thread waits for it, and one closes it."""
        try:
            if self._head is None:
                raise ApplicationError("content was returned before start_response was called")
            status, headers, *_ = self._head
            await self.send({"type": "http.response.start", "status": status, "headers": headers})
            await self.send(message)
        except Exception as error:
            self._failed(error)
        finally:
            result, self._result, self._file, self._sending = self._result, None, None, None
            self._break()  # for who writes on
            self.app.pool.hand(Closing(self, result, self._context))

    def end(self) -> None:
        """Nothing more will be done for this request: its result is closed, and all of it is given to the connection,
        or up. In the loop, once."""
        self._break()  # for who writes on, in a thread of the application's own
        self._running.discard(self)
        if self._arriving is not None:
            self._wake()  # who receives the rest
        if self._input is not None:
            self._input.close()

    callers = frozenset((_work.__code__, Closing.work.__code__))
