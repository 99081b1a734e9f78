"""`threads = 0`: the application runs on the event loop, between two turns of it.

A request is read whole before it is begun, and what the application returns is sent as the client takes it: an iterator
is asked for its next part when there is room for it, so that no client holds the loop. What the application itself
waits for does, for everybody; it is for applications that compute and do not wait.

The usual request, whose content is there and whose response is a short list, takes no task and no coroutine: `run` is
through with it when it returns. Each request has a context of its own (contextvars), as under a task.

The application sees no running loop: there is none that it could wait for, and Django's database layer, for one,
refuses to work in a thread whose loop runs.
"""

from __future__ import annotations

import asyncio
import io
from asyncio import _enter_task as enter_task
from asyncio import _leave_task as leave_task
from asyncio import _set_running_loop as set_running_loop
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from palfrey.asgi.exchange import DONE, GONE, Exchange
from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.stream import ClientDisconnected
from palfrey.asgi.wsgi.input import Spool, collect
from palfrey.asgi.wsgi.response import WsgiExchange, as_bytes, close, parts_of, whole, zero_copy
from palfrey.errors import from_the_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from palfrey.asgi.wsgi.app import WsgiApp


T = TypeVar("T")

_END, _TAKEN = object(), object()


def without_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., T], *arguments: Any) -> T:
    """Has what is the application's called as if this thread had neither a loop that runs nor a task: Python 3.14 lets
    no other loop begin one within a task."""
    task = asyncio.current_task(loop)
    if task is not None:
        leave_task(loop, task)
    set_running_loop(None)
    try:
        return call(*arguments)
    finally:
        set_running_loop(loop)
        if task is not None:
            enter_task(loop, task)


