"""The awaits in which tasks stand, and the requests that are in hand."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from typing import Any

from palfrey.asgi.exchange import Exchange, Phase
from palfrey.observe.scoreboard import Scoreboard
from palfrey.workers.stacks import in_hand, interrupted, note_oldest, oldest_of, running, waiting
from tests.support.exchanges import exchange


async def inner(until: asyncio.Event) -> None:
    await until.wait()


async def outer(until: asyncio.Event) -> None:
    await inner(until)


def test_the_whole_chain_to_the_innermost_await() -> None:
    async def main() -> list[str]:
        until = asyncio.Event()
        task = asyncio.get_running_loop().create_task(outer(until), name="the patient one")
        await asyncio.sleep(0)
        found = waiting(asyncio.get_running_loop())
        until.set()
        await task
        return [text for text in found if "the patient one" in text]

    (text,) = asyncio.run(main())
    assert text.startswith("Task 'the patient one' waits in\n")
    places = [line.rpartition(" in ")[2] for line in text.splitlines() if line.startswith("  File")]
    assert places == ["outer", "inner", "wait"]
    assert "    await until.wait()" in text.splitlines()


def test_of_many_a_few() -> None:
    async def main() -> list[str]:
        until = asyncio.Event()
        tasks = [asyncio.get_running_loop().create_task(outer(until)) for _ in range(20)]
        await asyncio.sleep(0)
        found = waiting(asyncio.get_running_loop(), most=3)
        until.set()
        await asyncio.gather(*tasks)
        return found

    found = asyncio.run(main())
    assert len(found) == 4
    assert found[-1].startswith("and ")


def test_what_a_loops_thread_runs() -> None:
    async def at_work() -> str:
        return running(threading.get_ident())

    assert f'{__file__}", line' in asyncio.run(at_work())
    assert "in at_work" in asyncio.run(at_work())


def test_a_loop_that_is_idle_runs_nothing() -> None:
    found = []

    async def serve() -> None:
        found.append(await asyncio.to_thread(look, threading.get_ident()))

    def look(thread: int) -> str:
        while (stack := running(thread)).count("in serve"):  # it is on its way into the selector
            pass
        return stack

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    thread.join()
    assert found == [""]


class TestInHand:
    def test_the_oldest_first_and_of_many_a_few(self) -> None:
        running = {exchange(float(number), f"/{number}") for number in range(20)}
        lines = in_hand(running, None, 100.0, most=2)
        assert lines == [
            'In hand: "GET /0" from 10.0.0.1:5, begun 100.0 s ago',
            'In hand: "GET /1" from 10.0.0.1:5, begun 99.0 s ago',
            "In hand: 18 more requests, younger than these",
        ]

    def test_none(self) -> None:
        assert in_hand(set(), sys._getframe(), 100.0) == []

    def test_the_one_whose_code_is_interrupted_comes_first(self) -> None:
        found: list[str] = []
        running: set[Exchange] = set()

        def deep() -> None:
            found.extend(in_hand(running, sys._getframe(), 100.0))

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0)
            deep()
            raise asyncio.CancelledError

        running |= {exchange(1.0, "/old"), young := exchange(99.0, "/young", app)}

        async def main() -> None:
            await young.run(running)

        with contextlib.suppress(AttributeError, asyncio.CancelledError):  # of the stream, which is none
            asyncio.run(main())
        assert found == [
            'Running: "GET /young" from 10.0.0.1:5, begun 1.0 s ago',
            'In hand: "GET /old" from 10.0.0.1:5, begun 99.0 s ago',
        ]

    def test_code_of_nobodys(self) -> None:
        assert interrupted(sys._getframe(), set()) is None
        assert interrupted(None, set()) is None

    def test_in_a_task_of_a_frameworks_own_it_is_known_by_its_scope(self) -> None:
        first, second = exchange(1.0, "/first"), exchange(2.0, "/second")

        def middleware(scope: Any) -> Exchange | None:
            return endpoint(scope)

        def endpoint(scope: Any) -> Exchange | None:
            del scope  # some have no more need of it
            return interrupted(sys._getframe(), {first, second})

        assert middleware(second.scope) is second
        assert middleware(dict(second.scope)) is None, "two requests may be alike"


class TestOldest:
    def test_of_those_whose_client_waits_for_the_application(self) -> None:
        background, slow_client = exchange(1.0), exchange(2.0, waits=True)
        background.phase = Phase.DONE
        third, fourth = exchange(3.0), exchange(4.0)
        assert oldest_of({fourth, third}) is third
        assert oldest_of({fourth, slow_client, third, background}) is third
        assert oldest_of({slow_client, background}) is None
        assert oldest_of(set()) is None

    def test_in_the_scoreboard(self) -> None:
        row = Scoreboard(1).row(0)
        note_oldest(row, exchange(5.0, "/a?b"))
        assert (row.oldest_since, row.oldest) == (5.0, b"GET /a?b")
        note_oldest(row, None)
        assert (row.oldest_since, row.oldest) == (0.0, b"")
