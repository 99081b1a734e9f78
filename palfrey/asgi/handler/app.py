"""`HandlerApp`: a handler as an ASGI 3 application.

    loop     content is there -> `Call.begin` waits for a thread; it is taken out again if the client leaves
    thread   begin      calls the handler, and makes an answer of what it left in the response
    loop                sends the head, and content
    thread   go_on      the next piece of content that streams
    loop                sends it. A slow client holds back its producer here, and no thread
    thread   close      what the handler left is closed once, whatever became of it: with the last step, or in one more

With a single thread the user's code is never in two places at a time; between two pieces of a stream it is the turn of
those who wait, so that no client can keep the others from theirs.

An exception goes on to the exchange, which logs it and answers 500, or cuts a response that has begun.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from palfrey.asgi.handler.call import Call, Handler, Step
from palfrey.asgi.handler.messages import REFUSAL, Answer, Request
from palfrey.asgi.wsgi.pool import Pool

if TYPE_CHECKING:
    from palfrey.types import Message, Receive, Scope, Send

log = logging.getLogger("palfrey.error")


class HandlerApp:
    """See the module. Its lifespan is that of its threads."""

    palfrey_name = "the handler"
    """What the log calls it: whoever wrote a handler knows nothing of ASGI."""

    def __init__(self, handler: Handler, args: tuple[Any, ...], threads: int) -> None:
        """`handler(request, response, *args)` is called in one of so many threads."""
        self._handler, self._args = handler, args
        self._pool = Pool(threads, "palfrey-handler")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._pool.live(receive, send)
            return
        data = await _content(receive)
        if data is None:
            return
        call = Call(self._handler, self._args, Request(scope, data))
        del data  # which need not live as long as a stream
        begin = Step(call.begin, self._pool.done)

        def call_off(_: object) -> None:
            call.call_off()  # if it has begun, it goes on: a client that sends no more may still read
            if self._pool.withdraw(begin):
                begin.settle()

        left = asyncio.ensure_future(receive())  # there is nothing else to come but http.disconnect
        left.add_done_callback(call_off)
        try:
            if self._pool.submit(begin):
                answer: Answer | None = await begin.result()
            else:
                log.warning("Answered 503, since too many requests wait for a thread: %s", call)
                answer = REFUSAL
            if answer is not None:
                await send({"type": "http.response.start", "status": answer.status, "headers": answer.fields})
                if answer.body is None and scope["method"] != "HEAD" and answer.status not in (204, 304):
                    await self._stream(call, left, send)
                else:
                    await send({"type": "http.response.body", "body": answer.body or b""})
        finally:
            left.cancel()
            if call.abandon():
                self._pool.hand_step(Step(call.close, self._pool.done_step))

    async def _stream(self, call: Call, left: asyncio.Future[Message], send: Send) -> None:
        while (piece := await self._piece(call)) is not None:
            if piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            elif left.done():  # where nothing is sent, nobody else would find out
                return
        await send({"type": "http.response.body", "body": b""})

    async def _piece(self, call: Call) -> bytes | None:
        """The next one: a part of work that has begun, which is not refused and goes before what waits."""
        step = Step(call.go_on, self._pool.done_step)
        self._pool.hand_step(step)
        piece: bytes | None = await step.result()
        return piece


async def _content(receive: Receive) -> bytes | None:
    """The whole of it; None when the client left before it was."""
    content: bytes | bytearray = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body: bytes = message.get("body", b"")
        if not content:
            content = body
        elif isinstance(content, bytearray):
            content += body
        else:
            content = bytearray(content) + body
        if not message.get("more_body", False):
            return bytes(content)
