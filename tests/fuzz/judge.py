"""Replays one stream of bytes in several ways and finds whatever must not be.

the two parsers agree                 fresh services, the bytes whole
splitting never changes the verdict   services that have seen all streams before this one, the bytes in pieces
a clean answer or a clean close       the strict reader of tests/support takes every byte that was written
the toolkit agrees                    palfrey.http reads the same requests out of the pieces, and refuses the same
nothing is smuggled                   h11 and llhttp read what was served in the same way, or refuse it
the worker lives                      no error is logged, and the next stream is served by the same services
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from palfrey.config.settings import Settings
from palfrey.http import Memory, RequestError, RequestParser
from palfrey.observe.access import AccessLog
from palfrey.protocols.service import Service
from palfrey.types import Receive, Scope, Send
from tests.fuzz.mutate import cuts
from tests.fuzz.readers import Message, by_h11, by_llhttp
from tests.support.driven import Driven
from tests.support.inprocess import Records, http, logged, read_body, respond
from tests.support.rawhttp import read_all

PARSERS = ("httptools", "h11")


@dataclass(slots=True)
class Outcome:
    """What came of one replay; two of the same bytes are equal."""

    served: list[tuple[str, str, bytes, bytes, list[tuple[bytes, bytes]], bytes]] = field(default_factory=list)
    """Method, version, path and query as they came, fields, content."""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    """Status and content. An interim 100 comes or not, as the content is there or not."""
    over: bool = False
    refusals: list[str] = field(default_factory=list)


class Judge:
    """Lives as long as the loop does; `judge` raises AssertionError for the first thing that is wrong."""

    def __init__(self) -> None:
        self._veterans = {parser: _service(parser) for parser in PARSERS}
        self._memory = Memory()
        self.served = self.refused = 0

    async def judge(self, raw: bytes, rng: random.Random) -> None:
        with logged() as records, logged("asyncio") as loop_records:
            first = await _replay([raw] if raw else [], _service("httptools"), records)
            for service, pieces in (
                (_service("h11"), [raw] if raw else []),
                *((veteran, cuts(raw, rng)) for veteran in self._veterans.values()),
            ):
                other = await _replay(pieces, service, records)
                assert other == first, f"{other} instead of {first}, in {pieces}"
        assert not records.errors + loop_records.errors, records.errors + loop_records.errors
        count = len(first.served)
        assert [status for status, _ in first.answers[:count]] == [200] * count
        assert len(first.answers) - count == len(first.refusals) <= 1
        assert first.over or not first.refusals
        _check_toolkit(first, cuts(raw, rng), self._memory)
        for reader in (by_h11, by_llhttp):
            _check_reader(first, *reader(raw))
        self.served += count
        self.refused += len(first.refusals)


def _service(parser: str) -> Service:
    table = Settings(http=parser, server_header=False, date_header=False)
    return Service(table, http(respond), asyncio.get_running_loop(), AccessLog.off(), {}, None)


async def _replay(pieces: list[bytes], service: Service, records: Records) -> Outcome:
    outcome = Outcome()
    before = len(records.warnings)

    @http
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive)
        except EOFError:
            return
        facts: tuple[Any, ...] = tuple(scope[name] for name in ("method", "http_version", "raw_path", "query_string"))
        outcome.served.append((*facts, scope["headers"], body))
        await respond(send, body)

    service.app = app
    driven = Driven(app, service=service)
    for piece in pieces:
        if driven.over:
            break
        driven.feed(piece)
        await asyncio.sleep(0)
    await driven.idle_or_waiting()
    answers = driven.transport.data.removesuffix(b"HTTP/1.1 100 Continue\r\n\r\n")  # the final one is yet to come
    methods = [method for method, *_ in outcome.served]
    outcome.answers = [(response.status, response.body) for response in read_all(answers, methods)]
    outcome.over = driven.over
    outcome.refusals = records.warnings[before:]
    driven.connection.cut()
    await driven.settle()
    return outcome


def _check_toolkit(outcome: Outcome, pieces: list[bytes], memory: Memory) -> None:
    """What the toolkit reads, up to where the server hands a connection on to another protocol."""
    parser = RequestParser(memory=memory)
    refusal = 0
    number = 0
    for piece in pieces:
        rest = piece
        while rest and not refusal:
            try:
                rest = rest[parser.feed(rest) :]
            except RequestError as error:
                refusal = error.status
            request = parser.request
            if not parser.completed or request is None:
                continue
            if request.upgrade:
                return
            uri = request.uri
            read = (request.method, request.version, uri.raw_path, uri.query, request.headers, request.body.read())
            assert outcome.served[number] == read, read
            number += 1
            if not request.keep_alive:
                assert number == len(outcome.served)
                return
            parser.next()
    assert number == len(outcome.served)
    assert [refusal] * len(outcome.refusals) == [status for status, _ in outcome.answers[number:]], refusal


def _check_reader(outcome: Outcome, messages: list[Message], stopped: bool) -> None:
    """Every request that was served is what this reader read, as far as it would read."""
    for number, (method, version, path, query, fields, body) in enumerate(outcome.served):
        if number == len(messages):
            assert stopped, f"a reader waits for more of what was served as {outcome.served[number]}"
            return
        message = messages[number]
        assert message.method == method.encode(), message
        assert message.body == body, message
        raw_path, _, raw_query = message.target.partition(b"?")
        assert raw_query == query, message
        assert raw_path.endswith(path) or path == b"/", message
        assert [name for name, _ in message.fields if name != b"host"] == [
            name for name, _ in fields if name != b"host"
        ], message
        assert version in ("1.0", "1.1")
