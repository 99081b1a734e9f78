"""Our encoder against hpack's decoder, and the other way round, over whole connections."""

from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.decoder import Decoder
from palfrey.protocols.http2.encoder import Encoder, literal
from tests.support.properties import examples

NAMES = st.sampled_from([b":path", b":method", b"cookie", b"content-length", b"x-a", b"x-b"]) | st.binary(max_size=20)
VALUES = (
    st.sampled_from([b"", b"GET", b"/", b"x" * 1000, b"\xff" * 5000])
    | st.binary(max_size=200)
    | st.text("abc/019-", max_size=80).map(str.encode)
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
SIZES = st.lists(st.sampled_from([0, 31, 60, 200, 1000, 4096, 9999]), max_size=3)
BLOCKS = st.lists(st.tuples(FIELDS, SIZES, st.booleans()), min_size=1, max_size=8)


@examples(150)
@given(BLOCKS, st.randoms(use_true_random=False))
def test_hpack_reads_what_we_write(blocks, random):
    encoder, decoder = Encoder(), hpack.Decoder()
    for fields, sizes, never in blocks:
        for size in sizes:
            encoder.resize(size)
        # As often as not a block says again what it said.
        said = fields + random.sample(fields, len(fields) // 2)
        block = encoder.begin()
        for field in said:
            block += encoder.indexed(field) or (
                literal(field, never) if random.random() < 0.3 else encoder.insert(field)
            )
        assert [tuple(field) for field in decoder.decode(block, raw=True)] == said


@examples(150)
@given(BLOCKS)
def test_we_read_what_hpack_writes(blocks):
    encoder, decoder = hpack.Encoder(), Decoder()
    for fields, sizes, huffman in blocks:
        for size in sizes[-1:]:
            encoder.header_table_size = min(size, 4096)
        said = fields + fields[::2]
        assert decoder.decode(encoder.encode(said, huffman=huffman)) == (said, True)
        lead, at = decoder.lead(block := encoder.encode(said, huffman=huffman))
        assert lead + decoder.decode(block, at)[0] == said
