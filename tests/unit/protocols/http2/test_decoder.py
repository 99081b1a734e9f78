"""Header blocks -> fields: RFC 7541's examples, its errors, and the bounds."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2 import decoder as module
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode
from palfrey.protocols.http2.decoder import REMEMBERED_STRINGS, STRETCH, STRING_LENGTH, Decoder, section_size
from palfrey.protocols.http2.encoder import literal
from palfrey.protocols.http2.huffman import encode
from palfrey.protocols.http2.static import FIRST_DYNAMIC, STATIC
from tests.support.properties import examples
from tests.support.rfc7541 import REPRESENTATIONS, RESPONSE_TABLE, SEQUENCES

A, B, C = (b"a", b"1"), (b"b", b"2"), (b"c", b"3")
INSERT_A, INSERT_B = b"\x40\x01a\x011", b"\x40\x01b\x012"


@pytest.fixture
def decoder():
    return Decoder()


@pytest.fixture(autouse=True)
def strings(monkeypatch):
    """The worker's memory, empty at first."""
    memory: dict[bytes, bytes] = {}
    monkeypatch.setattr(module, "_strings", memory)
    return memory


def table(decoder: Decoder) -> list[tuple[bytes, bytes]]:
    """The dynamic table, newest first, as a client could see it."""
    fields = []
    while True:
        try:
            fields += decoder.decode(bytes((0x80 | FIRST_DYNAMIC + len(fields),)))[0]
        except ConnectionFault:
            return fields


def integer(form: int, prefix: int, value: int) -> bytes:
    """Section 5.1, with the pseudocode's steps."""
    if value < prefix:
        return bytes((form | value,))
    out, value = [form | prefix], value - prefix
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


def refused(block: bytes, decoder: Decoder | None = None) -> str:
    """The reason. A decoder of its own is also asked for the lead first."""
    with pytest.raises(ConnectionFault) as fault:
        (decoder or Decoder()).decode(block)
    assert fault.value.code is ErrorCode.COMPRESSION_ERROR
    if decoder is None:
        with pytest.raises(ConnectionFault):
            in_halves(Decoder(), block)
    return fault.value.reason


def in_halves(decoder: Decoder, block: bytes) -> list[tuple[bytes, bytes]]:
    lead, at = decoder.lead(block)
    return lead + decoder.decode(block, at)[0]


class TestExamples:
    @pytest.mark.parametrize("decode", [lambda decoder, block: decoder.decode(block)[0], in_halves])
    @pytest.mark.parametrize("name", REPRESENTATIONS)
    def test_a_representation(self, name, decode, decoder):
        block, fields, entries = REPRESENTATIONS[name]
        assert decode(decoder, bytes.fromhex(block)) == fields
        assert table(decoder) == entries

    @pytest.mark.parametrize("decode", [lambda decoder, block: decoder.decode(block)[0], in_halves])
    @pytest.mark.parametrize("name", SEQUENCES)
    def test_blocks_in_their_order(self, name, decode):
        decoder = Decoder(RESPONSE_TABLE if name in ("C.5", "C.6") else 4096)
        for block, fields, entries in SEQUENCES[name]:
            assert decode(decoder, bytes.fromhex(block)) == fields
            assert table(decoder) == entries


