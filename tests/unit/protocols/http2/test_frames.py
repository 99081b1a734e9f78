"""Frames as bytes, against the builder that the tests have of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2 import frames
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode
from tests.support import http2frames as own
from tests.support.properties import examples

STREAMS = st.integers(0, frames.LARGEST_STREAM)


def read(raw: bytes) -> list[own.Frame]:
    buffer = bytearray(raw)
    found = list(own.split(buffer))
    assert not buffer
    return found


@examples(200)
@given(st.integers(0, 255), st.integers(0, 255), STREAMS, st.binary(max_size=100))
def test_any_frame(kind: int, flags: int, stream: int, payload: bytes) -> None:
    raw = frames.frame(kind, flags, stream, payload)
    assert raw == own.frame(kind, flags, stream, payload)
    word, found, number = frames.unpack_header(raw, 0)
    assert (word >> 8, word & 0xFF, found, number) == (len(payload), kind, flags, stream)


def test_the_length_has_three_bytes() -> None:
    raw = frames.frame(frames.DATA, 0, 1, bytes(0x012345))
    assert raw[:9] == b"\x01\x23\x45\x00\x00\x00\x00\x00\x01"


def test_each_shorthand() -> None:
    assert frames.reset_frame(5, 8) == own.reset(5, 8)
    assert frames.window_frame(3, 70_000) == own.window_update(3, 70_000)
    assert frames.goaway_frame(7, 2, "enough") == own.goaway(7, 2, b"enough")
    assert frames.settings_frame([(3, 100), (4, 65535)]) == own.settings((3, 100), (4, 65535))
    assert frames.settings_frame([]) == own.settings()
    assert read(frames.SETTINGS_ACK) == [own.Frame(own.Kind.SETTINGS, own.ACK, 0, b"")]


def test_debug_text_is_ascii() -> None:
    assert frames.goaway_frame(0, 0, "für").endswith(b"f?r")


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 32768, 32769, 50_000])
@pytest.mark.parametrize("ends", [False, True])
def test_a_header_block_in_as_many_frames_as_it_takes(size: int, ends: bool) -> None:
    block = bytes(number % 251 for number in range(size))
    first, *more = read(frames.headers_frames(9, block, ends))
    assert first.kind == own.Kind.HEADERS
    assert all(each.kind == own.Kind.CONTINUATION for each in more)
    assert b"".join(each.payload for each in (first, *more)) == block
    assert {each.stream for each in (first, *more)} == {9}
    assert first.has(own.END_STREAM) == ends
    assert [each.has(own.END_HEADERS) for each in (first, *more)] == [*([False] * len(more)), True]
    assert all(len(each.payload) <= frames.FRAME_SIZE for each in (first, *more))
    assert not any(each.has(own.END_STREAM) for each in more)


@examples(200)
@given(st.binary(max_size=50), st.integers(0, 255))
def test_padding_comes_off(content: bytes, padding: int) -> None:
    assert frames.unpadded(bytes([padding]) + content + bytes(padding)) == content


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x02\x00", b"\xff" + bytes(254)])
def test_padding_that_is_longer_than_its_frame(payload: bytes) -> None:
    with pytest.raises(ConnectionFault) as raised:
        frames.unpadded(payload)
    assert raised.value.code == ErrorCode.PROTOCOL_ERROR


def test_padding_and_nothing_else() -> None:
    assert frames.unpadded(b"\xff" + bytes(255)) == frames.unpadded(b"\x00") == b""


@examples(200)
@given(st.lists(st.tuples(st.integers(0x10, 0xFFFF), st.integers(0, 2**32 - 1)), max_size=20))
def test_settings_that_nobody_knows_are_pairs_in_their_order(pairs: list[tuple[int, int]]) -> None:
    assert frames.read_settings(own.settings(*pairs)[9:]) == pairs


@pytest.mark.parametrize("size", [1, 5, 7, 11])
def test_settings_of_broken_length(size: int) -> None:
    with pytest.raises(ConnectionFault) as raised:
        frames.read_settings(bytes(size))
    assert raised.value.code == ErrorCode.FRAME_SIZE_ERROR


WRONG = [
    (frames.INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
    (frames.INITIAL_WINDOW_SIZE, 2**32 - 1, ErrorCode.FLOW_CONTROL_ERROR),
    (frames.MAX_FRAME_SIZE, 0, ErrorCode.PROTOCOL_ERROR),
    (frames.MAX_FRAME_SIZE, 16383, ErrorCode.PROTOCOL_ERROR),
    (frames.MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
    (frames.ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
    (frames.ENABLE_CONNECT_PROTOCOL, 2, ErrorCode.PROTOCOL_ERROR),
    (frames.NO_RFC7540_PRIORITIES, 2, ErrorCode.PROTOCOL_ERROR),
]


@pytest.mark.parametrize(("name", "value", "code"), WRONG)
def test_settings_out_of_range(name: int, value: int, code: int) -> None:
    with pytest.raises(ConnectionFault) as raised:
        frames.read_settings(own.settings((0x99, 1), (name, value))[9:])
    assert raised.value.code == code


RIGHT = [
    (frames.INITIAL_WINDOW_SIZE, 0),
    (frames.INITIAL_WINDOW_SIZE, 2**31 - 1),
    (frames.MAX_FRAME_SIZE, 16384),
    (frames.MAX_FRAME_SIZE, 2**24 - 1),
    (frames.HEADER_TABLE_SIZE, 2**32 - 1),
    (frames.MAX_CONCURRENT_STREAMS, 2**32 - 1),
    (frames.MAX_HEADER_LIST_SIZE, 0),
    (frames.ENABLE_PUSH, 0),
    (frames.ENABLE_PUSH, 1),
]


@pytest.mark.parametrize("pair", RIGHT)
def test_settings_within_it(pair: tuple[int, int]) -> None:
    assert frames.read_settings(own.settings(pair)[9:]) == [pair]
