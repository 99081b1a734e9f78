"""A step runs to its end, fails as it does, or is ended by an order."""

from __future__ import annotations

import asyncio

import pytest

from palfrey.workers.steps import Steps
from tests.support.inprocess import looped


@looped
async def test_a_step_to_its_end():
    steps = Steps()
    assert await steps.do(asyncio.sleep(0))
    steps.cancel()  # there is none: nothing happens
    assert await steps.do(asyncio.sleep(0))


@looped
async def test_a_step_that_an_order_ends():
    steps = Steps()
    asyncio.get_running_loop().call_soon(steps.cancel)
    assert not await steps.do(asyncio.Event().wait())


@looped
async def test_a_step_that_fails():
    async def fail() -> None:
        raise KeyError("it")

    with pytest.raises(KeyError):
        await Steps().do(fail())


@looped
async def test_a_step_that_is_on_its_way_out_is_left_to_it():
    out = []

    async def step() -> None:
        asyncio.get_running_loop().call_soon(steps.cancel)
        try:
            await asyncio.Event().wait()
        finally:
            steps.cancel()
            await asyncio.sleep(0)
            out.append(True)

    steps = Steps()
    assert not await steps.do(step())
    assert out == [True]
