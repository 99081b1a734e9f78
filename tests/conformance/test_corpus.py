"""Every request of tests/corpus: whole, split at every byte, a byte at a time, with a second request behind it, and
with either parser.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.service import ASGI_VERSIONS, Service
from palfrey.types import Receive, Scope, Send
from tests.corpus.__main__ import main
from tests.corpus.legal import LEGAL, Legal
from tests.corpus.refused import REFUSED, Refused
from tests.support.driven import CLIENT, SERVER, Driven
from tests.support.inprocess import echo, http, logged, looped, read_body, respond

PARSERS = ("httptools", "h11")

SECOND = b"GET /second HTTP/1.1\r\nHost: second\r\n\r\n"

SPLITS = 150
"""Longer requests are split at a sample of their bytes."""


class Witness:
    """An application that notes what it sees and answers each request with its number."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Any], bytes]] = []
        self.begun = 0
        self.app = http(self._serve)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        try:
            body = await read_body(receive)
        except EOFError:
            return
        self.seen.append((dict(scope), body))
        await respond(send, b"%d" % len(self.seen))


def splits(raw: bytes) -> Iterator[list[bytes]]:
    """Whole, then in two at each byte (of a long request, at a sample), then byte by byte."""
    yield [raw]
    for at in range(1, len(raw), max(1, len(raw) // SPLITS)):
        yield [raw[:at], raw[at:]]
    if len(raw) < 2000:
        yield [raw[at : at + 1] for at in range(len(raw))]


def make_service(parser: str, settings: Mapping[str, Any]) -> Service:
    """For all replays of one request: its lines are new in the first and known in the others."""
    table = Settings(http=parser, server_header=False, date_header=False, **settings)
    return Service(table, echo, asyncio.get_running_loop(), AccessLog.off(), {}, None)


async def replay(pieces: list[bytes], service: Service) -> tuple[Driven, Witness]:
    witness = Witness()
    service.app = witness.app
    driven = Driven(witness.app, service=service)
    for piece in pieces:
        if driven.over:
            break
        driven.feed(piece)
        if len(pieces) == 2:
            await asyncio.sleep(0)
    await driven.idle()
    return driven, witness


def expected_scope(case: Legal, service: Service) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": ASGI_VERSIONS,
        "http_version": case.version,
        "method": case.method,
        "scheme": "http",
        "path": case.path,
        "raw_path": case.raw_path,
        "query_string": case.query,
        "root_path": "",
        "headers": case.headers,
        "client": CLIENT,
        "server": SERVER,
        "state": {},
        "extensions": service.extensions,
    }


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("case", LEGAL, ids=lambda case: case.name)
@looped
async def test_legal(case: Legal, parser: str) -> None:
    service = make_service(parser, case.settings)
    expected = expected_scope(case, service)
    for pieces in splits(case.raw + SECOND):
        driven, witness = await replay(pieces, service)
        assert witness.seen, driven.transport.data
        assert witness.seen[0] == (expected, case.body)
        responses = driven.responses(case.method)
        assert responses[0].status == 200
        if case.closes:
            assert len(responses) == 1
            assert responses[0].closes
            assert driven.over
            assert len(witness.seen) == 1
        else:
            assert not driven.over
            assert [response.status for response in responses] == [200, 200]
            assert witness.seen[1][0]["path"] == "/second"
            assert witness.seen[1][1] == b""
        driven.connection.connection_lost(None)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
@looped
async def test_refused(case: Refused, parser: str) -> None:
    service = make_service(parser, case.settings)
    for pieces in splits(case.raw + SECOND):
        with logged() as records:
            driven, witness = await replay(pieces, service)
        (response,) = driven.responses()
        assert response.status == case.status, pieces
        assert response.closes
        assert driven.over
        assert not witness.seen
        assert witness.begun <= case.begins
        (line,) = records.warnings
        assert line.startswith("Refused a request from 192.0.2.1:50000: ")
        driven.connection.connection_lost(None)


def test_size() -> None:
    names = [case.name for case in (*LEGAL, *REFUSED)]
    assert len(names) == len(set(names))
    assert len(LEGAL) >= 100
    assert len(REFUSED) >= 400
    assert min(Counter(case.rule for case in REFUSED).values()) >= 4
    assert all(case.section for case in (*LEGAL, *REFUSED))


def test_the_page_is_up_to_date() -> None:
    assert main(["--check"]) == 0, "run python -m tests.corpus"