class TestFields:
    def test_the_static_table_whole(self, decoder):
        assert decoder.decode(bytes(range(0x81, 0xBE))) == (STATIC[1:], True)

    def test_nothing(self, decoder):
        assert decoder.decode(b"") == ([], True)
        assert decoder.lead(b"") == ([], 0)

    def test_an_indexed_field_is_the_same_object_each_time(self, decoder):
        decoder.decode(INSERT_A)
        (first, get), _ = decoder.decode(b"\xbe\x82")
        (again, also), _ = decoder.decode(b"\xbe\x82")
        assert first is again
        assert get is also is STATIC[2]

    def test_an_index_of_two_bytes(self, decoder):
        names = [b"%d" % number for number in range(70)]
        decoder.decode(b"".join(b"\x40" + bytes((len(name),)) + name + b"\x00" for name in names))
        # 62 is the newest, "69"; 127 is the first that needs a second byte, and 131 the oldest
        assert decoder.decode(b"\xfe\xff\x00\xff\x04") == ([(b"5", b""), (b"4", b""), (b"0", b"")], True)
        assert refused(b"\xff\x05", decoder) == "an index beyond the tables"

    @pytest.mark.parametrize("form", [0x00, 0x10, 0x40])
    def test_a_name_from_either_table(self, form, decoder):
        decoder.decode(INSERT_A)
        prefix = 0x3F if form == 0x40 else 0x0F
        block = integer(form, prefix, 62) + b"\x012" + integer(form, prefix, 16) + b"\x013"
        assert decoder.decode(block) == ([(b"a", b"2"), (b"accept-encoding", b"3")], True)

    def test_strings_of_all_lengths(self, decoder):
        for length in (0, 1, 126, 127, 128, 254, 255, 300, 20_000):
            text = b"x" * length
            assert decoder.decode(b"\x00\x01a" + integer(0, 0x7F, length) + text)[0] == [(b"a", text)]
            code = encode(text)
            assert decoder.decode(b"\x00\x01a" + integer(0x80, 0x7F, len(code)) + code)[0] == [(b"a", text)]

    def test_only_the_second_form_is_added_to_the_table(self, decoder):
        decoder.decode(b"\x00\x01a\x011\x10\x01a\x011")
        assert table(decoder) == []
        decoder.decode(INSERT_A)
        assert table(decoder) == [A]

    def test_a_decoder_that_is_told_nothing_shares_the_static_table(self, decoder):
        decoder.decode(b"\x82\x84\x00\x01a\x011")
        assert decoder._table is STATIC
        decoder.decode(INSERT_A)
        assert len(STATIC) == FIRST_DYNAMIC


class TestLead:
    """The pseudo-header fields that a block begins with."""

    @pytest.mark.parametrize(
        ("block", "count", "at"),
        [
            (b"\x82\x87\x84", 3, 3),
            (b"\x82\x87\x84\xbe", 3, 3),  # a
            (b"\xbe\x82", 0, 0),
            (b"\xbf\xbe", 1, 1),  # :b
            (b"\x82\x04\x01/\x90", 2, 4),
            (b"\x82\x44\x01/\x90", 2, 4),
            (b"\x82\x14\x01/\x90", 2, 4),
            (b"\x82\x0f\x00\x01/", 1, 1),  # accept-charset, index 15
            (b"\x82\x0f\x30\x01/", 2, 5),  # :b, index 63
            (b"\x82\x0f\x2f\x01/", 1, 1),
            (b"\x82\x7e\x01/", 1, 1),
            (b"\x82\x7f\x00\x01/", 2, 5),
            (b"\x82\x00\x02:c\x01/", 2, 7),
            (b"\x82\x00\x02c:\x01/", 1, 1),
            (b"\x82\x00\x83\xb9\x08\xff\x01/", 2, 8),  # :a in Huffman code
            (b"\x82\x00\x82\x18\xff\x01/", 1, 1),
            (b"\x82\x00\x00\x01/", 1, 1),
            (b"\x82\x00\x00" + integer(0, 0x7F, 0x3A) + b"x" * 0x3A, 1, 1),  # a length that looks like a colon
            (b"\x82\x00" + integer(0, 0x7F, 0x7F + 0x3A) + b"x" * (0x7F + 0x3A) + b"\x00", 1, 1),
            (b"\x20\x3f\xe1\x1f\x82\x90", 1, 5),
            (b"\x20", 0, 1),
            (b"\x82" * 8 + b"\x83", 8, 8),
        ],
    )
    def test_where_it_ends(self, block, count, at, decoder):
        decoder.decode(b"\x40\x02:b\x00" + INSERT_A)
        lead, end = decoder.lead(block)
        assert (len(lead), end) == (count, at)
        assert all(name.startswith(b":") for name, _ in lead)

    def test_what_is_behind_it_has_not_been_decoded(self, decoder):
        version = decoder.version
        _, at = decoder.lead(b"\x82" + INSERT_A)
        assert decoder.version == version
        assert decoder.decode(b"\x82" + INSERT_A, at) == ([A], True)
        assert table(decoder) == [A]

    @pytest.mark.parametrize("length", [126, 127, 300])
    def test_a_long_name_is_left_to_decode_or_not(self, length, decoder):
        block = b"\x00" + integer(0, 0x7F, length) + b":" * length + b"\x00"
        assert in_halves(decoder, block) == [(b":" * length, b"")]

    @pytest.mark.parametrize("block", [b"\x04", b"\x04\x05/", b"\x00", b"\x00\x01", b"\x7f", b"\xff", b"\x80", b"\xbe"])
    def test_what_is_wrong_at_its_place(self, block, decoder):
        with pytest.raises(ConnectionFault):
            in_halves(decoder, block)


