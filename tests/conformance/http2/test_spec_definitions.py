"""Each type of frame, by h2spec's group `http2`, section 6 (of RFC 7540).

Where h2spec takes a stream's error or the connection's, the RFC's own demand is what is tested.
"""

from __future__ import annotations

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2cases import BODY, case
from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_WINDOW,
    PADDED,
    WHOLE,
    Kind,
    Setting,
    continuation,
    data,
    frame,
    headers,
    ping,
    priority,
    reset,
    settings,
    window_update,
)

PROTOCOL_ERROR, STREAM_CLOSED = ErrorCode.PROTOCOL_ERROR, ErrorCode.STREAM_CLOSED
FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.FLOW_CONTROL_ERROR
LONG = [("x-dummy0", "x" * 4000)]


def simple(client: Client, method: str = "GET") -> bytes:
    return client.block(client.fields(method))


async def set_window(client: Client, *sizes: int) -> None:
    """Waits until the server goes by the last of them."""
    await client.send(settings(*((Setting.INITIAL_WINDOW_SIZE, size) for size in sizes)))
    await client.until(lambda: client.ledger.settings_acknowledged, "the ACK")


async def is_sent(client: Client, count: int) -> None:
    """The next DATA frame has so many bytes."""
    assert len((await client.expect(Kind.DATA)).payload) == count


# 6.1 DATA -----------------------------------------------------------------------------------------------------------


@case
async def test_6_1_1_data_on_stream_0(client: Client) -> None:
    await client.send(data(0, b"test", END_STREAM))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_1_2_data_on_a_stream_that_is_half_closed(client: Client) -> None:
    await client.send(headers(1, simple(client, "POST")), data(1, b"test", END_STREAM))
    await client.either_error(1, STREAM_CLOSED)


@case
async def test_6_1_3_data_with_more_padding_than_payload(client: Client) -> None:
    await client.send(headers(1, client.block(client.fields("POST", "/", ("content-length", "4"))), END_HEADERS))
    await client.send(data(1, b"\x06Test", END_STREAM | PADDED))
    await client.connection_error(PROTOCOL_ERROR)


# 6.2 HEADERS --------------------------------------------------------------------------------------------------------


