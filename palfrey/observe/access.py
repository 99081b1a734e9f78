"""The access log: one line for each finished request, well under a microsecond.

How it works. The HTTP code asks `access.enabled` once a connection and calls `access.log(facts, ended)` once a
request. That makes the line (palfrey/observe/formats.py), appends it to a list and, when the list was empty, asks
the event loop, by the `call_later` it was given, to have the whole list written in one go some milliseconds
later. `flush()` and `detach()` write what is in the list, so that rotation and exit lose nothing. Without a
`call_later` each line is written at once.

Those who configured handlers for "palfrey.access" get ordinary LogRecords instead, which cost ten times as much.
Lines go to a palfrey/observe/sink.py `Sink`; nothing here knows asyncio or a protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from palfrey.observe.formats import AccessFacts, Line, client_text, escape, escape_text
from palfrey.observe.sink import CallLater, Sink

__all__ = ["AccessFacts", "AccessLog"]

BATCH_DELAY = 0.005
"""Seconds that a line may wait for others: one write then serves them all."""

Log = Callable[[AccessFacts, float], None]


class AccessLog:
    """What the HTTP code holds. Made by `off()`, `to_sink()` or `to_logger()`.

    `log(facts, ended)` notes one finished request; it never raises and never blocks. Callers read `enabled` once
    and leave the call out where it is false.
    """

    __slots__ = ("_call_later", "_lines", "_sink", "enabled", "failures", "log")

    log: Log
    """An attribute, not a method: a closure costs one call less for each request."""

    def __init__(self, *, enabled: bool, sink: Sink | None = None) -> None:
        self.enabled = enabled
        self.failures = 0
        """Lines that could not be made. The fault would be ours; the request is served all the same."""
        self._sink = sink
        self._lines: list[str] = []
        self._call_later: CallLater | None = None
        self.log = _ignore

    @classmethod
    def off(cls) -> AccessLog:
        """No access log."""
        return cls(enabled=False)

    @classmethod
    def to_sink(cls, sink: Sink, line: Line) -> AccessLog:
        """Lines made by `line`, written to `sink` in batches. The sink stays its owner's to close."""
        access = cls(enabled=True, sink=sink)
        access.log = access._batching(line)
        return access

    @classmethod
    def to_logger(cls, logger: logging.Logger, line: Line | None = None) -> AccessLog:
        """Ordinary records: uvicorn's arguments (client, method, path, version, status), or the text of `line`."""
        access = cls(enabled=logger.isEnabledFor(logging.INFO))

        def log(facts: AccessFacts, ended: float) -> None:
            try:
                if line is not None:
                    logger.info("%s", line(facts, ended))
                    return
                logger.info(
                    '%s - "%s %s HTTP/%s" %d',
                    client_text(facts.client),
                    escape_text(facts.method),
                    escape(facts.target),
                    escape_text(facts.http_version),
                    facts.status,
                )
            except Exception:
                access.failures += 1

        access.log = log
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

    def _batching(self, line: Line) -> Log:
        lines = self._lines
        append = lines.append

        def log(facts: AccessFacts, ended: float) -> None:
            try:
                append(line(facts, ended))
                if len(lines) == 1:
                    self._schedule()
            except Exception:
                self.failures += 1

        return log

    def _schedule(self) -> None:
        if self._call_later is not None:
            try:
                self._call_later(BATCH_DELAY, self.flush)
                return
            except RuntimeError:  # the loop is closed
                self._call_later = None
        self.flush()


def _ignore(facts: AccessFacts, ended: float) -> None:
    pass