class TestTable:
    def test_the_oldest_give_way(self, decoder):
        values = [b"%d" % number * 1000 for number in range(5)]
        for value in values:
            decoder.decode(literal_inserted(b"a", value))
        assert table(decoder) == [(b"a", value) for value in (values[4], values[3], values[2])]

    def test_a_field_that_fits_exactly(self, decoder):
        decoder.decode(literal_inserted(b"a", b"x" * (4096 - 33)))
        assert len(table(decoder)) == 1
        decoder.decode(literal_inserted(b"", b""))
        assert table(decoder) == [(b"", b"")]

    def test_a_field_that_is_larger_than_the_table_empties_it(self, decoder):
        decoder.decode(INSERT_A)
        large = b"x" * (4096 - 32)
        assert decoder.decode(literal_inserted(b"b", large)) == ([(b"b", large)], True)
        assert table(decoder) == []

    def test_a_name_of_an_entry_that_gives_way_to_it(self, decoder):
        decoder.decode(literal_inserted(b"a", b"x" * 2000))
        assert decoder.decode(b"\x7e" + integer(0, 0x7F, 3000) + b"y" * 3000) == ([(b"a", b"y" * 3000)], True)
        assert table(decoder) == [(b"a", b"y" * 3000)]

    def test_a_smaller_size_evicts_and_a_larger_one_leaves_room_again(self, decoder):
        decoder.decode(INSERT_A + INSERT_B)
        decoder.decode(integer(0x20, 0x1F, 34))
        assert table(decoder) == [B]
        decoder.decode(INSERT_A)
        assert table(decoder) == [A]
        decoder.decode(b"\x20" + integer(0x20, 0x1F, 4096))
        assert table(decoder) == []
        decoder.decode(INSERT_A + INSERT_B)
        assert table(decoder) == [B, A]

    def test_the_limit_that_we_have_set(self):
        decoder = Decoder(100)
        decoder.decode(integer(0x20, 0x1F, 100) + INSERT_A * 3)
        assert table(decoder) == [A, A]
        assert refused(integer(0x20, 0x1F, 101), decoder) == "a table size beyond our limit"

    def test_more_than_the_default_has_to_be_asked_for(self):
        decoder = Decoder(8192)
        decoder.decode(literal_inserted(b"a", b"x" * 4000) + literal_inserted(b"b", b"x" * 4000))
        assert len(table(decoder)) == 1
        decoder.decode(integer(0x20, 0x1F, 8192) + literal_inserted(b"a", b"x" * 4000))
        assert len(table(decoder)) == 2


class TestVersion:
    @pytest.mark.parametrize("block", [b"\x82\xbe", b"\x00\x01a\x011", b"\x10\x01a\x011", b"\x04\x01/", b""])
    def test_what_leaves_the_table_alone(self, block, decoder):
        decoder.decode(INSERT_A)
        version = decoder.version
        in_halves(decoder, block)
        assert decoder.version == version

    @pytest.mark.parametrize("block", [INSERT_B, INSERT_A, b"\x44\x01/", b"\x20", b"\x3f\xe1\x1f"])
    def test_what_changes_it(self, block, decoder):
        """A size that stays the same counts: the block is not to be remembered as one that does nothing."""
        decoder.decode(INSERT_A)
        version = decoder.version
        in_halves(decoder, block)
        assert decoder.version > version