@case
async def test_6_2_1_priority_instead_of_continuation(client: Client) -> None:
    await client.send(headers(1, simple(client), 0), priority(1), continuation(1, client.block(LONG)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_2_2_another_streams_headers_instead_of_continuation(client: Client) -> None:
    await client.send(headers(1, simple(client), 0), headers(3, simple(client)), continuation(1, client.block(LONG)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_2_3_headers_on_stream_0(client: Client) -> None:
    await client.send(headers(0, simple(client)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_2_4_headers_with_more_padding_than_payload(client: Client) -> None:
    block = simple(client)
    await client.send(headers(1, bytes([len(block) + 2]) + block, WHOLE | PADDED))
    await client.connection_error(PROTOCOL_ERROR)


# 6.3 PRIORITY -------------------------------------------------------------------------------------------------------


@case
async def test_6_3_1_priority_on_stream_0(client: Client) -> None:
    await client.send(priority(0))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_3_2_priority_of_4_bytes(client: Client) -> None:
    await client.send(headers(1, simple(client)), frame(Kind.PRIORITY, 0, 1, b"\x80\0\0\x01"))
    await client.either_error(1, FRAME_SIZE_ERROR)


@case
async def test_6_3_3_priority_on_an_idle_stream_does_not_close_those_below_it(client: Client) -> None:
    await client.send(priority(3), headers(1, simple(client)))
    assert (await client.response(1)).status == 200


# 6.4 RST_STREAM -----------------------------------------------------------------------------------------------------


@case
async def test_6_4_1_rst_stream_on_stream_0(client: Client) -> None:
    await client.send(reset(0))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_4_2_rst_stream_on_an_idle_stream(client: Client) -> None:
    await client.send(reset(1))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_4_3_rst_stream_of_3_bytes(client: Client) -> None:
    await client.send(headers(1, simple(client)), frame(Kind.RST_STREAM, 0, 1, bytes(3)))
    await client.connection_error(FRAME_SIZE_ERROR)


# 6.5 SETTINGS -------------------------------------------------------------------------------------------------------


@case
async def test_6_5_1_an_ack_with_a_payload(client: Client) -> None:
    await client.send(frame(Kind.SETTINGS, ACK, 0, b"\0"))
    await client.connection_error(FRAME_SIZE_ERROR)


@case
async def test_6_5_2_settings_on_a_stream(client: Client) -> None:
    await client.link.write(frame(Kind.SETTINGS, 0, 1, b"\0\x03\0\0\0\x64"))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_5_3_settings_of_a_broken_length(client: Client) -> None:
    await client.link.write(frame(Kind.SETTINGS, 0, 0, b"\0\x03\0"))
    await client.connection_error(FRAME_SIZE_ERROR)


@case
async def test_6_5_2_1_enable_push_is_neither_0_nor_1(client: Client) -> None:
    await client.send(settings((Setting.ENABLE_PUSH, 2)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_5_2_2_initial_window_size_too_large(client: Client) -> None:
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW + 1)))
    await client.connection_error(FLOW_CONTROL_ERROR)


@case
async def test_6_5_2_3_max_frame_size_too_small(client: Client) -> None:
    await client.send(settings((Setting.MAX_FRAME_SIZE, 16383)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_5_2_4_max_frame_size_too_large(client: Client) -> None:
    await client.send(settings((Setting.MAX_FRAME_SIZE, 1 << 24)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_5_2_5_an_unknown_setting(client: Client) -> None:
    await client.send(settings((0xFF, 1)))
    await client.roundtrip()


@case
async def test_6_5_3_1_the_last_of_several_values_holds(client: Client) -> None:
    await set_window(client, 100, 1)
    await client.send(headers(1, simple(client)))
    await is_sent(client, 1)


@case
async def test_6_5_3_2_settings_are_acknowledged(client: Client) -> None:
    await client.send(settings((Setting.ENABLE_PUSH, 0)))
    assert (await client.expect(Kind.SETTINGS)).has(ACK)


# 6.7 PING -----------------------------------------------------------------------------------------------------------


@case
async def test_6_7_1_ping(client: Client) -> None:
    await client.send(ping(b"palfrey\0"))
    answer = await client.expect(Kind.PING)
    assert (answer.has(ACK), answer.payload) == (True, b"palfrey\0")


@case
async def test_6_7_2_an_answer_is_not_answered(client: Client) -> None:
    await client.send(ping(b"answered", ACK), ping(b"palfrey\0"))
    assert (await client.expect(Kind.PING)).payload == b"palfrey\0"


@case
async def test_6_7_3_ping_on_a_stream(client: Client) -> None:
    await client.send(frame(Kind.PING, 0, 1, bytes(8)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_7_4_ping_of_6_bytes(client: Client) -> None:
    await client.send(frame(Kind.PING, 0, 0, bytes(6)))
    await client.connection_error(FRAME_SIZE_ERROR)


# 6.8 GOAWAY ---------------------------------------------------------------------------------------------------------


@case
async def test_6_8_1_goaway_on_a_stream(client: Client) -> None:
    await client.send(frame(Kind.GOAWAY, 0, 1, bytes(8)))
    await client.connection_error(PROTOCOL_ERROR)


# 6.9 WINDOW_UPDATE --------------------------------------------------------------------------------------------------


@case
async def test_6_9_1_an_increment_of_0_on_the_connection(client: Client) -> None:
    await client.send(window_update(0, 0))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_9_2_an_increment_of_0_on_a_stream(client: Client) -> None:
    await client.send(headers(1, simple(client), END_HEADERS), window_update(1, 0))
    await client.stream_error(1, PROTOCOL_ERROR)


@case
async def test_6_9_3_window_update_of_3_bytes(client: Client) -> None:
    await client.send(frame(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\x01"))
    await client.connection_error(FRAME_SIZE_ERROR)


@case
async def test_6_9_1_1_no_more_is_sent_than_the_window_has(client: Client) -> None:
    await set_window(client, 1)
    await client.send(headers(1, simple(client)))
    await is_sent(client, 1)
    await client.roundtrip()
    assert client.answer(1).pieces == [BODY[:1]]


@case
async def test_6_9_1_2_the_connections_window_overflows(client: Client) -> None:
    await client.send(window_update(0, MAX_WINDOW), window_update(0, MAX_WINDOW))
    await client.connection_error(FLOW_CONTROL_ERROR)


@case
async def test_6_9_1_3_a_streams_window_overflows(client: Client) -> None:
    await client.send(headers(1, simple(client), END_HEADERS))
    await client.send(window_update(1, MAX_WINDOW), window_update(1, MAX_WINDOW))
    await client.stream_error(1, FLOW_CONTROL_ERROR)


@case
async def test_6_9_2_1_a_new_initial_size_changes_the_windows_there_are(client: Client) -> None:
    await set_window(client, 0)
    await client.send(headers(1, simple(client)))
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 1)))
    await is_sent(client, 1)


@case
async def test_6_9_2_2_a_window_may_become_negative(client: Client) -> None:
    await set_window(client, 3)
    await client.send(headers(1, simple(client)))
    await is_sent(client, 3)
    await set_window(client, 2)
    await client.send(window_update(1, 2))
    await is_sent(client, 1)


@case
async def test_6_9_2_3_an_initial_size_beyond_the_largest(client: Client) -> None:
    await client.send(settings((Setting.INITIAL_WINDOW_SIZE, 1 << 31)))
    await client.connection_error(FLOW_CONTROL_ERROR)


# 6.10 CONTINUATION --------------------------------------------------------------------------------------------------


@case
async def test_6_10_1_several_continuations(client: Client) -> None:
    await client.send(headers(1, simple(client), END_STREAM))
    await client.send(continuation(1, client.block(LONG), 0), continuation(1, client.block(LONG)))
    await client.expect(Kind.HEADERS, 1)


@case
async def test_6_10_2_another_frame_instead_of_continuation(client: Client) -> None:
    await client.send(headers(1, simple(client, "POST"), 0), continuation(1, client.block(LONG), 0))
    await client.send(data(1, b"test", END_STREAM))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_10_3_continuation_on_stream_0(client: Client) -> None:
    await client.send(headers(1, simple(client), END_STREAM), continuation(0, client.block(LONG)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_10_4_continuation_of_headers_that_ended(client: Client) -> None:
    await client.send(headers(1, simple(client)), continuation(1, client.block(LONG)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_10_5_continuation_of_a_continuation_that_ended(client: Client) -> None:
    await client.send(headers(1, simple(client), END_STREAM))
    await client.send(continuation(1, client.block(LONG)), continuation(1, client.block(LONG)))
    await client.connection_error(PROTOCOL_ERROR)


@case
async def test_6_10_6_continuation_behind_data(client: Client) -> None:
    await client.send(headers(1, simple(client, "POST"), 0), data(1, b"test", END_STREAM))
    await client.send(continuation(1, client.block(LONG), 0), continuation(0, client.block(LONG)))
    await client.connection_error(PROTOCOL_ERROR)
