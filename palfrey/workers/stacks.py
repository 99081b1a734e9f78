"""What the stacks of a worker that hangs do not show: which requests it has in hand, and what waits for what.

faulthandler (`palfrey/system/dump.py`) shows what the interpreter runs, in whatever state it is. It does not know
requests: `in_hand` names them, and first the one whose code was interrupted, found by walking from the frame that the
signal's handler was given down to the exchange that runs it. And an application that waits for what never comes (a
database that does not answer) runs nothing: the stack is that of an idle event loop, and the place to mend is in the
chain of awaits that its task stands in (`waiting`, `awaits_of`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import selectors
import sys
import threading
import traceback
from collections.abc import Collection, Iterator
from operator import attrgetter
from types import FrameType
from typing import TYPE_CHECKING

from palfrey.asgi.exchange import Exchange
from palfrey.asgi.wsgi.inline import InlineExchange
from palfrey.asgi.wsgi.threaded import ThreadedExchange

if TYPE_CHECKING:
    from palfrey.observe.scoreboard import Row

_OURS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_NOBODYS = (_OURS, os.path.join(os.path.dirname(asyncio.__file__), ""))
_BELOW = (_OURS, threading.__file__)
"""What a thread's stack begins with, before the application's."""
_LOOP = (*_NOBODYS, threading.__file__, selectors.__file__)
"""The same for a thread that an event loop is in: all of it, where the loop is idle."""
MOST = 10
"""Tasks or requests that are shown; a worker may hold thousands, and they tend to wait for the same."""


def in_hand(running: Collection[Exchange], frame: FrameType | None, now: float, most: int = MOST) -> list[str]:
    """A line for each request that the application works on: the one that `frame` belongs to, then the oldest.

    `now` is time.monotonic().
    """
    current = interrupted(frame, running)
    others = [exchange for exchange in running if exchange is not current]
    shown = heapq.nsmallest(most, others, key=_started)
    lines = [f"Running: {_described(current, now)}"] if current is not None else []
    lines += [f"In hand: {_described(exchange, now)}" for exchange in shown]
    if len(others) > len(shown):
        lines.append(f"In hand: {len(others) - len(shown)} more requests, younger than these")
    return lines


def interrupted(frame: FrameType | None, running: Collection[Exchange]) -> Exchange | None:
    """The request whose code runs in this frame. None for any other code.

    The exchange is found at the bottom of its own task; frameworks also run applications in tasks of their own, and
    there it is known by the scope that is handed on from function to function under that name.
    """
    while frame is not None:
        if frame.f_code in _RUNS:
            exchange = frame.f_locals["self"]
            return exchange if isinstance(exchange, Exchange) else None
        if "scope" in frame.f_code.co_varnames:
            scope = frame.f_locals.get("scope")
            for exchange in running:
                if exchange.scope is scope:
                    return exchange
        frame = frame.f_back
    return None


_RUNS = {Exchange.run.__code__, InlineExchange.run.__code__, InlineExchange.go_on.__code__}
_started = attrgetter("started")


def _described(exchange: Exchange, now: float) -> str:
    return f"{exchange.describe()}, begun {now - exchange.started:.1f} s ago"


def oldest_of(running: Collection[Exchange]) -> Exchange | None:
    """The oldest request whose client waits for the application."""
    oldest = min(running, key=_started, default=None)
    if oldest is None or oldest.unanswered:  # as a rule, and by far the cheaper look at thousands
        return oldest
    return min((each for each in running if each.unanswered), key=_started, default=None)


def note_oldest(row: Row, oldest: Exchange | None) -> None:
    """Put the oldest request into the scoreboard."""
    since = 0.0 if oldest is None else oldest.started
    if since == row.oldest_since:
        return
    row.oldest = b"" if oldest is None else oldest.method.encode() + b" " + oldest.target
    row.oldest_since = since


def awaits_of(exchange: Exchange) -> str:
    """Where a request's coroutine or thread waits, outermost first, as lines of text; "" when that cannot be seen."""
    if isinstance(exchange, ThreadedExchange):
        frame = sys._current_frames().get(exchange.thread)
        stack = traceback.extract_stack(frame) if frame is not None else []
        return "".join(traceback.format_list([e for e in stack if not e.filename.startswith(_BELOW)])).rstrip()
    coroutine = None if exchange.task is None else exchange.task.get_coro()
    return "".join(traceback.format_list(_foreign(coroutine))).rstrip()


def running(thread: int) -> str:
    """What of the application a loop's thread runs right now, as lines of text; "" for nothing."""
    frame = sys._current_frames().get(thread)
    stack = traceback.extract_stack(frame) if frame is not None else []
    own = itertools.dropwhile(lambda each: each.filename.startswith(_LOOP), stack)
    return "".join(traceback.format_list([*own])).rstrip()


def waiting(loop: asyncio.AbstractEventLoop, most: int = MOST) -> list[str]:
    """For each waiting task that is not Palfrey's alone: its name and where it is, as lines of text."""
    found = []
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
        frames = _foreign(task.get_coro())
        if not all(frame.filename.startswith(_NOBODYS) for frame in frames):
            found.append(f"Task {task.get_name()!r} waits in\n" + "".join(traceback.format_list(frames)).rstrip())
    more = len(found) - most
    return found if more <= 0 else [*found[:most], f"and {more} more tasks wait"]


def _foreign(coroutine: object) -> list[traceback.FrameSummary]:
    return [frame for frame in _awaits(coroutine) if not frame.filename.startswith(_OURS)]


def _awaits(awaitable: object) -> Iterator[traceback.FrameSummary]:
    """From a task's coroutine to the innermost one that it awaits. (`Task.get_stack` has the outermost alone.)"""
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is None:  # a future, or something that hides what it awaits (an asynchronous generator's step)
            return
        code = frame.f_code
        yield traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name)
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
