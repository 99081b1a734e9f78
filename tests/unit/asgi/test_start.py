"""How an application's coroutine is started: eagerly where the interpreter can, always in a task of its own."""

from __future__ import annotations

import asyncio
import contextvars
import sys

from palfrey.asgi.start import starter
from tests.support.inprocess import looped

EAGER = sys.version_info >= (3, 12)

mark = contextvars.ContextVar("mark", default="")


@looped
async def test_it_runs_up_to_its_first_wait_at_once_where_it_can():
    steps = []

    async def coroutine():
        steps.append("begun")
        await asyncio.sleep(0)
        steps.append("ended")

    task = starter(asyncio.get_running_loop())(coroutine())
    assert steps == (["begun"] if EAGER else [])
    await task
    assert steps == ["begun", "ended"]


@looped
async def test_one_that_never_waits_is_done_at_once_where_it_can():
    async def coroutine():
        pass

    task = starter(asyncio.get_running_loop())(coroutine())
    assert task.done() is EAGER
    await task


@looped
async def test_it_is_a_task_with_a_context_of_its_own():
    inside = []

    async def coroutine():
        mark.set("inside")
        inside.append((asyncio.current_task(), mark.get()))

    task = starter(asyncio.get_running_loop())(coroutine())
    await task
    assert inside == [(task, "inside")]
    assert mark.get() == ""
    assert asyncio.current_task() is not task


@looped
async def test_its_name_is_made_up_only_where_that_is_for_free():
    async def coroutine():
        pass

    start = starter(asyncio.get_running_loop())
    tasks = [start(coroutine()), start(coroutine())]
    await asyncio.gather(*tasks)
    assert len({task.get_name() for task in tasks}) == (2 if EAGER else 1)
