"""The lifespan protocol: the application's startup before the first request and its shutdown after the last.

One task runs the application for the whole of the worker's life; `startup` and `shutdown` each put one message in
and wait for the answer. Rules (ASGI lifespan specification 2.0): with "auto", an application that raises before it
answered is taken to have no lifespan; with "on" that is a failure; `lifespan.startup.failed` is one in both.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from enum import Enum
from typing import TYPE_CHECKING, Any

from palfrey.errors import LifespanError, from_the_app

if TYPE_CHECKING:
    from palfrey.types import ASGIApp, Message

log = logging.getLogger("palfrey.error")

SPEC = {"version": "3.0", "spec_version": "2.0"}

CANCEL_PATIENCE = 0.5
"""Seconds that the application's coroutine has to end once it has said its last word, and again once it is cancelled;
one that will not is left behind."""


class Phase(Enum):
    """Where the application is in its life."""

    NEW = "new"
    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    ENDED = "ended"
    """Its coroutine is over, or it never took part."""


class Lifespan:
    """One application's lifespan. `state` is what it left there; each request gets a shallow copy of it."""

    def __init__(self, app: ASGIApp, mode: str) -> None:
        """`mode` is the setting `lifespan`: auto, on or off."""
        self.state: dict[str, Any] = {}
        self.phase = Phase.NEW
        self._app = app
        self._mode = mode
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[str | bool] | None = None
        """True: complete. False: it ended without an answer. A text: it has failed, and why."""
        self._task: asyncio.Task[None] | None = None
        self._raised: BaseException | None = None
        self._parting = False
        """There will be no further message."""

    async def startup(self) -> None:
        """Returns when the application is ready to serve. Raises LifespanError when it says or shows that it is not."""
        if self._mode == "off":
            self.phase = Phase.ENDED
            return
        self.phase = Phase.STARTING
        answer = await self._ask("lifespan.startup")
        if isinstance(answer, str):
            await self._leave()
            # Starlette sends its whole traceback as the message; the last line of one says what happened.
            lines = answer.strip().splitlines() or ["it gave no reason"]
            detail = answer.rstrip() if len(lines) > 1 else ""
            # What it raised behind its message (Starlette does) is there by now, with the traceback.
            raise LifespanError(f"the application's lifespan startup failed: {lines[-1]}", detail) from self._cause()
        if not answer:
            self._ended_at_once()

    def _ended_at_once(self) -> None:
        """It ended instead of answering: no lifespan, or a failure where one is insisted on."""
        if self._raised is not None and self._mode == "on":
            raise LifespanError(
                f"the application's lifespan raised {type(self._raised).__name__} during startup",
                "".join(traceback.format_exception(from_the_app(self._raised))).rstrip(),
            ) from self._raised
        if self._mode == "on":
            raise LifespanError("the application's lifespan ended during startup without an answer")
        if self._raised is not None:
            log.debug("The application seems to have no lifespan: it raised %r", self._raised)

    def _cause(self) -> BaseException | None:
        return None if self._raised is None else from_the_app(self._raised)

    async def shutdown(self) -> None:
        """Returns when the application has shut down, or failed to, which is logged; at once if it never started.

        Waits for the application without limit; a caller that gives up calls `cancel`.
        """
        if self.phase is not Phase.STARTED:
            await self.cancel()
            return
        self.phase = Phase.STOPPING
        answer = await self._ask("lifespan.shutdown")
        await self._leave()
        if isinstance(answer, str):
            log.error("The application's lifespan shutdown failed: %s", answer or "it gave no reason")
        elif self._raised is not None:
            error = from_the_app(self._raised)
            log.error("The application's lifespan raised during shutdown", exc_info=error)

    async def _leave(self) -> None:
        """Has the coroutine end: it has said its last word, and may have something to close behind that (a wrapper that
        is around another application). One that asks for a further message is through with it."""
        self._parting = True
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=CANCEL_PATIENCE)
        await self.cancel()

    async def _receive(self) -> Message:
        if self._parting:
            self._parting = False  # to one that catches this and asks again it is not said for ever
            raise asyncio.CancelledError
        return await self._inbox.get()

    async def _ask(self, kind: str) -> str | bool:
        """Puts `kind` in, and returns what came of it: see `_answer`."""
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._inbox.put_nowait({"type": kind})
        if self._task is None:
            self._task = loop.create_task(self._run(), name="palfrey lifespan")
        return await self._answer

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": dict(SPEC), "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # any way out of the application, SystemExit included, is only its end
            self._raised = error
            if self.phase is Phase.STARTED:
                log.error("The application's lifespan raised while serving", exc_info=from_the_app(error))
        finally:
            self.phase = Phase.ENDED
            self._settle(False)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        phase = "startup" if self.phase is Phase.STARTING else "shutdown"
        if kind not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed"):
            raise RuntimeError(f"a lifespan application cannot send {kind!r} during {phase}")
        complete = kind.endswith("complete")
        if complete and self.phase is Phase.STARTING:
            self.phase = Phase.STARTED
        self._settle(complete or str(message.get("message", "")))

    def _settle(self, answer: str | bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    async def cancel(self) -> None:
        """Ends the application's coroutine, whatever it is at."""
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            _, pending = await asyncio.wait((task,), timeout=CANCEL_PATIENCE)
            if pending:
                log.warning("The application's lifespan goes on although it was cancelled")
