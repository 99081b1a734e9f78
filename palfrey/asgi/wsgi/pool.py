"""The threads of a server that run a WSGI application, or a handler (asgi/handler/), and the hand-over and back.

To the threads goes a queue; it holds a few jobs for each, so that none has to wait for the loop when it is done. What
is more waits here, in order, where a job whose client leaves is taken out again without having cost anything; and of
those at most WAITING: one more is refused, which is answered with 503.

Back come calls, in order, in a deque: the first wakes the loop and those that follow ride along. The loop never waits
for a thread, and a thread waits for the loop only behind a client that does not read (threaded.py), who ends it either
way by reading or leaving.

Threads are made when they are needed, so not before a fork. They are daemons: an application that hangs for good must
not keep its process alive.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from palfrey.types import Receive, Send

log = logging.getLogger("palfrey.error")

AT_HAND = 16
"""Jobs for each thread that may be in its queue."""
WAITING = 2048
"""Jobs that may wait behind those (the default of `backlog`)."""

Call = Callable[[], None]


class Job(Protocol):
    """What is handed over."""

    def work(self) -> None:
        """In a thread. It answers itself for what goes wrong: what it raises is only logged."""

    def over(self) -> None:
        """In the loop, once, behind all that `work` has had called there. It is to say `done`, or `done_step`."""


class Pool:
    """See the module. All but `call_back` is for the loop's thread."""

    def __init__(self, size: int, name: str = "palfrey-wsgi") -> None:
        """The threads' names are `name` and a number."""
        self.size = size
        self._name = name
        self._threads = 0
        self._handed = 0
        """Jobs that are in the queue, or in a thread."""
        self._steps = 0
        """Those of them that are steps."""
        self._at_hand = size * AT_HAND
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting: dict[Job, None] = {}
        self._back: deque[Call] = deque()
        self._awake = False
        self.loop: asyncio.AbstractEventLoop
        self._context: Context
        self._ended: asyncio.Future[None] | None = None
        self._reserved = 0

    async def live(self, receive: Receive, send: Send) -> None:
        """The lifespan of an application that is nothing but threads (ASGI)."""
        await receive()
        self.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def open(self) -> None:
        """Belongs to the running loop from now on. Its threads have the context variables of this moment (contextvars),
        as tasks of the loop do."""
        self.loop = asyncio.get_running_loop()
        self._context = copy_context()

    async def close(self) -> None:
        """Returns when the threads have done what they were given, and ended. Without limit: to be cancelled."""
        if not self._threads:
            return
        self._ended = self.loop.create_future()
        for _ in range(self._threads):
            self._queue.put(None)
        try:
            await self._ended
        except asyncio.CancelledError:
            log.warning("Threads that go on in the application and are left behind: %d", self._threads)
            raise

    def submit(self, job: Job) -> bool:
        """Has a thread run the job, in its turn; False when too many wait, or there can be no thread."""
        if self._handed - self._steps >= self._at_hand:
            if len(self._waiting) >= WAITING:
                return False
            self._waiting[job] = None
            return True
        try:
            self.hand(job)
        except RuntimeError:
            return False
        return True

    def withdraw(self, job: Job) -> bool:
        """Takes a job back that still waits; whether it did."""
        return self._waiting.pop(job, self) is not self

    def reserve(self) -> bool:
        """Whether a request may be submitted whose content is still to come, so that its thread waits for its client:
        at most half of the threads do, so that others remain for others. If so, `release` is to follow."""
        if self._reserved >= self.size // 2:
            return False
        self._reserved += 1
        return True

    def release(self) -> None:
        """Its content is whole, or nobody reads it any more."""
        self._reserved -= 1

    def hand(self, job: Job) -> None:
        """Puts it into the threads' queue, whatever waits. Raises RuntimeError when there is no thread, and none can be
        made."""
        if self._ended is not None:  # theirs ends before this
            self._begin(partial(self._do, job), "last")
            self._handed += 1
            return
        if self._handed >= self._threads < self.size:
            self._begin_another()
        self._handed += 1
        self._queue.put(job)

    def _begin_another(self) -> None:
        try:
            self._begin(self._live, str(self._threads + 1))
        except RuntimeError as error:
            # The system has no room for it now: those that there are do its work, and the next job tries again.
            log.warning("A thread for the application cannot be made: %s", error)
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _begin(self, work: Call, name: str) -> None:
        run = self._context.copy().run
        threading.Thread(target=run, args=(work,), name=f"{self._name}-{name}", daemon=True).start()

    def done(self) -> None:
        """A job is over: for each that was handed over, once."""
        self._handed -= 1
        if self._waiting:
            job = next(iter(self._waiting))
            del self._waiting[job]
            self.hand(job)

    def hand_step(self, job: Job) -> None:
        """Puts a part of work that has begun into the threads' queue, whatever waits. It takes up none of the places
        that jobs have there: work of endless steps would keep them all."""
        self.hand(job)
        self._steps += 1

    def done_step(self) -> None:
        """A step is over."""
        self._steps -= 1
        self._handed -= 1

    # ---------------------------------------------------------------- in the threads

    def _live(self) -> None:
        get = self._queue.get
        while (job := get()) is not None:
            self._do(job)
            del job  # what it holds must not live until the next one
        self.call_back(self._end)

    def _do(self, job: Job) -> None:
        try:
            job.work()
        except BaseException as error:  # such as that of a log which could not take what had gone wrong
            context = {"message": "What a thread had to do has failed", "exception": error}
            self.call_back(partial(self.loop.call_exception_handler, context))
        self.call_back(job.over)

    def call_back(self, call: Call) -> None:
        """Has the loop call it, behind what was given before. From any thread."""
        self._back.append(call)
        if not self._awake:
            self._awake = True
            try:
                # In a context of the pool's: an application's, whose thread this is, is no other request's.
                self.loop.call_soon_threadsafe(self._take, context=self._context.copy())
            except RuntimeError:  # the loop is closed: nobody is left to hear it
                pass

    # ---------------------------------------------------------------- in the loop

    def _take(self) -> None:
        self._awake = False  # before the deque is looked at: what comes from now on wakes anew
        back = self._back
        for _ in range(len(back)):
            try:
                back.popleft()()
            except BaseException:
                self.loop.call_soon(self._take)  # the others do not wait for another wake-up
                raise

    def _end(self) -> None:
        self._threads -= 1
        if not self._threads and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
