"""How an application's coroutine is started: at once where the interpreter can (3.12+), else at the next loop turn.

An eagerly started handler that never waits is done before its task is ever scheduled, which halves the cost of a
task (480 ns against 860 ns). Python 3.11 has no eager tasks, and one that is made by hand there gains nothing
(docs/decisions/0017).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

EAGER = sys.version_info >= (3, 12)
"""Whether a coroutine has taken its first step when it is started."""

NAME = "palfrey request"
"""Of each such task on Python 3.11."""

Start = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


def starter(loop: asyncio.AbstractEventLoop) -> Start:
    """What starts a coroutine inside a task of its own.

    The task's class is called itself: the loop's `create_task` costs a tenth of a microsecond, for a task factory that
    nobody sets. (A factory of the application's is not asked therefore, on any version.)

    Python 3.11 makes up a name for each task that has none, for a fifth of what the task costs. Later ones number them
    for free, and there the name, which log records have, tells one request from another.
    """
    if sys.version_info >= (3, 12):
        return partial(asyncio.Task, loop=loop, eager_start=True)
    return partial(asyncio.Task, loop=loop, name=NAME)
