"""Properties: how bytes are cut into reads changes nothing, and nothing that a client sends takes the server down."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.legal import LEGAL
from tests.corpus.refused import REFUSED
from tests.support.driven import Driven
from tests.support.inprocess import http, logged, read_body, respond
from tests.support.properties import examples
from tests.support.rawhttp import read_all

GOOD = [case for case in LEGAL if not case.closes and case.method != "HEAD"]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


async def replay(pieces: list[bytes], eof: bool, waits: int) -> tuple[list, list, bool, list[str]]:
    """What the application saw, what the client reads, whether the connection is over, and the errors logged."""
    seen = []

    @http
    async def app(scope, receive, send):
        for _ in range(waits):
            await asyncio.sleep(0)
        try:
            body = await read_body(receive)
        except EOFError:
            return
        seen.append((scope["method"], scope["path"], scope["query_string"], scope["headers"], body))
        await respond(send, body)

    driven = Driven(app)
    with logged() as records, logged("asyncio") as loop_records:
        for piece in pieces:
            if driven.over:
                break
            driven.feed(piece)
            await asyncio.sleep(0)
        await driven.idle_or_waiting()
        if eof:
            driven.feed_eof()
            await driven.idle_or_waiting()
        over, data = driven.over, driven.transport.data
        driven.connection.cut()
        await driven.settle()
    methods = [method for method, *_ in seen]
    responses = [(response.status, response.body) for response in read_all(data, methods)]
    return seen, responses, over, [*records.errors, *loop_records.errors]


@examples(150)
@given(
    st.lists(st.sampled_from(GOOD), min_size=1, max_size=6),
    st.lists(st.integers(0, 100000), max_size=20),
    st.integers(0, 3),
    st.booleans(),
)
def test_any_split_of_any_sequence_gives_the_same(cases, places, waits, eof):
    raw = b"".join(case.raw for case in cases)
    expected = [(case.method, case.path, case.query, case.headers, case.body) for case in cases]
    seen, responses, over, errors = asyncio.run(replay(cut(raw, places), eof, waits))
    assert seen == expected
    assert responses == [(200, case.body) for case in cases]
    assert over is eof
    assert errors == []


@examples(150)
@given(
    st.lists(st.sampled_from(GOOD), max_size=3),
    st.sampled_from([case for case in REFUSED if not case.settings]),
    st.lists(st.integers(0, 100000), max_size=20),
    st.integers(0, 3),
)
def test_what_stands_before_a_refused_request_is_served_and_nothing_behind_it(cases, refused, places, waits):
    raw = b"".join(case.raw for case in cases) + refused.raw + GOOD[0].raw
    seen, responses, over, errors = asyncio.run(replay(cut(raw, places), False, waits))
    assert len(seen) == len(cases)
    assert [status for status, _ in responses] == [200] * len(cases) + [refused.status]
    assert over
    assert errors == []


PARTS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([case.raw for case in (*LEGAL, *REFUSED) if len(case.raw) < 400]),
    st.sampled_from(
        [b"\r\n", b"\n", b"\r", b" ", b"\x00", b"0", b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"Content-Length: 3\r\n"]
    ),
    st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n"]),
)


@examples(300)
@given(st.lists(PARTS, max_size=10).map(b"".join), st.lists(st.integers(0, 100000), max_size=12), st.booleans())
def test_anything_gets_clean_answers_or_a_clean_close_whatever_the_split(raw, places, eof):
    """`read_all` is strict: a byte too many or too few in what was answered fails it."""
    whole = asyncio.run(replay([raw] if raw else [], eof, 0))
    pieces = asyncio.run(replay(cut(raw, places), eof, 1))
    assert whole == pieces
    assert whole[3] == []
