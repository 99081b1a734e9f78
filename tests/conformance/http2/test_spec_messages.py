"""Error codes, requests and their fields, by h2spec's group `http2`, sections 7 to 8.2 (of RFC 7540).

A malformed request is its stream's error: the connection lives on (`stream_error` asks for that), which is more than
h2spec wants.
"""

from __future__ import annotations

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2cases import case
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    Field,
    Kind,
    data,
    frame,
    goaway,
    headers,
    ping,
    reset,
)

PROTOCOL_ERROR = ErrorCode.PROTOCOL_ERROR


async def is_malformed(client: Client, fields: list[Field]) -> None:
    """A request of these fields is refused."""
    await client.send(headers(1, client.block(fields)))
    await client.stream_error(1, PROTOCOL_ERROR)


async def begin_upload(client: Client, *more: Field) -> None:
    await client.send(headers(1, client.block(client.fields("POST", "/", *more)), END_HEADERS))


# 7. Error codes -----------------------------------------------------------------------------------------------------


@case
async def test_7_1_goaway_with_an_unknown_code(client: Client) -> None:
    """As 3.8 of the generic group."""
    await client.send(goaway(0, 0xFF), ping(b"palfrey\0"))
    await client.wait_for_end()


@case
async def test_7_2_rst_stream_with_an_unknown_code(client: Client) -> None:
    await begin_upload(client)
    await client.send(reset(1, 0xFF))
    await client.roundtrip()


# 8.1 HTTP request/response exchange ---------------------------------------------------------------------------------


@case
async def test_8_1_1_a_second_head_that_does_not_end_the_stream(client: Client) -> None:
    await begin_upload(client)
    await client.send(data(1, b"test"), headers(1, client.block([("x-test", "ok")]), END_HEADERS))
    await client.stream_error(1, PROTOCOL_ERROR)


@case
async def test_8_1_2_1_a_name_in_upper_case(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", ("X-TEST", "ok")))


@case
async def test_8_1_2_1_1_an_unknown_pseudo_header(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", (":test", "ok")))


@case
async def test_8_1_2_1_2_a_responses_pseudo_header(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", (":status", "200")))


@case
async def test_8_1_2_1_3_a_pseudo_header_in_the_trailers(client: Client) -> None:
    await begin_upload(client)
    await client.send(data(1, b"test"), headers(1, client.block([(":method", "POST")])))
    await client.stream_error(1, PROTOCOL_ERROR)


@case
async def test_8_1_2_1_3_the_same_in_trailers_that_do_not_end_the_stream(client: Client) -> None:
    """As h2spec has it."""
    await begin_upload(client)
    await client.send(data(1, b"test"), headers(1, client.block([(":method", "POST")]), END_HEADERS))
    await client.stream_error(1, PROTOCOL_ERROR)


@case
async def test_8_1_2_1_4_a_pseudo_header_behind_a_field(client: Client) -> None:
    await is_malformed(client, [("x-test", "ok"), *client.fields()])


@case
async def test_8_1_2_2_1_a_field_of_the_connection(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", ("connection", "keep-alive")))


@case
async def test_8_1_2_2_2_te_with_more_than_trailers(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", ("trailers", "test"), ("te", "trailers, deflate")))


@case
async def test_8_1_2_3_1_an_empty_path(client: Client) -> None:
    await is_malformed(client, client.fields("GET", ""))


@case
async def test_8_1_2_3_2_no_method(client: Client) -> None:
    await is_malformed(client, client.fields()[1:])


@case
async def test_8_1_2_3_2_no_method_and_no_scheme(client: Client) -> None:
    """As h2spec has it."""
    await is_malformed(client, client.fields()[2:])


@case
async def test_8_1_2_3_3_no_scheme(client: Client) -> None:
    await is_malformed(client, [each for each in client.fields() if each[0] != ":scheme"])


@case
async def test_8_1_2_3_4_no_path(client: Client) -> None:
    await is_malformed(client, [each for each in client.fields() if each[0] != ":path"])


@case
async def test_8_1_2_3_5_two_methods(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", (":method", "GET")))


@case
async def test_8_1_2_3_6_two_schemes(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", (":scheme", client.link.scheme)))


@case
async def test_8_1_2_3_7_two_paths(client: Client) -> None:
    await is_malformed(client, client.fields("GET", "/", (":path", "/")))


@case
async def test_8_1_2_6_1_more_content_than_its_length(client: Client) -> None:
    await begin_upload(client, ("content-length", "1"))
    await client.send(data(1, b"test", END_STREAM))
    await client.stream_error(1, PROTOCOL_ERROR)


@case
async def test_8_1_2_6_2_more_content_than_its_length_in_two_frames(client: Client) -> None:
    await begin_upload(client, ("content-length", "1"))
    await client.send(data(1, b"test"), data(1, b"test", END_STREAM))
    await client.until(lambda: client.answer(1).code is not None, "RST_STREAM")
    assert client.answer(1).code == PROTOCOL_ERROR


@case
async def test_8_1_2_6_3_less_content_than_its_length(client: Client) -> None:
    """Not h2spec's."""
    await begin_upload(client, ("content-length", "5"))
    await client.send(data(1, b"test", END_STREAM))
    await client.stream_error(1, PROTOCOL_ERROR)


@case
async def test_8_1_2_6_4_no_content_but_a_length(client: Client) -> None:
    """Not h2spec's."""
    await is_malformed(client, client.fields("POST", "/", ("content-length", "5")))


# 8.2 Server push ----------------------------------------------------------------------------------------------------


@case
async def test_8_2_1_push_promise(client: Client) -> None:
    await client.send(frame(Kind.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x03" + client.block(client.fields())))
    await client.connection_error(PROTOCOL_ERROR)