class TestRefused:
    @pytest.mark.parametrize("block", [b"\x80", b"\x82\x80"])
    def test_index_0(self, block):
        assert refused(block) == "index 0"

    @pytest.mark.parametrize("block", [b"\xbe", b"\xff\x00", b"\x7e\x01a", b"\x0f\x2f\x01a", b"\x82\xff\x80\x80\x01"])
    def test_an_index_beyond_the_tables(self, block):
        assert refused(block) == "an index beyond the tables"

    @pytest.mark.parametrize(
        "block", [b"\xff", b"\xff\x80", b"\x04", b"\x04\x7f", b"\x04\x02/", b"\x40\x01", b"\x40\x01a", b"\x0f", b"\x3f"]
    )
    def test_a_block_that_is_cut_short(self, block):
        assert refused(block) == "a header block that is cut short"

    def test_every_block_that_is_cut_short(self):
        for name in ("C.4", "C.6"):
            whole = bytes.fromhex(SEQUENCES[name][0][0])
            for end in range(len(whole)):
                decoder = Decoder()
                try:
                    fields, _ = decoder.decode(whole[:end])
                except ConnectionFault:
                    continue
                assert fields == SEQUENCES[name][0][1][: len(fields)]
                assert len(fields) < len(SEQUENCES[name][0][1])

    @pytest.mark.parametrize("form", [0x7F, 0xFF])
    @pytest.mark.parametrize("tail", [b"\xff\xff\xff\xff\x08", b"\x80" * 5 + b"\x00", b"\xff" * 2000, b"\xff" * 5])
    def test_an_integer_that_is_too_large(self, form, tail):
        assert refused(bytes((form,)) + tail) == "an integer that is too large"
        assert refused(b"\x04\x7f" + tail) == "an integer that is too large"

    def test_the_largest_integer_is_one(self):
        assert refused(b"\xff" + integer(0x80, 0x7F, (1 << 31) - 1)[1:]) == "an index beyond the tables"
        assert refused(b"\xff" + integer(0x80, 0x7F, 1 << 31)[1:]) == "an integer that is too large"

    def test_an_integer_with_zeros_that_it_does_not_need(self):
        assert Decoder().decode(b"\x04\x7f\x80\x80\x80\x80\x00" + b"x" * 127)[0] == [(b":path", b"x" * 127)]

    @pytest.mark.parametrize("block", [b"\x82\x20", INSERT_A + b"\x3f\xe1\x1f", b"\x04\x01/\x20", b"\x20\x82\x20"])
    def test_a_size_update_behind_the_start(self, block):
        assert refused(block) == "a table size update behind a block's start"

    def test_more_size_updates_than_two(self):
        assert refused(b"\x20\x21\x22") == "too many table sizes"

    def test_a_size_beyond_the_limit(self):
        assert refused(b"\x3f\xe2\x1f") == "a table size beyond our limit"

    @pytest.mark.parametrize(
        ("code", "reason"), [(b"\x00", "padding"), (b"\xff\xff", "padding"), (b"\xff\xff\xff\xff", "EOS")]
    )
    def test_a_bad_huffman_string(self, code, reason):
        string = bytes((0x80 | len(code),)) + code
        assert reason in refused(b"\x04" + string)
        assert reason in refused(b"\x00" + string + b"\x00")


