"""What every endpoint has to take, by h2spec's group `generic`: its sections, then the number of the case in it."""

from __future__ import annotations

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2cases import case, raw_case
from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    WHOLE,
    WINDOW,
    WITH_PRIORITY,
    Kind,
    Setting,
    continuation,
    data,
    dependency,
    goaway,
    headers,
    ping,
    priority,
    reset,
    settings,
    window_update,
)

AGENT = "user-agent"


def simple(client: Client, method: str = "GET") -> bytes:
    return client.block(client.fields(method))


async def is_answered(client: Client, stream: int = 1) -> None:
    """The case is about what is taken; that the response is whole is asked besides."""
    assert (await client.response(stream)).status == 200


# 1. Starting HTTP/2 -------------------------------------------------------------------------------------------------


@raw_case
async def test_1_1_the_servers_preface_comes_first(client: Client) -> None:
    await client.link.write(PREFACE)
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, WINDOW)))
    first = await client.next()
    assert first is not None
    assert (first.kind, first.has(ACK)) == (Kind.SETTINGS, False)


# 2. Streams and multiplexing ----------------------------------------------------------------------------------------


@case
async def test_2_1_priority_on_an_idle_stream(client: Client) -> None:
    await client.send(priority(1))
    await client.roundtrip()


@case
async def test_2_2_window_update_on_a_half_closed_stream(client: Client) -> None:
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    await client.send(headers(1, simple(client)), window_update(1, 1))
    assert len((await client.expect(Kind.DATA)).payload) == 1


@case
async def test_2_3_priority_on_a_half_closed_stream(client: Client) -> None:
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    await client.send(headers(1, simple(client)), priority(1), window_update(1, 1))
    assert len((await client.expect(Kind.DATA)).payload) == 1


@case
async def test_2_4_rst_stream_on_a_half_closed_stream(client: Client) -> None:
    await client.send(headers(1, simple(client)), reset(1))
    await client.roundtrip()


@case
async def test_2_5_priority_on_a_closed_stream(client: Client) -> None:
    await client.send(headers(1, simple(client)))
    await client.response(1)
    await client.send(priority(1))
    await client.roundtrip()


# 3. Frames ----------------------------------------------------------------------------------------------------------


@case
async def test_3_1_1_data(client: Client) -> None:
    await client.send(headers(1, simple(client, "POST"), END_HEADERS), data(1, b"test", END_STREAM))
    await is_answered(client)


@case
async def test_3_1_2_several_data_frames(client: Client) -> None:
    await client.send(headers(1, simple(client, "POST"), END_HEADERS), data(1, b"test"), data(1, b"test", END_STREAM))
    await is_answered(client)


@case
async def test_3_1_3_data_with_padding(client: Client) -> None:
    await client.send(headers(1, simple(client, "POST"), END_HEADERS))
    await client.send(data(1, b"\x05test" + bytes(5), END_STREAM | PADDED))
    await is_answered(client)


@case
async def test_3_2_1_headers(client: Client) -> None:
    await client.send(headers(1, simple(client)))
    await is_answered(client)


@case
async def test_3_2_2_headers_with_padding(client: Client) -> None:
    await client.send(headers(1, b"\x08" + simple(client) + bytes(8), WHOLE | PADDED))
    await is_answered(client)


@case
async def test_3_2_3_headers_with_priority(client: Client) -> None:
    await client.send(headers(1, dependency(0) + simple(client), WHOLE | WITH_PRIORITY))
    await is_answered(client)


@case
async def test_3_3_1_priority_of_weight_1(client: Client) -> None:
    await client.send(priority(1, weight=0), headers(1, simple(client)))
    await is_answered(client)


@case
async def test_3_3_2_priority_of_weight_256(client: Client) -> None:
    await client.send(priority(1, weight=255), headers(1, simple(client)))
    await is_answered(client)


@case
async def test_3_3_3_priority_with_a_dependency(client: Client) -> None:
    await client.send(priority(3, on=1, weight=0), headers(1, simple(client)))
    await is_answered(client)


@case
async def test_3_3_4_exclusive_priority(client: Client) -> None:
    await client.send(priority(1, exclusive=True, weight=0), headers(1, simple(client)))
    await is_answered(client)


@case
async def test_3_3_5_priority_on_an_idle_stream_does_not_close_those_below_it(client: Client) -> None:
    await client.send(priority(3), headers(1, simple(client)))
    await is_answered(client)


@case
async def test_3_4_1_rst_stream(client: Client) -> None:
    await client.send(headers(1, simple(client), END_HEADERS), reset(1))
    await client.roundtrip()


