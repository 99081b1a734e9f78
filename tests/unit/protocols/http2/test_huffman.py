"""Huffman strings: every byte both ways, and what is none."""

from __future__ import annotations

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.huffman import decode, encode
from tests.support.properties import examples

REFERENCE = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
EOS = (1 << 30) - 1


def bits(digits: str) -> bytes:
    """Digits of whole bytes."""
    assert len(digits) % 8 == 0
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_at_each_place_of_a_byte(byte):
    for before in (b"", b"0", b"00", b"000", b"0000", b"00000", b"000000", b"0000000"):
        text = before + bytes((byte,)) * 3
        assert encode(text) == REFERENCE.encode(text)
        assert decode(encode(text)) == text


@examples(200)
@given(st.binary(max_size=300))
def test_any_text(text):
    assert encode(text) == REFERENCE.encode(text)
    assert decode(encode(text)) == text


def test_nothing():
    assert encode(b"") == decode(b"") == b""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (bits("00011" + "000"), "padding"),  # zeros
        (bits("00011" + "110"), "padding"),
        (bits("00011" + "111" + "11111111"), "padding"),  # a byte too many
        (b"\xff", "padding"),  # nothing but padding, a whole byte of it
        (bits("1111111100000000"), "padding"),  # a question mark, "0", and a zero
        ((EOS << 2 | 0b11).to_bytes(4, "big"), "EOS"),
        (bits("00011" + "1" * 30 + "00011"), "EOS"),
        (bits("00011" + "1" * 35), "EOS"),
    ],
)
def test_what_is_no_huffman_string(code, reason):
    with pytest.raises(ValueError, match=reason):
        decode(code)


@pytest.mark.parametrize("ones", range(8))
def test_padding_is_less_than_a_byte_of_ones(ones):
    text = {(8 - 5 * count % 8) % 8: b"0" * count for count in range(1, 9)}[ones]  # five bits each
    assert encode(text)[-1] & ((1 << ones) - 1) == (1 << ones) - 1
    assert decode(encode(text)) == text
