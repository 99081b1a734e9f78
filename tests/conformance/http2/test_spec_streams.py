"""What may happen on a stream in each of its states, by h2spec's group `http2`, sections 5.1 to 5.5 (of RFC 7540)."""

from __future__ import annotations

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2cases import case
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    WHOLE,
    WITH_PRIORITY,
    Kind,
    Setting,
    continuation,
    data,
    dependency,
    frame,
    headers,
    priority,
    reset,
    settings,
    window_update,
)

PROTOCOL_ERROR, STREAM_CLOSED = ErrorCode.PROTOCOL_ERROR, ErrorCode.STREAM_CLOSED
LONG = [("x-dummy0", "x" * 4000)]


def simple(client: Client) -> bytes:
    return client.block(client.fields())


@case
async def test_5_1_1_idle_data(client: Client) -> None:
    await client.send(data(1, b"test", END_STREAM))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_5_1_2_idle_rst_stream(client: Client) -> None:
    await client.send(reset(1))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_5_1_3_idle_window_update(client: Client) -> None:
    await client.send(window_update(1, 100))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_5_1_4_idle_continuation(client: Client) -> None:
    await client.send(continuation(1, simple(client)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_5_1_5_half_closed_data(client: Client) -> None:
    await client.send(headers(1, simple(client)), data(1, b"test", END_STREAM))
    await client.either_error(1, STREAM_CLOSED)


@case
async def test_5_1_6_half_closed_headers(client: Client) -> None:
    await client.send(headers(1, simple(client)), headers(1, simple(client)))
    await client.either_error(1, STREAM_CLOSED)


@case
async def test_5_1_7_half_closed_continuation(client: Client) -> None:
    block = simple(client)
    await client.send(headers(1, block), continuation(1, block))
    await client.connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case
async def test_5_1_8_data_after_rst_stream(client: Client) -> None:
    await client.send(headers(1, simple(client), END_HEADERS), reset(1), data(1, b"test", END_STREAM))
    await client.either_error(1, STREAM_CLOSED)


@case
async def test_5_1_9_headers_after_rst_stream(client: Client) -> None:
    await client.send(headers(1, simple(client), END_HEADERS), reset(1), headers(1, simple(client)))
    await client.either_error(1, STREAM_CLOSED)


@case
async def test_5_1_10_continuation_after_rst_stream(client: Client) -> None:
    await client.send(headers(1, simple(client), END_HEADERS), reset(1), continuation(1, client.block(LONG)))
    await client.connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case
async def test_5_1_11_closed_data(client: Client) -> None:
    await client.send(headers(1, simple(client)))
    await client.response(1)
    await client.send(data(1, b"test", END_STREAM))
    await client.either_error(1, STREAM_CLOSED)


@case
async def test_5_1_12_closed_headers(client: Client) -> None:
    block = simple(client)
    await client.send(headers(1, block))
    await client.response(1)
    await client.send(headers(1, block))
    await client.connection_error(STREAM_CLOSED)


@case
async def test_5_1_13_closed_continuation(client: Client) -> None:
    await client.send(headers(1, simple(client)))
    await client.response(1)
    await client.send(continuation(1, client.block(LONG)))
    await client.connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case
async def test_5_1_1_1_an_even_stream(client: Client) -> None:
    await client.send(headers(2, simple(client)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_5_1_1_2_a_stream_below_the_last(client: Client) -> None:
    await client.send(headers(5, simple(client)), headers(3, simple(client)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_5_1_1_3_headers_on_a_stream_that_is_half_closed(client: Client) -> None:
    await client.send(headers(5, simple(client)), headers(5, simple(client)))
    await client.either_error(5, STREAM_CLOSED)


@case
async def test_5_1_2_1_more_streams_than_allowed(client: Client) -> None:
    limit = client.ledger.server.get(Setting.MAX_CONCURRENT_STREAMS)
    if limit is None:
        pytest.skip("there is no limit")
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    block = simple(client)
    last = 2 * limit + 1
    await client.send(*(headers(stream, block) for stream in range(1, last + 1, 2)))
    await client.stream_error(last, PROTOCOL_ERROR, ErrorCode.REFUSED_STREAM)


@case
async def test_5_3_1_1_headers_that_depend_on_themselves(client: Client) -> None:
    await client.send(headers(1, dependency(1) + simple(client), WHOLE | WITH_PRIORITY))
    await client.either_error(1, PROTOCOL_ERROR)


@case
async def test_5_3_1_2_priority_that_depends_on_itself(client: Client) -> None:
    await client.send(priority(1, on=1))
    await client.either_error(1, PROTOCOL_ERROR)


@case
async def test_5_4_1_1_a_connection_error_ends_the_connection(client: Client) -> None:
    await client.send(frame(Kind.PING, 0, 3, bytes(8)))
    await client.wait_for_end()


@case
async def test_5_4_1_2_and_says_why(client: Client) -> None:
    await client.send(frame(Kind.PING, 0, 3, bytes(8)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_5_5_1_an_unknown_frame(client: Client) -> None:
    await client.send(frame(0x16, 0, 0, bytes(8)))
    await client.roundtrip()


@case
async def test_5_5_2_an_unknown_frame_in_the_middle_of_a_block(client: Client) -> None:
    await client.send(headers(1, simple(client), END_STREAM), frame(0x16, 0, 0, bytes(8)))
    await client.connection_error(PROTOCOL_ERROR)