class TestRoom:
    def test_the_size_of_a_section(self, decoder):
        fields, fits = decoder.decode(b"\x82\x87\x00\x01a\x83" + encode(b"1111"), 0)
        assert fits
        assert section_size(fields) == 42 + 44 + 37

    @pytest.mark.parametrize("block", [b"\x82" * 3, b"\x00\x07:method\x03GET" * 3, INSERT_A + b"\xbe" * 3])
    def test_to_the_byte(self, block):
        size = section_size(Decoder().decode(block)[0])
        assert Decoder().decode(block, 0, size)[1]
        assert Decoder().decode(block, 0, size - 1) == ([], False)

    def test_entries_of_earlier_blocks_count_whole(self, decoder):
        decoder.decode(literal_inserted(b"a", b"x" * 967))
        assert decoder.decode(b"\xbe" * 5, 0, 5000)[1]
        assert not decoder.decode(b"\xbe" * 5, 0, 4999)[1]

    def test_huffman_code_does_not_hide_a_size(self, decoder):
        code = encode(b"0" * 1000)
        block = b"\x00\x01a" + integer(0x80, 0x7F, len(code)) + code
        assert decoder.decode(block, 0, 1033)[1]
        assert not decoder.decode(block, 0, 1032)[1]

    def test_no_room_at_all(self, decoder):
        assert decoder.decode(b"\x82", 0, 0) == ([], False)
        assert decoder.decode(b"\x82", 0, -1) == ([], False)

    def test_once_over_it_nothing_is_collected(self, decoder):
        assert decoder.decode(b"\x82" * (STRETCH + 1), 0, 100) == ([], False)

    @pytest.mark.parametrize("place", [0, STRETCH // 4, STRETCH, 3 * STRETCH])
    def test_the_table_stays_in_step(self, place, decoder):
        block = b"\x82" * place + INSERT_A + b"\x82" * 1000 + INSERT_B
        assert decoder.decode(block, 0, 100) == ([], False)
        assert table(decoder) == [B, A]

    def test_what_is_wrong_is_refused_beyond_it_too(self, decoder):
        with pytest.raises(ConnectionFault):
            decoder.decode(b"\x82" * 1000 + b"\x80", 0, 100)

    def test_a_bomb_takes_no_memory(self, decoder):
        """An entry of 4 KB, and 64 KB of references to it: 256 MB for whoever joins or copies them, 512 KB of list."""
        decoder.decode(literal_inserted(b"a", b"x" * 4000))
        block = b"\xbe" * 65_536
        tracemalloc.start()
        try:
            fields, fits = decoder.decode(block, 0, 65_536)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert not fits
        assert fields == []
        assert peak < 2 * len(block)


class TestMemory:
    """What a worker remembers of strings."""

    def decode(self, *pairs: tuple[bytes, bytes], never: bool = False) -> None:
        assert Decoder().decode(b"".join(literal(pair, never) for pair in pairs))[0] == list(pairs)

    def test_is_of_huffman_strings(self, strings):
        self.decode((b"user-agent", b"hello hello"), (b"x-something", b"{}"))
        assert set(strings.values()) == {b"hello hello", b"x-something"}

    def test_not_of_what_may_be_secret(self, strings):
        self.decode((b"authorization", b"Basic hello"), (b"cookie", b"hello=hello"), (b"proxy-authorization", b"hello"))
        self.decode((b"x-token", b"something"), never=True)
        assert set(strings.values()) == {b"x-token"}

    def test_not_of_long_ones(self, strings):
        self.decode((b"a", b"0" * (STRING_LENGTH * 8 // 5)), (b"a", b"0" * (STRING_LENGTH * 8 // 5 + 1)))
        assert list(strings.values()) == [b"0" * (STRING_LENGTH * 8 // 5)]

    def test_has_bounds(self, strings):
        for number in range(REMEMBERED_STRINGS + 10):
            self.decode((b":path", b"/number/%d" % number))
        assert len(strings) == 10

    def test_says_the_same_the_next_time(self, strings):
        for _ in range(2):
            self.decode((b"user-agent", b"hello hello"))
        assert len(strings) == 1


def literal_inserted(name: bytes, value: bytes) -> bytes:
    return b"\x40" + integer(0, 0x7F, len(name)) + name + integer(0, 0x7F, len(value)) + value


@examples(500)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"\x82", b"\xbe", INSERT_A, b"\x20", b"\x3f\xe1\x1f"])))
def test_whatever_comes_is_decoded_or_refused(blocks):
    """No exception but one, whole or in halves; and the table keeps to its size."""
    decoder, halved = Decoder(), Decoder()
    for block in blocks:
        try:
            fields, fits = decoder.decode(block)
        except ConnectionFault:
            with pytest.raises(ConnectionFault):
                in_halves(halved, block)
            return
        assert fits
        assert in_halves(halved, block) == fields
        assert section_size(table(decoder)) <= 4096