@case
async def test_3_5_1_settings(client: Client) -> None:
    await client.send(
        settings(
            (Setting.HEADER_TABLE_SIZE, 4096),
            (Setting.ENABLE_PUSH, 1),
            (Setting.MAX_CONCURRENT_STREAMS, 100),
            (Setting.INITIAL_WINDOW_SIZE, 65535),
            (Setting.MAX_FRAME_SIZE, 16384),
            (Setting.MAX_HEADER_LIST_SIZE, 100),
        )
    )
    assert (await client.expect(Kind.SETTINGS)).has(ACK)


@case
async def test_3_7_1_ping(client: Client) -> None:
    await client.send(ping(b"palfrey\0"))
    answer = await client.expect(Kind.PING)
    assert (answer.has(ACK), answer.payload) == (True, b"palfrey\0")


@case
async def test_3_8_1_goaway(client: Client) -> None:
    """Newer versions of h2spec ask for an answer to the PING or the end, older ones for the end."""
    await client.send(goaway(0, ErrorCode.NO_ERROR, b"debug data"), ping(b"palfrey\0"))
    await client.wait_for_end()


@case
async def test_3_9_1_window_update_of_the_connection(client: Client) -> None:
    await client.send(window_update(0, 1))
    await client.roundtrip()


@case
async def test_3_9_2_window_update_of_a_stream(client: Client) -> None:
    await client.send(headers(1, simple(client)), window_update(1, 1))
    await is_answered(client)


@case
async def test_3_10_1_continuation(client: Client) -> None:
    block = simple(client)
    await client.send(headers(1, block[:5], END_STREAM), continuation(1, block[5:]))
    await is_answered(client)


@case
async def test_3_10_2_several_continuations(client: Client) -> None:
    block = simple(client)
    await client.send(headers(1, block[:5], END_STREAM), continuation(1, block[5:10], 0), continuation(1, block[10:]))
    await is_answered(client)


# 4. HTTP message exchanges ------------------------------------------------------------------------------------------


@case
async def test_4_1_get(client: Client) -> None:
    await client.request("GET")
    await is_answered(client)


@case
async def test_4_2_head(client: Client) -> None:
    await client.request("HEAD")
    await is_answered(client)


@case
async def test_4_3_post(client: Client) -> None:
    await client.request("POST", body=b"test")
    await is_answered(client)


@case
async def test_4_4_post_with_trailers(client: Client) -> None:
    await client.request("POST", "/", ("trailer", "x-test"), body=b"test", ends=False)
    await client.send(headers(1, client.block([("x-test", "ok")])))
    await is_answered(client)


# 5. HPACK -----------------------------------------------------------------------------------------------------------

PLAIN_AGENT = b"\x0auser-agent"
CODED_AGENT = bytes.fromhex("87b505b161cc5a93")
PLAIN_TEST = b"\x06x-test"
CODED_TEST = bytes.fromhex("85f2b24a84ff")
PLAIN_VALUE = b"\x06h2spec"
CODED_VALUE = bytes.fromhex("849c48aca4")
NAMES = {
    "indexed_name": b"",
    "plain": PLAIN_AGENT + PLAIN_VALUE,
    "huffman": CODED_AGENT + CODED_VALUE,
    "new_name": PLAIN_TEST + PLAIN_VALUE,
    "new_name_huffman": CODED_TEST + CODED_VALUE,
}
LITERALS = {
    f"{kind}-{name}": first + (content or CODED_VALUE)
    for kind, whole, bare in (
        ("indexed", b"\x40", b"\x7a"),
        ("not_indexed", b"\x00", b"\x0f\x2b"),
        ("never_indexed", b"\x10", b"\x1f\x2b"),
    )
    for name, content in NAMES.items()
    for first in (whole if content else bare,)
}


@case
async def test_5_1_indexed_field(client: Client) -> None:
    await client.send(headers(1, simple(client) + b"\xba"))
    await is_answered(client)


@pytest.mark.parametrize("literal", LITERALS.values(), ids=LITERALS)
def test_5_2_to_5_13_literal_field(peer, literal: bytes) -> None:
    @case
    async def run(client: Client) -> None:
        await client.send(headers(1, simple(client) + literal))
        await is_answered(client)

    run(peer)


@case
async def test_5_14_size_update(client: Client) -> None:
    await client.send(headers(1, b"\x3f\x61" + simple(client)))
    await is_answered(client)


@case
async def test_5_15_several_size_updates(client: Client) -> None:
    await client.send(headers(1, b"\x20\x3f\xe1\x1f" + simple(client)))
    await is_answered(client)
