"""The access log: one line for each finished request, well under a microsecond, and for each WebSocket that is over.

How it works. The HTTP code asks `access.enabled` once a connection and calls `access.log(facts, ended)` once a
request; a WebSocket's engine calls `access.log_websocket`. That makes the line (palfrey/observe/formats.py), appends
it to a list and, when the list was empty, asks the event loop, by the `call_later` it was given, to have the whole
list written in one go some milliseconds later. `flush()` and `detach()` write what is in the list, so that rotation
and exit lose nothing. Without a `call_later` each line is written at once.

Those who gave "palfrey.access" a handler get ordinary LogRecords instead, which cost ten times as much; those who gave
it only filters have them asked, with such a record, before a line is written as ever.
Lines go to a palfrey/observe/sink.py `Sink`; nothing here knows asyncio or a protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from palfrey.observe.facts import (
    AccessFacts,
    Counts,
    Line,
    WebSocketFacts,
    WebSocketLine,
    client_text,
    duration,
    escape,
    escape_text,
)
from palfrey.observe.sink import CallLater, Sink

__all__ = ["AccessFacts", "AccessLog", "make_record"]

BATCH_DELAY = 0.005
"""Seconds that a line may wait for others: one write then serves them all."""

Log = Callable[[AccessFacts, float], None]
LogWebSocket = Callable[[WebSocketFacts, float], None]
Facts = TypeVar("Facts", bound=AccessFacts)


class AccessLog:
    """What the HTTP code holds. Made by `off()`, `to_sink()` or `to_logger()`.

    `log(facts, ended)` notes one finished request, `log_websocket(facts, ended)` one WebSocket; they never raise and
    never block. Callers read `enabled` once and leave the call out where it is false.
    """

    __slots__ = ("_call_later", "_lines", "_sink", "enabled", "failures", "log", "log_websocket")

    log: Log
    """An attribute, not a method: a closure costs one call less for each request."""
    log_websocket: LogWebSocket

    def __init__(self, *, enabled: bool, sink: Sink | None = None) -> None:
        self.enabled = enabled
        self.failures = 0
        """Lines that could not be made. The fault would be ours; the request is served all the same."""
        self._sink = sink
        self._lines: list[str] = []
        self._call_later: CallLater | None = None
        self.log = self.log_websocket = _ignore

    @classmethod
    def off(cls) -> AccessLog:
        """No access log."""
        return cls(enabled=False)

    @classmethod
    def to_sink(
        cls,
        sink: Sink,
        line: Line,
        logger: logging.Logger | None = None,
        websocket_line: WebSocketLine | None = None,
    ) -> AccessLog:
        """Lines made by `line`, written to `sink` in batches. The sink stays its owner's to close.

        With `logger` a line is written only if the logger's filters pass its record.
        """
        access = cls(enabled=True, sink=sink)
        access.log = access._batching(line)
        access.log_websocket = access._batching(websocket_line or line)
        if logger is not None:
            access.log = access._filtering(logger, access.log)
            access.log_websocket = access._filtering(logger, access.log_websocket)
        return access

    @classmethod
    def to_logger(
        cls, logger: logging.Logger, line: Line | None = None, websocket_line: WebSocketLine | None = None
    ) -> AccessLog:
        """Ordinary records for the logger's handlers: see `make_record`."""
        access = cls(enabled=logger.isEnabledFor(logging.INFO))
        access.log = access._handling(logger, line)
        access.log_websocket = access._handling(logger, websocket_line or line)
        return access

    def attach(self, call_later: CallLater) -> None:
        """From now on lines are collected for BATCH_DELAY seconds of the event loop that `call_later` belongs to."""
        self._call_later = call_later

    def detach(self) -> None:
        """The event loop ends: writes what is collected; later lines are written at once."""
        self._call_later = None
        self.flush()

    def after_fork(self) -> None:
        """Forgets what the parent has yet to write, and its event loop."""
        self._lines.clear()
        self._call_later = None

    def flush(self) -> None:
        """Hands the collected lines to the sink, which never blocks."""
        lines = self._lines
        if lines and self._sink is not None:
            lines.append("")
            data = "\n".join(lines)
            lines.clear()
            self._sink.write(data.encode("utf-8", "backslashreplace"))

    def _handling(
        self, logger: logging.Logger, line: Callable[[Facts, float], str] | None
    ) -> Callable[[Facts, float], None]:
        def log(facts: Facts, ended: float) -> None:
            try:
                logger.handle(make_record(logger, facts, ended, line))
            except Exception:
                self.failures += 1

        return log

    def _batching(self, line: Callable[[Facts, float], str]) -> Callable[[Facts, float], None]:
        lines = self._lines
        append = lines.append

        def log(facts: Facts, ended: float) -> None:
            try:
                append(line(facts, ended))
                if len(lines) == 1:
                    self._schedule()
            except Exception:
                self.failures += 1

        return log

    def _filtering(
        self, logger: logging.Logger, write: Callable[[Facts, float], None]
    ) -> Callable[[Facts, float], None]:
        def log(facts: Facts, ended: float) -> None:
            try:
                wanted = logger.filter(make_record(logger, facts, ended))
            except Exception:
                self.failures += 1
                wanted = True
            if wanted:
                write(facts, ended)

        return log

    def _schedule(self) -> None:
        if self._call_later is not None:
            try:
                self._call_later(BATCH_DELAY, self.flush)
                return
            except RuntimeError:  # the loop is closed
                self._call_later = None
        self.flush()


def make_record(
    logger: logging.Logger, facts: Facts, ended: float, line: Callable[[Facts, float], str] | None = None
) -> logging.LogRecord:
    """One request as a LogRecord: uvicorn's arguments (client, method, path, version, status), or the text of `line`.

    Beside these it has attributes: client_addr, method, target, status, body_bytes, duration (seconds) and request_id;
    for a WebSocket messages_in, messages_out, bytes_in and close_code, which are None for other requests.
    """
    client, method, target = client_text(facts.client), escape_text(facts.method), escape(facts.target)
    args: tuple[object, ...] = (client, method, target, escape_text(facts.http_version), facts.status)
    message = '%s - "%s %s HTTP/%s" %d'
    if line is not None:
        message, args = "%s", (line(facts, ended),)
    extra = {
        "client_addr": client,
        "method": method,
        "target": target,
        "status": facts.status,
        "body_bytes": facts.body_bytes,
        "duration": duration(facts, ended),
        "request_id": facts.request_id,
        **(_counts(facts.counts) if isinstance(facts, WebSocketFacts) else _NO_COUNTS),
    }
    # By hand: logger.info() would walk the stack for a caller that is always this line.
    return logger.makeRecord(logger.name, logging.INFO, __file__, 0, message, args, None, "log", extra)


_NO_COUNTS = dict.fromkeys(("messages_in", "messages_out", "bytes_in", "close_code"))


def _counts(counts: Counts) -> dict[str, int | None]:
    return {name: getattr(counts, name) for name in _NO_COUNTS}


def _ignore(facts: AccessFacts, ended: float) -> None:
    pass
