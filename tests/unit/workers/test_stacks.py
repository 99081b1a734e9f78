"""The awaits in which tasks stand."""

from __future__ import annotations

import asyncio

from palfrey.workers.stacks import waiting


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
