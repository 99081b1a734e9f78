"""permessage-deflate: what is agreed upon, and the two streams."""

from __future__ import annotations

import itertools
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.websocket.codes import WebSocketError
from palfrey.protocols.websocket.deflate import TAIL, Deflater, Inflater, Terms, agree
from tests.support.frames import deflated
from tests.support.properties import examples

PLAIN = Terms()
SMALL = Terms(our_bits=12, their_bits=12)
FORGETFUL = Terms(our_takeover=False, their_takeover=False)

OFFERS = {
    "": "",
    "client_max_window_bits": "",
    "client_max_window_bits=15": "",
    "client_max_window_bits=10": "client_max_window_bits=10",
    "client_max_window_bits=8": "client_max_window_bits=8",
    "server_max_window_bits=15": "",
    "server_max_window_bits=9": "server_max_window_bits=9",
    "server_no_context_takeover": "server_no_context_takeover",
    "client_no_context_takeover": "client_no_context_takeover",
    "server_no_context_takeover client_max_window_bits=9 server_max_window_bits=10 client_no_context_takeover": (
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=9"
    ),
}

DECLINED = [
    *("server_max_window_bits", "server_max_window_bits=8", "server_max_window_bits=16", "server_max_window_bits=7"),
    *(
        "server_max_window_bits=",
        "server_max_window_bits=09",
        "server_max_window_bits=+9",
        "server_max_window_bits=1e1",
    ),
    *("client_max_window_bits=16", "client_max_window_bits=7", "client_max_window_bits=", "client_max_window_bits=x"),
    *(
        "server_no_context_takeover=1",
        "client_no_context_takeover=",
        "unknown",
        "unknown=1",
        "client_max_window_bits=٩",
    ),
]


def offer(words: str) -> dict[str, str | None]:
    parts = (part.partition("=") for part in words.split())
    return {name: value if equals else None for name, equals, value in parts}


def answer(terms: Terms | None) -> str:
    assert terms is not None
    name, _, rest = terms.answer.partition("; ")
    assert name == "permessage-deflate"
    return rest


@pytest.mark.parametrize("words", OFFERS)
def test_offers_that_are_taken(words):
    assert answer(agree([offer(words)], PLAIN)) == OFFERS[words]


@pytest.mark.parametrize("words", DECLINED)
def test_offers_that_are_declined(words):
    assert agree([offer(words)], PLAIN) is None
    # The next one counts then (RFC 7692 section 5.1), and the first that can be taken.
    terms = agree([offer(words), offer("server_max_window_bits=10"), offer("")], PLAIN)
    assert answer(terms) == "server_max_window_bits=10"


def test_no_offer():
    assert agree([], PLAIN) is None


def test_what_the_settings_want():
    assert answer(agree([offer("")], SMALL)) == "server_max_window_bits=12"
    terms = agree([offer("client_max_window_bits")], SMALL)
    assert answer(terms) == "server_max_window_bits=12; client_max_window_bits=12"
    assert (terms.our_bits, terms.their_bits) == (12, 12)
    # A client that does not say that it can be told must not be (section 7.1.2.2).
    assert agree([offer("")], SMALL).their_bits == 15
    assert answer(agree([offer("client_max_window_bits=10 server_max_window_bits=14")], SMALL)) == (
        "server_max_window_bits=12; client_max_window_bits=10"
    )
    assert answer(agree([offer("")], FORGETFUL)) == "server_no_context_takeover; client_no_context_takeover"


def test_a_window_of_8_is_inflated_with_9():
    terms = agree([offer("client_max_window_bits=8")], PLAIN)
    assert terms.their_bits == 9
    stream = zlib.compressobj(wbits=-9)
    assert Inflater(terms).feed(deflated(b"x" * 1000, stream), True, 1000) == b"x" * 1000


MESSAGES = st.lists(st.one_of(st.binary(max_size=300), st.sampled_from([b"abc" * 3000, b"", b"\x00\x00\xff\xff"])))


@examples(100)
@given(MESSAGES, st.sampled_from([PLAIN, SMALL, FORGETFUL, Terms(our_bits=9)]))
def test_what_is_deflated_is_read_by_zlib(messages, terms):
    ours = Deflater(terms)
    theirs = zlib.decompressobj(-terms.our_bits)
    for message in messages:
        if not terms.our_takeover:
            theirs = zlib.decompressobj(-terms.our_bits)
        assert theirs.decompress(ours.whole(message) + TAIL) == message
        assert not theirs.unused_data


@examples(100)
@given(MESSAGES, st.booleans(), st.lists(st.integers(0, 9999), max_size=5))
def test_what_zlib_has_deflated_is_inflated_in_any_parts(messages, takeover, places):
    ours = Inflater(Terms(their_takeover=takeover))
    stream = zlib.compressobj(wbits=-15)
    for message in messages:
        if not takeover:
            stream = zlib.compressobj(wbits=-15)
        data = deflated(message, stream) if message else b"\x00"
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        room, found = len(message), b""
        for start, end in itertools.pairwise(edges):
            found += ours.feed(data[start:end], False, room - len(found))
        assert found + ours.feed(b"", True, room - len(found)) == message


@pytest.mark.parametrize("size", [1, 2, 100, 65536, 1000000])
def test_the_bound_is_exact(size):
    data = deflated(b"x" * size)
    assert Inflater(PLAIN).feed(data, True, size) == b"x" * size
    with pytest.raises(WebSocketError, match="too big"):
        Inflater(PLAIN).feed(data, True, size - 1)
    assert Inflater(PLAIN).feed(deflated(b"x") if not size else b"\x00", True, 0) == b""


def test_without_takeover_nothing_is_kept():
    ours = Deflater(FORGETFUL)
    assert ours.whole(b"hello" * 50) == ours.whole(b"hello" * 50)
    assert ours._stream is None
    theirs = Inflater(FORGETFUL)
    theirs.feed(deflated(b"hello" * 50), True, 1000)
    assert theirs._stream is None
    keeping = Deflater(PLAIN)
    assert len(keeping.whole(b"hello world, it is me")) > len(keeping.whole(b"hello world, it is me"))


def test_a_window_larger_than_agreed_is_damage():
    """A message that refers to what this side does not keep any more."""
    words = random.Random(1).randbytes(5000)
    for bits, kept in ((15, True), (9, False)):
        theirs, ours = zlib.compressobj(wbits=-15), Inflater(Terms(their_bits=bits))
        assert ours.feed(deflated(words, theirs), True, 10000) == words
        again = deflated(words[:1000], theirs)
        assert len(again) < 100
        if kept:
            assert ours.feed(again, True, 10000) == words[:1000]
        else:
            with pytest.raises(WebSocketError, match="damaged"):
                ours.feed(again, True, 10000)
