"""What an aborted worker's application was waiting for: each task, with the chain of awaits that it stands in.

faulthandler shows what the interpreter runs. An application that waits for what never comes (a database that does
not answer, during startup) runs nothing: the stack is that of an idle event loop, and the place to mend is here.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Iterator

_OURS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_NOBODYS = (_OURS, os.path.join(os.path.dirname(asyncio.__file__), ""))
MOST = 10
"""Tasks that are shown; a worker may hold thousands, and they tend to wait for the same."""


def waiting(loop: asyncio.AbstractEventLoop, most: int = MOST) -> list[str]:
    """For each waiting task that is not Palfrey's alone: its name and where it is, as lines of text."""
    found = []
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
        frames = [frame for frame in _awaits(task.get_coro()) if not frame.filename.startswith(_OURS)]
        if not all(frame.filename.startswith(_NOBODYS) for frame in frames):
            found.append(f"Task {task.get_name()!r} waits in\n" + "".join(traceback.format_list(frames)).rstrip())
    more = len(found) - most
    return found if more <= 0 else [*found[:most], f"and {more} more tasks wait"]


def _awaits(awaitable: object) -> Iterator[traceback.FrameSummary]:
    """From a task's coroutine to the innermost one that it awaits. (`Task.get_stack` has the outermost alone.)"""
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is None:  # a future, or something that hides what it awaits (an asynchronous generator's step)
            return
        code = frame.f_code
        yield traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name)
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