class InlineExchange(WsgiExchange):
    """See the module."""

    __slots__ = ("_result", "_written")

    _result: Any
    """What the application has returned, until `_stream_out` takes it."""
    _written: Spool | None
    """What the application has given to write()."""

    def run(self, running: set[Exchange]) -> asyncio.Task[None] | None:  # type: ignore[override]
        """Runs the application; the task that goes on with it, if it was not over at once."""
        app: Any = self._app
        if getattr(app, "exchange", None) is None:  # the server's own answer in its place
            return asyncio.create_task(Exchange.run(self, running))
        self.app = app
        self._begun = False
        self._head = self._written = None
        context = copy_context()
        if not self._content_eof:
            return asyncio.create_task(self._run_later(app, running), context=context)
        content = self._content
        if content:
            content = self._take_content()
        if context.run(self._answer, app, io.BytesIO(content), len(content)):
            running.discard(self)
            if app.errors.begun:
                app.errors.end(self)
            return None
        task = asyncio.create_task(self.go_on(running), context=context)
        task.add_done_callback(partial(self._make_up, running), context=context)
        return task

    def _leave(self, running: set[Exchange]) -> None:
        """Nothing more will be done for this request."""
        running.discard(self)
        if self.app.errors.begun:
            self.app.errors.end(self)

    async def _run_later(self, app: WsgiApp, running: set[Exchange]) -> None:
        """Once the content is there."""
        spool = Spool()
        try:
            await collect(self.receive, spool)
            content = spool.file()
        except BaseException as error:
            spool.close()
            self._not_collected(error)
            running.discard(self)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        try:
            if without_loop(app.pool.loop, self._answer, app, content, spool.size):
                self._leave(running)
            else:
                await self.go_on(running)
        finally:
            spool.close()

    def _answer(self, app: WsgiApp, content: IO[bytes], size: int) -> bool:
        """Calls the application, and sends what it returns, if that is there. Whether it was; otherwise it is for
        `go_on`. Raises nothing. `size` is the content's."""
        result: Any = None
        try:
            environ = app.environs.make(self.scope, content, size, self.client_gone)
            set_running_loop(None)
            try:
                result = app.call(environ, self.start_response)
            finally:
                set_running_loop(app.pool.loop)
            kind = type(result)
            if (kind is list or kind is tuple) and self._written is None:
                body = result[0] if len(result) == 1 and type(result[0]) is bytes else whole(result)
                head = self._head
                if body is not None and head is not None:
                    self._send_whole(*head, body)
                    return True
            self._result = result
            return False
        except BaseException as error:
            self._failed(from_the_app(error))
            self._close(result)
            if self._written is not None:
                self._written.close()
            return True

    def _close(self, result: Any) -> None:
        try:
            without_loop(self.app.pool.loop, close, result)
        except BaseException as error:
            self._failed(from_the_app(error))

    def _make_up(self, running: set[Exchange], _: object) -> None:
        """The task is over. If it was cancelled before its first step, nobody else closes the result."""
        if self._result is not _TAKEN:
            self._give_up()
            if self._written is not None:
                self._written.close()
            self._close(self._result)
            self._leave(running)

    async def go_on(self, running: set[Exchange]) -> None:
        """Sends what could not be sent at once."""
        try:
            await self._stream_out()
        except BaseException as error:
            self._failed(from_the_app(error))
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._leave(running)

    def write(self, data: bytes) -> None:
        """Collects: nothing can be sent while the application has the loop, and it may write any amount."""
        if self.phase is DONE:
            raise ApplicationError("write() was called when the response was over")
        if self._written is None:
            self._written = Spool()
        self._written.add(data if type(data) is bytes else as_bytes(data))
        self._begun = True

    # ---------------------------------------------------------------- what takes turns of the loop

    async def _stream_out(self) -> None:
        """Sends what the application wrote and returned, part by part."""
        result, self._result = self._result, _TAKEN
        try:
            message = zero_copy(result, self._head) if self._written is None else None
            if message is not None and self._head is not None:
                await self._send_wrapped(message)
            else:
                await self._send_parts(self._made(result))
        finally:
            if self._written is not None:
                self._written.close()
            self._close(result)

    def _made(self, result: Any) -> Iterator[Any]:
        """What is in it, one by one."""
        loop = self.app.pool.loop
        parts = without_loop(loop, parts_of, result)
        while (part := without_loop(loop, next, parts, _END)) is not _END:
            yield part

    async def _send_written(self) -> None:
        """What there is of it. An application may even write while its result is iterated over."""
        written, self._written = self._written, None
        if written is None:
            return
        try:
            file = written.file()
            while data := file.read(1 << 16):
                await self._send_part(data)
        finally:
            written.close()

    async def _send_wrapped(self, message: dict[str, Any]) -> None:
        assert self._head is not None
        self._begun = True
        status, headers, *_ = self._head
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send(message)

    async def _send_parts(self, parts: Iterator[bytes]) -> None:
        await self._send_written()
        for part in parts:
            content = part if type(part) is bytes else as_bytes(part)
            if self._written is not None:
                await self._send_written()
            if not content:
                continue
            head = self._head  # start_response may come as late as with the first part
            if head is not None and self.body_bytes + len(content) == head[2] and self.phase is not DONE:
                self._send_last(content)
            else:
                await self._send_part(content)
            if self._bodiless_head():  # an endless stream would have no end
                break
        await self._send_written()
        if self.phase is not DONE:
            self._send_last(b"")

    def _send_last(self, part: bytes) -> None:
        self._begun = True
        self._check_there()
        self._put(part, False)

    async def _send_part(self, part: bytes) -> None:
        """Returns when there is room for another, and others have had their turn."""
        self._begun = True
        self._check_there()
        if self.phase is DONE:
            raise ApplicationError("the content is longer than its Content-Length")
        self._put(part, True)
        if self._stream.writable:
            await asyncio.sleep(0)
        else:
            await self._stream.drain()

    def _check_there(self) -> None:
        if self.peer is GONE:
            raise ClientDisconnected("the client is gone")

    callers = frozenset((_answer.__code__, _stream_out.__code__, _make_up.__code__))
