"""When a worker says that it is worn, on a clock and a scale that are set by hand."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from typing import Any

import pytest

from palfrey.asgi.exchange import Exchange
from palfrey.config.settings import Settings
from palfrey.system import memory
from palfrey.workers.limits import WEIGHING, Limits
from tests.support.exchanges import exchange

MB = 1 << 20
BORN = 1000.0


class Ear:
    def __init__(self, **settings: Any) -> None:
        self.said: list[tuple[str, float]] = []
        self.limits = Limits(
            Settings(**settings), BORN, lambda reason, wear: self.said.append((reason, wear)), 2, random.Random(7)
        )

    def look(self, age: float, requests: int = 1, oldest: Exchange | None = None) -> list[tuple[str, float]]:
        """What is said by a sweep at this age."""
        self.said.clear()
        self.limits.look(BORN + age, requests, oldest)
        return list(self.said)


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the process weighs: resident and own, in MB; and how often own was asked for."""
    weights = {"resident": 10.0, "own": 10.0, "asked": 0}

    def own() -> int:
        weights["asked"] += 1
        return int(weights["own"] * MB)

    monkeypatch.setattr(memory, "resident", lambda: int(weights["resident"] * MB))
    monkeypatch.setattr(memory, "own", own)
    return weights


def test_no_limits_nothing_to_say(scale: dict[str, float]) -> None:
    scale.update(resident=1e6, own=1e6)
    assert Ear().look(1e9, requests=10**9) == []


class TestRequests:
    def test_said_when_it_is_reached(self) -> None:
        ear = Ear(max_requests=100)
        ear.limits.count(99)
        assert ear.said == []
        ear.limits.count(100)
        assert ear.said == [("it has served 100 requests (max_requests)", 1.0)]

    def test_said_again_as_it_gets_worse_and_not_else(self) -> None:
        ear = Ear(max_requests=100)
        ear.limits.count(100)
        assert ear.look(1, requests=105) == []
        assert [wear for _, wear in ear.look(2, requests=120)] == [1.2]
        assert ear.look(3, requests=125) == []

    def test_jitter(self) -> None:
        counts = {
            Limits(Settings(max_requests=100, max_requests_jitter=50), BORN, print, 2).requests for _ in range(200)
        }
        assert counts <= set(range(100, 151))
        assert len(counts) > 10
        assert Ear(max_requests_jitter=50).limits.requests == 0


class TestLifetime:
    def test_from_the_start_of_the_process(self) -> None:
        ear = Ear(max_lifetime=60)
        assert ear.look(59.9) == []
        assert ear.look(60) == [("it has lived for 60 s (max_lifetime)", 1.0)]
        assert ear.look(61) == []
        assert [wear for _, wear in ear.look(90)] == [1.5]

    def test_jitter(self) -> None:
        lifetimes = {
            Limits(Settings(max_lifetime=60, max_lifetime_jitter=30), BORN, print, 2).lifetime for _ in range(50)
        }
        assert all(60 <= lifetime <= 90 for lifetime in lifetimes)
        assert len(lifetimes) > 10
        assert Ear(max_lifetime_jitter=30).limits.lifetime == 0


class TestMemory:
    def test_its_own_counts_and_not_what_is_resident(self, scale: dict[str, float]) -> None:
        ear = Ear(max_memory=100 * MB)
        scale.update(resident=150, own=90)
        assert ear.look(1) == []
        scale.update(own=125)
        assert ear.look(1 + WEIGHING) == [("it holds 125 MB of memory (max_memory: 100 MB)", 1.25)]

    def test_own_is_asked_for_only_when_it_may_be_too_much_and_not_at_each_sweep(self, scale: dict[str, float]) -> None:
        ear = Ear(max_memory=100 * MB)
        for second in range(20):
            ear.look(second)
        assert scale["asked"] == 0
        scale.update(resident=150)
        for second in range(20, 40):
            ear.look(second)
        assert scale["asked"] == 20 / WEIGHING

    def test_a_limit_that_the_application_is_over_before_it_serves_is_no_limit(
        self, scale: dict[str, float], caplog: pytest.LogCaptureFixture
    ) -> None:
        ear = Ear(max_memory=100 * MB)
        scale.update(resident=150, own=120)
        with caplog.at_level(logging.ERROR):
            assert ear.look(0, requests=0) == []
        assert "max_memory is off in this worker: 100 MB are less than the 120 MB" in caplog.text
        assert ear.look(100) == []
        assert caplog.text.count("max_memory") == 1

    def test_a_system_that_does_not_tell(
        self, scale: dict[str, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def untold() -> int:
            raise OSError("no /proc")

        monkeypatch.setattr(memory, "own", untold)
        scale.update(resident=150)
        ear = Ear(max_memory=100 * MB)
        with caplog.at_level(logging.ERROR):
            assert ear.look(1) == ear.look(100) == []
        assert caplog.text.count("max_memory is off in this worker: no /proc") == 1


class TestRequestTimeout:
    def test_shown_once_and_said_as_it_gets_worse(self, caplog: pytest.LogCaptureFixture) -> None:
        ear = Ear(request_timeout=10)
        slow = exchange(BORN + 5, "/slow")
        with caplog.at_level(logging.ERROR):
            assert ear.look(14.9, oldest=slow) == []
            assert ear.look(15, oldest=slow) == [("a request is in hand for 10.0 s (request_timeout)", 1.0)]
            assert ear.look(15.5, oldest=slow) == []
            assert [wear for _, wear in ear.look(20, oldest=slow)] == [1.5]
        assert caplog.messages == ['Not answered for 10.0 s (request_timeout): "GET /slow" from 10.0.0.1:5']

    def test_of_the_next_one_it_is_shown_too(self, caplog: pytest.LogCaptureFixture) -> None:
        ear = Ear(request_timeout=10)
        with caplog.at_level(logging.ERROR):
            ear.look(10, oldest=exchange(BORN, "/slow"))
            ear.look(20, oldest=exchange(BORN + 9, "/next"))
        assert [message.split('"')[1] for message in caplog.messages] == ["GET /slow", "GET /next"]

    def test_where_it_waits(self, caplog: pytest.LogCaptureFixture) -> None:
        async def never(until: asyncio.Event) -> None:
            await until.wait()

        async def main() -> None:
            until, slow = asyncio.Event(), exchange(BORN, "/slow")
            slow.task = asyncio.get_running_loop().create_task(never(until))
            await asyncio.sleep(0)
            Ear(request_timeout=10).look(10, oldest=slow)
            until.set()
            await slow.task

        with caplog.at_level(logging.ERROR):
            asyncio.run(main())
        assert "; it waits in\n" in caplog.text
        assert "in never\n" in caplog.text

    def test_threads_are_shown_since_it_may_wait_for_one(self, capfd: pytest.CaptureFixture[str]) -> None:
        done = threading.Event()

        def works_in_a_thread() -> None:
            done.wait()

        thread = threading.Thread(target=works_in_a_thread)
        thread.start()
        try:
            Ear(request_timeout=10).look(10, oldest=exchange(BORN, "/slow"))
        finally:
            done.set()
            thread.join()
        assert "in works_in_a_thread" in capfd.readouterr().err
