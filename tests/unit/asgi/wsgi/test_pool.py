"""The hand-over to threads and back: bounded, in order, and never in the way of the loop."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from palfrey.asgi.wsgi import pool as module
from palfrey.asgi.wsgi.pool import Pool
from tests.support.inprocess import PATIENCE, logged, looped


class Job:
    """Done when it is let."""

    def __init__(self, pool: Pool, order: list[int], number: int, free: threading.Event | None = None) -> None:
        self.pool = pool
        self.order = order
        self.number = number
        self.free = free
        self.ended = asyncio.Event()

    def work(self) -> None:
        if self.free is not None:
            assert self.free.wait(PATIENCE)
        self.order.append(self.number)

    def over(self) -> None:
        self.pool.done()
        self.ended.set()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_HAND", 1)
    monkeypatch.setattr(module, "WAITING", 3)


@looped
async def test_one_thread_works_in_order_and_what_is_too_much_is_refused() -> None:
    pool, order, free = Pool(1), [], threading.Event()
    pool.open()
    jobs = [Job(pool, order, number, free) for number in range(6)]
    assert [pool.submit(job) for job in jobs] == [True] * 4 + [False] * 2
    free.set()
    for job in jobs[:4]:
        await job.ended.wait()
    assert order == [0, 1, 2, 3]
    assert pool.submit(jobs[4])
    await pool.close()
    assert order[-1] == 4


@looped
async def test_a_job_that_waits_can_be_taken_back() -> None:
    pool, order, free = Pool(1), [], threading.Event()
    pool.open()
    jobs = [Job(pool, order, number, free) for number in range(3)]
    assert all(pool.submit(job) for job in jobs)
    assert not pool.withdraw(jobs[0])
    assert pool.withdraw(jobs[1])
    assert not pool.withdraw(jobs[1])
    free.set()
    await jobs[2].ended.wait()
    await pool.close()
    assert order == [0, 2]


class Step(Job):
    """A part of work that has begun."""

    def over(self) -> None:
        self.pool.done_step()
        self.ended.set()


@looped
async def test_steps_take_no_places_and_keep_nobody_waiting() -> None:
    pool, order, free = Pool(1), [], threading.Event()
    pool.open()
    steps = [Step(pool, order, number, free) for number in range(5)]
    for step in steps[:3]:
        pool.hand_step(step)
    jobs = [Job(pool, order, 10 + number, free) for number in range(2)]
    assert all(pool.submit(job) for job in jobs)
    for step in steps[3:]:
        pool.hand_step(step)
    assert list(pool._waiting) == jobs[1:]
    free.set()
    await jobs[1].ended.wait()
    await pool.close()
    assert order == [0, 1, 2, 10, 3, 4, 11]
    assert pool._handed == pool._steps == 0


@looped
async def test_threads_are_made_when_they_are_needed() -> None:
    pool, order = Pool(3), []
    pool.open()
    assert pool._threads == 0
    for number in range(5):
        job = Job(pool, order, number)
        assert pool.submit(job)
        await job.ended.wait()
    assert pool._threads == 1
    await pool.close()
    await pool.close()
    assert pool._threads == 0


@looped
async def test_a_thread_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost by it: those that there are do the work, and there is another attempt for the next job."""
    monkeypatch.setattr(module, "AT_HAND", 2)
    pool, order, free = Pool(2), [], threading.Event()
    pool.open()
    jobs = [Job(pool, order, number, free) for number in range(4)]
    start = threading.Thread.start

    def no_room(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with logged() as log:
        monkeypatch.setattr(threading.Thread, "start", no_room)
        assert not pool.submit(jobs[0])
        monkeypatch.setattr(threading.Thread, "start", start)
        assert pool.submit(jobs[1])
        monkeypatch.setattr(threading.Thread, "start", no_room)
        assert pool.submit(jobs[2])
        assert pool._threads == 1
        monkeypatch.setattr(threading.Thread, "start", start)
        assert pool.submit(jobs[3])
        assert pool._threads == 2
    assert log.warnings == ["A thread for the application cannot be made: can't start new thread"] * 2
    free.set()
    for job in jobs[1:]:
        await job.ended.wait()
    await pool.close()
    assert sorted(order) == [1, 2, 3]


class Fails(Job):
    """As one whose log fails."""

    def work(self) -> None:
        raise SystemExit(f"as {self.number} asked")


@looped
async def test_a_thread_outlives_what_a_job_raises() -> None:
    """The job is over all the same, and the loop is told."""
    pool, order, told = Pool(1), [], []
    pool.open()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    for job in (Fails(pool, order, 1), Fails(pool, order, 2), Job(pool, order, 3)):
        assert pool.submit(job)
        await job.ended.wait()
    assert (order, told, pool._threads, pool._handed) == ([3], ["as 1 asked", "as 2 asked"], 1, 0)
    await pool.close()
    last = Fails(pool, order, 4)
    pool.hand(last)
    await last.ended.wait()


variable: ContextVar[str] = ContextVar("variable", default="the pool's")


class Sets(Job):
    """Has its thread set a context variable, as an application does."""

    found = ""

    def work(self) -> None:
        variable.set("a thread's")

    def over(self) -> None:
        self.found = variable.get()
        super().over()


@looped
async def test_what_comes_back_is_not_in_a_threads_context() -> None:
    pool = Pool(1)
    pool.open()
    job = Sets(pool, [], 1)
    assert pool.submit(job)
    await job.ended.wait()
    assert job.found == "the pool's"
    await pool.close()


@looped
async def test_calls_come_back_in_order_by_few_wake_ups() -> None:
    pool, seen = Pool(1), []
    pool.open()
    woken = 0
    loop = asyncio.get_running_loop()
    wake, enough = loop.call_soon_threadsafe, asyncio.Event()

    def count(*arguments: Any, **context: Any) -> asyncio.Handle:
        nonlocal woken
        woken += 1
        return wake(*arguments, **context)

    loop.call_soon_threadsafe = count  # type: ignore[method-assign,assignment]

    def call() -> None:
        for number in range(100):
            pool.call_back(lambda number=number: seen.append(number))  # type: ignore[misc]
        pool.call_back(enough.set)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()  # the loop has no turn meanwhile
    await enough.wait()
    assert seen == list(range(100))
    assert woken == 1


@looped
async def test_a_call_that_fails_keeps_no_other_waiting() -> None:
    pool, done = Pool(1), asyncio.Event()
    pool.open()
    loop, failures = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail() -> None:
        raise ValueError("as asked")

    for call in (fail, fail, done.set):
        pool.call_back(call)
    await done.wait()
    assert [str(failure) for failure in failures] == ["as asked"] * 2


def test_a_call_for_a_loop_that_is_closed_is_dropped() -> None:
    pool = Pool(1)

    async def begin() -> None:
        pool.open()

    asyncio.run(begin())
    pool.call_back(lambda: None)


@looped
async def test_giving_up_on_a_thread_is_said() -> None:
    pool, order, free = Pool(1), [], threading.Event()
    pool.open()
    job = Job(pool, order, 1, free)
    pool.submit(job)
    with logged() as log:
        closing = asyncio.ensure_future(pool.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait((closing,))
    assert log.warnings == ["Threads that go on in the application and are left behind: 1"]
    free.set()
    await job.ended.wait()


@looped
async def test_what_comes_when_the_threads_are_ending_is_done_all_the_same() -> None:
    pool, order, free = Pool(1), [], threading.Event()
    pool.open()
    first, last = Job(pool, order, 1, free), Job(pool, order, 2)
    pool.submit(first)
    closing = asyncio.ensure_future(pool.close())
    await asyncio.sleep(0)
    pool.hand(last)
    await last.ended.wait()
    free.set()
    await closing
    assert order == [2, 1]
