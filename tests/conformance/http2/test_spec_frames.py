"""The connection's beginning and the form of frames, by h2spec's group `http2`, sections 3.5 to 4.3 (of RFC 7540)."""

from __future__ import annotations

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client, SocketLink
from tests.support.http2cases import SERVER, answering, case, raw_case
from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    WINDOW,
    Kind,
    Setting,
    continuation,
    data,
    frame,
    headers,
    priority,
    settings,
    split,
)
from tests.support.inprocess import looped, serving

LONG = "x" * 4000


@raw_case
async def test_3_5_1_the_servers_preface_comes_first(client: Client) -> None:
    await client.link.write(PREFACE)
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, WINDOW)))
    first = await client.next()
    assert first is not None
    assert (first.kind, first.has(ACK)) == (Kind.SETTINGS, False)


@pytest.mark.skipif(bool(SERVER), reason="two servers' matter")
def test_3_5_2_what_is_no_preface_ends_the_connection() -> None:
    """h2spec takes the bytes of an answer in HTTP/1.1 for a frame that never ends, and fails it: so there is none for
    what is not even a request line."""

    async def app(scope, receive, send):
        raise AssertionError("asked for")

    with serving(app, http="h2", lifespan="off") as server, server.client() as client:
        client.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
        first, last = split(bytearray(client.rest()))
        assert (first.kind, last.kind, last.code) == (Kind.SETTINGS, Kind.GOAWAY, ErrorCode.PROTOCOL_ERROR)


@pytest.mark.skipif(bool(SERVER), reason="another server's certificate")
@looped
async def test_3_5_2_nor_is_there_where_tls_has_settled_that_it_is_http2(certificate, context) -> None:
    with serving(answering, http="h2", **certificate) as server:
        client = Client(await SocketLink.connect(server.address, context, "app.test"))
        await client.link.write(b"INVALID CONNECTION PREFACE\r\n\r\n")
        await client.connection_error(ErrorCode.PROTOCOL_ERROR)
        client.link.close()


@case
async def test_4_1_1_a_frame_of_unknown_type(client: Client) -> None:
    await client.send(frame(0x16, 0, 0, bytes(8)))
    await client.roundtrip()


@case
async def test_4_1_2_undefined_flags(client: Client) -> None:
    await client.send(frame(Kind.PING, 0x16, 0, b"palfrey\0"))
    assert (await client.expect(Kind.PING)).payload == b"palfrey\0"


@case
async def test_4_1_3_the_reserved_bit(client: Client) -> None:
    await client.send(frame(Kind.PING, 0x16, 1 << 31, b"palfrey\0"))
    assert (await client.expect(Kind.PING)).payload == b"palfrey\0"


def allowed(client: Client) -> int:
    return client.ledger.server.get(Setting.MAX_FRAME_SIZE, 16384)


@case
async def test_4_2_1_data_of_the_largest_size(client: Client) -> None:
    await client.send(headers(1, client.block(client.fields("POST")), END_HEADERS))
    await client.send(data(1, b"x" * allowed(client), END_STREAM))
    assert (await client.response(1)).status == 200


@case
async def test_4_2_2_data_beyond_it(client: Client) -> None:
    await client.send(headers(1, client.block(client.fields("POST")), END_HEADERS))
    await client.send(data(1, b"x" * (allowed(client) + 1), END_STREAM))
    await client.either_error(1, ErrorCode.FRAME_SIZE_ERROR)


@case
async def test_4_2_3_headers_beyond_it(client: Client) -> None:
    block = client.block(client.fields("GET", "/", *((f"x-dummy{number}", LONG) for number in range(5))))
    assert len(block) > allowed(client)
    await client.send(headers(1, block))
    await client.connection_error(ErrorCode.FRAME_SIZE_ERROR)


@case
async def test_4_3_1_a_block_that_cannot_be_decoded(client: Client) -> None:
    await client.send(headers(1, b"\x40"))
    await client.connection_error(ErrorCode.COMPRESSION_ERROR)


@case
async def test_4_3_2_priority_in_the_middle_of_a_block(client: Client) -> None:
    await client.send(headers(1, client.block(client.fields()), 0), priority(1))
    await client.send(continuation(1, client.block([("x-dummy0", LONG)])))
    await client.connection_error(ErrorCode.PROTOCOL_ERROR)


@case
async def test_4_3_3_another_streams_headers_in_the_middle_of_a_block(client: Client) -> None:
    await client.send(headers(1, client.block(client.fields()), 0), headers(3, client.block(client.fields())))
    await client.send(continuation(1, client.block([("x-dummy0", LONG)])))
    await client.connection_error(ErrorCode.PROTOCOL_ERROR)
