"""Fields -> header blocks, as RFC 7541's examples have them, and the table that the peer is told to keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.decoder import Decoder
from palfrey.protocols.http2.encoder import Encoder, literal, plain
from tests.support.properties import examples
from tests.support.rfc7541 import REPRESENTATIONS, RESPONSE_TABLE, SEQUENCES

A, B, C = (b"a", b"1"), (b"b", b"2"), (b"c", b"3")
UPDATE_4096 = b"\x3f\xe1\x1f"


@pytest.fixture
def encoder():
    return Encoder()


def block(encoder: Encoder, fields: list[tuple[bytes, bytes]]) -> bytes:
    """All of them in the table."""
    return encoder.begin() + b"".join(encoder.indexed(field) or encoder.insert(field) for field in fields)


class TestExamples:
    def test_requests_in_huffman_code(self, encoder):
        for digits, fields, _ in SEQUENCES["C.4"]:
            assert block(encoder, fields) == bytes.fromhex(digits)

    def test_responses_in_huffman_code(self):
        """But for "307", which is as short in plain text; the RFC codes it nevertheless."""
        encoder = Encoder(RESPONSE_TABLE)
        assert encoder.begin() == b"\x3f\xe1\x01"
        for digits, fields, _ in SEQUENCES["C.6"]:
            expected = bytes.fromhex(digits).replace(bytes.fromhex("4883 640eff"), b"\x48\x03307")
            assert block(encoder, fields) == expected

    def test_literals(self):
        assert literal((b":path", b"/sample/path")) == b"\x04\x89" + bytes.fromhex("6103a6ba0ac5634cff")
        digits, [field], _ = REPRESENTATIONS["C.2.3"]
        assert Decoder().decode(literal(field, never=True))[0] == Decoder().decode(bytes.fromhex(digits))[0]
        assert literal(field, never=True)[0] == 0x10

    @pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 256, 20_000])
    def test_strings_of_all_lengths_in_both_forms(self, length):
        for value in (b"x" * length, b"\xff" * length):
            start = literal((b"a", b""))[:-1]
            assert Decoder().decode(literal((b"a", value)) + start + plain(value))[0] == [(b"a", value)] * 2
        assert len(plain(b"x" * length)) >= len(literal((b"a", b"x" * length))) - len(start)


class TestIndexed:
    def test_what_is_in_neither_table(self, encoder):
        assert encoder.indexed(A) is None
        assert encoder.indexed((b":status", b"201")) is None
        assert encoder.indexed((b"server", b"x")) is None

    def test_what_is_in_the_static_table(self, encoder):
        assert encoder.indexed((b":status", b"200")) == b"\x88"
        assert encoder.indexed((b"accept-encoding", b"gzip, deflate")) == b"\x90"
        assert encoder.indexed((b"server", b"")) == b"\xb6"

    def test_the_newest_is_62(self, encoder):
        encoder.insert(A)
        encoder.insert(B)
        assert encoder.indexed(B) == b"\xbe"
        assert encoder.indexed(A) == b"\xbf"

    def test_up_to_the_last_that_there_can_be(self, encoder):
        """Entries of two bytes and their overhead: 120 of them."""
        decoder = Decoder()
        pairs = [(bytes((65 + number // 16,)), bytes((65 + number % 16,))) for number in range(121)]
        decoder.decode(b"".join(map(encoder.insert, pairs)))
        assert encoder.indexed(pairs[0]) is None
        for pair in pairs[1:]:
            assert decoder.decode(encoder.indexed(pair))[0] == [pair]

    def test_fields_of_nothing_at_all(self):
        encoder = Encoder()
        for _ in range(200):
            encoder.insert((b"", b""))
        assert encoder.indexed((b"", b"")) == b"\xbe"


class TestInsert:
    def test_the_oldest_give_way(self, encoder):
        for number in b"123":
            encoder.insert((b"a", bytes((number,)) * 2000))
        assert encoder.indexed((b"a", b"1" * 2000)) is None
        assert encoder.indexed((b"a", b"2" * 2000)) == b"\xbf"

    def test_one_that_is_in_the_table_already(self, encoder):
        encoder.insert(A)
        encoder.insert((b"b", b"x" * 2000))
        encoder.insert(A)
        encoder.insert((b"c", b"x" * 2000))  # the first gives way, and the second is still there
        assert encoder.indexed(A) == b"\xbf"

    def test_one_that_does_not_fit_leaves_the_table_alone(self, encoder):
        encoder.insert(A)
        version = encoder.version
        large = (b"b", b"x" * (4096 - 32))
        assert encoder.insert(large) == literal(large)
        assert encoder.indexed(A) == b"\xbe"
        assert encoder.version == version

    def test_one_that_fits_exactly(self, encoder):
        large = (b"b", b"x" * (4096 - 33))
        encoder.insert(A)
        encoder.insert(large)
        assert encoder.indexed(A) is None
        assert encoder.indexed(large) == b"\xbe"


class TestVersion:
    def test_grows_with_each_insertion(self, encoder):
        encoder.insert(A)
        before = encoder.version
        encoder.insert(B)
        assert encoder.version > before

    def test_grows_when_a_smaller_table_evicts(self, encoder):
        encoder.insert(A)
        before = encoder.version
        encoder.resize(0)
        assert encoder.version > before
        assert encoder.indexed(A) is None

    def test_stays_otherwise(self, encoder):
        encoder.insert(A)
        before = encoder.version
        encoder.indexed(A)
        literal(B)
        encoder.resize(2000)
        encoder.begin()
        assert encoder.version == before


class TestResize:
    """SETTINGS_HEADER_TABLE_SIZE, and what the next block says about it (section 4.2)."""

    def test_nothing_is_said_of_what_was_agreed_upon(self, encoder):
        assert encoder.begin() == b""
        encoder.resize(4096)
        assert encoder.begin() == b""

    def test_no_more_is_taken_than_we_want(self, encoder):
        encoder.resize(1 << 31)
        assert encoder.begin() == b""
        encoder = Encoder(1 << 31)
        encoder.resize(1 << 31)
        assert encoder.begin() == b""

    def test_a_smaller_table_is_announced_once(self, encoder):
        encoder.resize(30)
        assert encoder.begin() == b"\x3e"
        assert encoder.begin() == b""
        assert encoder.insert(A) == literal(A)

    def test_the_lowest_and_the_last(self, encoder):
        for size in (1000, 0, 5000):
            encoder.resize(size)
        assert encoder.begin() == b"\x20" + UPDATE_4096
        assert encoder.begin() == b""

    def test_there_and_back_again_is_said_too(self, encoder):
        """The peer has emptied its table in between."""
        encoder.insert(A)
        encoder.resize(0)
        encoder.resize(4096)
        assert encoder.begin() == b"\x20" + UPDATE_4096
        assert encoder.indexed(A) is None

    def test_a_larger_one_afterwards(self, encoder):
        encoder.resize(0)
        assert encoder.begin() == b"\x20"
        encoder.resize(100)
        assert encoder.begin() == b"\x3f\x45"
        encoder.insert(A)
        assert encoder.indexed(A) == b"\xbe"


@examples(200)
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 3), st.integers(0, 120))))
def test_the_peers_table_stays_in_step(steps):
    """Whatever is inserted, indexed and resized, with a table of no more than three entries."""
    encoder, decoder = Encoder(100), Decoder(100)
    for pair, way, size in steps:
        if not way:
            encoder.resize(size)
        out = encoder.begin()
        out += literal(pair) if way == 1 else encoder.indexed(pair) or encoder.insert(pair)
        assert decoder.decode(out) == ([pair], True)
        for known in (A, B, C):
            index = encoder.indexed(known)
            assert index is None or decoder.decode(index)[0] == [known]
