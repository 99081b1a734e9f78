"""Budgets: what is allowed at once, what time and work give back, and that neither can be saved up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.calm import REFILL_SECONDS, Budget
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode
from tests.support.properties import examples


def budget(limit: int) -> tuple[SimpleNamespace, Budget]:
    service = SimpleNamespace(clock=100.0)
    return service, Budget(service, limit, "things")  # type: ignore[arg-type]


def spend(of: Budget, times: int, worked: int = 0) -> int:
    """How many of these went well."""
    for number in range(times):
        try:
            of.spend(worked)
        except ConnectionFault:
            return number
    return times


def test_so_many_at_once() -> None:
    _, of = budget(10)
    assert spend(of, 100) == 10


def test_what_is_said_then() -> None:
    _, of = budget(1)
    of.spend(0)
    with pytest.raises(ConnectionFault, match="too many things") as raised:
        of.spend(0)
    assert raised.value.code == ErrorCode.ENHANCE_YOUR_CALM


def test_no_limit() -> None:
    _, of = budget(0)
    assert spend(of, 10_000) == 10_000


def test_a_thirtieth_comes_back_each_second() -> None:
    service, of = budget(300)
    assert spend(of, 300) == 300
    for _ in range(20):
        service.clock += 1
        assert spend(of, 10) == 10
    assert spend(of, 1) == 0


def test_all_of_it_comes_back_and_no_more() -> None:
    service, of = budget(30)
    assert spend(of, 30) == 30
    service.clock += 100 * REFILL_SECONDS
    # Found when the budget seems spent, and again at the end of that: never more than twice the limit.
    assert spend(of, 1000) <= 2 * 30


def test_work_earns_as_much() -> None:
    _, of = budget(10)
    assert spend(of, 10) == 10
    assert spend(of, 5, worked=5) == 5
    assert spend(of, 1, worked=5) == 0


def test_work_is_not_saved_up() -> None:
    _, of = budget(10)
    assert spend(of, 1000, worked=1_000_000) <= 20


@examples(200)
@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5), st.integers(0, 20)), max_size=60),
)
def test_never_more_than_was_given(limit: int, steps: list[tuple[int, int, int]]) -> None:
    """Over any time: twice the limit, and what came back meanwhile."""
    service, of = budget(limit)
    began = service.clock
    spent = worked = 0
    for times, seconds, work in steps:
        done = spend(of, times, worked)
        spent += done
        assert spent <= 2 * limit + (service.clock - began) * limit / REFILL_SECONDS + worked
        if done < times:
            return
        service.clock += seconds
        worked += work


@examples(200)
@given(st.integers(30, 300), st.lists(st.integers(0, 10), max_size=60))
def test_who_stays_within_the_rate_is_never_cut(limit: int, seconds: list[int]) -> None:
    service, of = budget(limit)
    for pause in seconds:
        count = int(pause * limit / REFILL_SECONDS)
        service.clock += pause
        assert spend(of, count) == count
