"""The access log: batching, rotation, forks, records through logging, failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palfrey.observe import access as module
from palfrey.observe.access import AccessLog
from palfrey.observe.atoms import compile_format
from palfrey.observe.facts import Counts, WebSocketFacts
from palfrey.observe.formats import uvicorn_line, websocket_line
from palfrey.observe.sink import Sink
from tests.support.facts import facts


def websocket(close_code: int = 1000) -> WebSocketFacts:
    """One that is over."""
    return WebSocketFacts(facts(status=101), Counts(1, 2, 3, 4, close_code))


class TestAccessLog:
    @pytest.fixture
    def sink(self, tmp_path: Path) -> Iterator[Sink]:
        sink = Sink.open(str(tmp_path / "log"), setting="accesslog")
        yield sink
        sink.close()

    @pytest.fixture
    def written(self, tmp_path: Path) -> Callable[[], list[str]]:
        return lambda: (tmp_path / "log").read_text().splitlines()

    def test_without_a_loop_each_line_is_written_at_once(self, sink: Sink, written: Callable[[], list[str]]) -> None:
        access = AccessLog.to_sink(sink, compile_format("%(s)s"))
        access.log(facts(), 0.0)
        assert written() == ["200"]

    def test_a_batch_is_one_timer_and_one_write(
        self, sink: Sink, written: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        timers: list[tuple[float, Callable[[], None]]] = []
        writes: list[bytes] = []
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: writes.append(bytes(data)) or write(fd, data))
        access = AccessLog.to_sink(sink, compile_format("%(s)s"))
        access.attach(lambda delay, callback: timers.append((delay, callback)))
        for turn in range(3):
            for status in range(200, 300):
                access.log(facts(status=status), 0.0)
            assert len(timers) == turn + 1
            assert timers[-1][0] == module.BATCH_DELAY
            timers[-1][1]()
            assert len(writes) == turn + 1
        assert written() == [str(status) for status in range(200, 300)] * 3

    def test_detach_and_fork(self, sink: Sink, written: Callable[[], list[str]]) -> None:
        access = AccessLog.to_sink(sink, compile_format("%(s)s"))
        access.attach(lambda delay, callback: None)
        access.log(facts(status=201), 0.0)
        access.detach()
        access.attach(lambda delay, callback: None)
        access.log(facts(status=202), 0.0)
        access.after_fork()  # the parent's line: the parent writes it
        access.log(facts(status=203), 0.0)
        assert written() == ["201", "203"]

    def test_a_closed_loop_loses_nothing(self, sink: Sink, written: Callable[[], list[str]]) -> None:
        def call_later(delay: float, callback: object) -> None:
            raise RuntimeError("Event loop is closed")

        access = AccessLog.to_sink(sink, compile_format("%(s)s"))
        access.attach(call_later)
        access.log(facts(), 0.0)
        assert written() == ["200"]
        assert access.failures == 0

    def test_a_line_that_cannot_be_made_is_counted(self, sink: Sink, written: Callable[[], list[str]]) -> None:
        access = AccessLog.to_sink(sink, uvicorn_line())
        access.log(facts(target=None), 0.0)
        access.log(facts(), 0.0)
        assert access.failures == 1
        assert len(written()) == 1

    def test_websockets_share_the_batch(self, sink: Sink, written: Callable[[], list[str]]) -> None:
        line = uvicorn_line()
        access = AccessLog.to_sink(sink, line, websocket_line=websocket_line("uvicorn", line))
        access.attach(lambda delay, callback: None)
        access.log(facts(), 0.0)
        access.log_websocket(websocket(), 0.0)
        access.log(facts(), 0.0)
        access.flush()
        assert [text.endswith("closed with 1000") for text in written()] == [False, True, False]

    def test_a_filter_is_asked_about_websockets_too(self, sink: Sink, written: Callable[[], list[str]]) -> None:
        logger = logging.Logger("test.filter")
        logger.addFilter(lambda record: record.close_code != 1000)  # type: ignore[attr-defined]
        access = AccessLog.to_sink(sink, compile_format("%(close_code)s"), logger)
        for code in (1000, 1001):
            access.log_websocket(websocket(code), 0.0)
        access.log(facts(), 0.0)
        assert written() == ["1001", "-"]

    def test_records_of_websockets_have_their_counts(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("test.access")
        with caplog.at_level(logging.INFO, "test.access"):
            access = AccessLog.to_logger(logger)
            access.log_websocket(websocket(), 0.0)
            access.log(facts(), 0.0)
        names = ("messages_in", "messages_out", "bytes_in", "body_bytes", "close_code")
        found = [[getattr(record, name) for name in names] for record in caplog.records]
        assert found == [[1, 2, 3, 4, 1000], [None, None, None, 13, None]]
        assert caplog.messages[0] == '127.0.0.1:53412 - "GET /path?query HTTP/1.1" 101'

    def test_off(self) -> None:
        access = AccessLog.off()
        assert not access.enabled
        access.log(facts(), 0.0)
        access.log_websocket(websocket(), 0.0)
        access.flush()

    def test_records_follow_the_level(self) -> None:
        logger = logging.getLogger("test.access.level")
        logger.setLevel(logging.ERROR)
        assert not AccessLog.to_logger(logger).enabled

    def test_a_record_that_fails_is_counted(self) -> None:
        logger = logging.Logger("test.broken")

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise OSError("full")

        logger.addHandler(Broken())
        access = AccessLog.to_logger(logger)
        access.log(facts(), 0.0)
        assert access.failures == 1

    def test_records_are_escaped_too(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("test.access")
        with caplog.at_level(logging.INFO, "test.access"):
            AccessLog.to_logger(logger).log(facts(target=b'/a\r\n"', method="G\nT"), 0.0)
        assert caplog.messages == [r'127.0.0.1:53412 - "G\x0aT /a\x0d\x0a\x22 HTTP/1.1" 200']
