"""The user's code and its way to the threads: `Call` is what runs there, `Step` one trip there and back."""

from __future__ import annotations

import asyncio
import functools
import inspect
import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

from palfrey.asgi.handler.messages import Answer, Request, Response, answer, encoded
from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.wsgi.response import close
from palfrey.errors import from_the_app

log = logging.getLogger("palfrey.error")

T = TypeVar("T")

Handler = Callable[..., object]
"""handler(request, response, *args); what it returns is not looked at."""

BLOCK = 65536
"""Bytes of an open file that are sent at a time. Its lines would each be a trip to a thread."""

_END = object()


class Call:
    """One call of the handler, and what its response needs until it is over.

    `begin`, `go_on` and `close` are for threads, one at a time; `call_off` and `abandon` for the loop. A step goes on
    though its request is cancelled, and then closes what there is: a generator that runs cannot be closed.
    """

    __slots__ = (
        "_abandoned",
        "_args",
        "_called_off",
        "_context",
        "_handler",
        "_lock",
        "_name",
        "_pieces",
        "_request",
        "_response",
        "_settled",
    )

    def __init__(self, handler: Handler, args: tuple[Any, ...], request: Request) -> None:
        self._handler, self._args = handler, args
        self._request: Request | None = request
        self._name = repr(request)
        self._response = Response(request.protocol)
        self._pieces: Iterator[Any] | None = None
        self._context = copy_context()
        self._lock = threading.Lock()
        """Held by a step."""
        self._called_off = self._abandoned = False
        self._settled = True
        """Whether there is nothing to be closed, or not yet."""

    def __str__(self) -> str:
        """The request, for the log."""
        return self._name

    def call_off(self) -> None:
        """If it has not begun, it will not."""
        self._called_off = True

    def abandon(self) -> bool:
        """No further step will be asked for. Whether `close` is to be called."""
        # The loop sets these and then looks whether a step has begun, or runs. A step sets that it has begun, and is
        # over, and then looks at these. So whichever comes second sees the other.
        self._called_off = self._abandoned = True
        if self._settled or not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return True

    def begin(self) -> Answer | None:
        """Calls the handler. None if it was called off before."""
        return self._step(self._begin)

    def go_on(self) -> bytes | None:
        """The next piece, which may be empty. None: that was all, and it is closed."""
        return self._step(self._go_on)

    def close(self) -> None:
        """Once; further calls do nothing."""
        with self._lock:
            self._context.run(self._settle)

    def _step(self, function: Callable[[], T]) -> T:
        try:
            with self._lock:
                return self._context.run(function)
        finally:
            if self._abandoned:
                self.close()

    def _begin(self) -> Answer | None:
        self._settled = False
        if self._called_off:
            self._settled = True
            return None
        request, self._request = self._request, None  # whose content need not live as long as a stream
        returned = self._handler(request, self._response, *self._args)
        if returned is not None:
            _look_at(returned)
        found = answer(self._response)
        if found.body is None:
            self._pieces = _pieces(self._response.data)
        else:
            self._settle()
        return found

    def _go_on(self) -> bytes | None:
        if self._settled:  # `close` was faster
            return None
        assert self._pieces is not None
        piece = next(self._pieces, _END)
        if piece is not _END:
            return encoded(piece)
        self._settle()
        return None

    def _settle(self) -> None:
        """Closes response.data, and its iterator where that is another: a generator, that of a class, has something to
        be closed as well. What goes wrong is logged."""
        if self._settled:
            return
        self._settled = True
        data = self._response.data
        for each in (self._pieces, data) if self._pieces is not data else (data,):
            try:
                close(each)
            except BaseException as error:
                log.error("Exception in the handler, closing its answer to %s", self, exc_info=from_the_app(error))


def _look_at(returned: object) -> None:
    """What a handler returns is of no interest, unless it is itself and has yet to run. Raises ApplicationError."""
    if inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        if inspect.iscoroutine(returned):
            returned.close()  # or it would warn that nobody awaited it
        raise ApplicationError(
            f"the handler returned a {type(returned).__name__}, and has done nothing: use plain `def`"
        )


def _pieces(data: Any) -> Iterator[Any]:
    """Of a binary file, whatever wraps it (tempfile's do), blocks: no more than there is, as it may be a pipe."""
    read = data.read if isinstance(data, io.RawIOBase) else getattr(data, "read1", None)
    return iter(data) if read is None else iter(functools.partial(read, BLOCK), b"")


class Step:
    """One trip to a thread of a pool's."""

    __slots__ = ("_done", "_error", "_function", "_future", "_result")

    def __init__(self, function: Callable[[], Any], done: Callable[[], None]) -> None:
        """`done` is the pool's word for its end."""
        self._function, self._done = function, done
        self._future = asyncio.get_running_loop().create_future()
        self._result: Any = None
        self._error: Exception | None = None

    async def result(self) -> Any:
        """What the function returned. Raises what it raised."""
        await self._future
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def settle(self) -> None:
        """It has been made, or will not be: then its result is None."""
        if not self._future.done():
            self._future.set_result(None)

    def work(self) -> None:
        try:
            self._result = self._function()
        except Exception as error:
            self._error = error
        except BaseException as error:  # SystemExit and its like mean to end a program, which a request must not
            self._error = RuntimeError(f"{type(error).__name__} in a handler")
            self._error.__cause__ = from_the_app(error)

    def over(self) -> None:
        self._done()
        self.settle()
