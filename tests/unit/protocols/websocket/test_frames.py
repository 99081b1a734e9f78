"""Frames: bytes that RFC 6455 has in its examples, each that must not come, and any sequence in any split."""

from __future__ import annotations

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.websocket import frames
from palfrey.protocols.websocket.codes import Close, WebSocketError
from palfrey.protocols.websocket.deflate import MAX_ENDS, Inflater, Terms
from palfrey.protocols.websocket.frames import FrameReader, close_payload, header, read_close
from tests.corpus.frames import MAX_FRAMES, MAX_SIZE, REFUSED
from tests.support.frames import (
    BINARY,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    deflated,
    fragments,
    frame,
    masked,
    one_by_one,
    text,
)
from tests.support.frames import close as close_frame
from tests.support.properties import examples


class Found:
    """A sink that notes what it is told, and how the stream ended."""

    def __init__(self, max_size: int = MAX_SIZE, max_frames: int = MAX_FRAMES, terms: Terms | None = None) -> None:
        self.events: list[tuple] = []
        self.reader = FrameReader(self, max_size, max_frames, Inflater(terms) if terms is not None else None)

    def on_message(self, data):
        assert type(data) in (str, bytes)
        self.events.append(("message", data))

    def on_ping(self, payload):
        assert type(payload) is bytes
        self.events.append(("ping", payload))

    def on_pong(self, payload):
        self.events.append(("pong", payload))

    def on_close(self, code, reason):
        self.events.append(("close", code, reason))

    def feed(self, *pieces: bytes) -> list[tuple]:
        """What came of it, an error last."""
        for piece in pieces:
            try:
                self.reader.feed(piece)
            except WebSocketError as error:
                self.events.append(("error", error.code, error.reason))
        return self.events


def read(raw: bytes, **limits) -> list[tuple]:
    """What comes of these bytes: whole, a frame at a time, a byte at a time, and with more behind them once they have
    ended it."""
    whole = Found(**limits).feed(raw)
    single = Found(**limits).feed(*(raw[at : at + 1] for at in range(len(raw))))
    assert single == whole
    assert Found(**limits).feed(*one_by_one(raw)) == whole
    if whole and whole[-1][0] in ("error", "close"):
        behind = text("behind it") + close_frame(1001) + b"\xff" * 20
        assert Found(**limits).feed(raw + behind) == whole
        assert Found(**limits).feed(raw, behind) == whole
    return whole


# What there is --------------------------------------------------------------------------------------------------------


def test_the_examples_of_section_5_7():
    assert read(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [("message", "Hello")]
    assert read(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [("pong", b"Hello")]
    assert read(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [("ping", b"Hello")]
    assert header(0x82, 256) == b"\x82\x7e\x01\x00"
    assert header(0x82, 65536) == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"
    assert header(0x81, 5) + b"Hello" == b"\x81\x05Hello"
    assert header(0x8A, 5) + b"Hello" == b"\x8a\x05Hello"


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 124, 125, 126, 127, 128, 1000, 65535, 65536, 65537, 70001])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_every_form_of_length(opcode, length):
    payload = bytes(range(97, 123)) * 3000
    payload = payload[:length]
    expected = payload.decode() if opcode == TEXT else payload
    raw = frame(opcode, payload)
    assert Found().feed(raw) == [("message", expected)]
    for cut in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17, len(raw) - 1):
        assert Found().feed(raw[:cut], raw[cut:] + text("next")) == [("message", expected), ("message", "next")], cut
    half = payload[: length // 2], payload[length // 2 :]
    assert Found().feed(fragments(opcode, *half)) == [("message", expected)]


def test_what_the_server_frames_has_the_shortest_form():
    assert header(0x82, 125) == b"\x82\x7d"
    assert header(0x82, 126) == b"\x82\x7e\x00\x7e"
    assert header(0x82, 65535) == b"\x82\x7e\xff\xff"


def test_fragments_of_every_shape():
    assert read(fragments(TEXT, b"a", b"", b"b", b"")) == [("message", "ab")]
    assert read(fragments(TEXT, b"", b"", b"")) == [("message", "")]
    assert read(fragments(BINARY, b"", b"")) == [("message", b"")]
    assert read(frame(TEXT) + frame(BINARY)) == [("message", ""), ("message", b"")]
    assert read(fragments(TEXT, "ä".encode()[:1], "ä".encode()[1:])) == [("message", "ä")]
    assert read(fragments(TEXT, *(bytes((byte,)) for byte in "€𐍈ä".encode()))) == [("message", "€𐍈ä")]


def test_control_frames_come_between_fragments():
    raw = frame(TEXT, b"a", fin=False) + frame(PING, b"1") + frame(CONTINUATION, b"b", fin=False)
    raw += frame(PONG) + frame(CONTINUATION, b"c") + frame(PING, b"x" * 125)
    assert read(raw) == [("ping", b"1"), ("pong", b""), ("message", "abc"), ("ping", b"x" * 125)]
    # A close frame too: the message is never whole then.
    assert read(frame(TEXT, b"a", fin=False) + close_frame(1001, "off")) == [("close", 1001, "off")]


def test_a_message_of_more_parts_than_are_kept_apart():
    parts = [b"%d," % number for number in range(3 * frames.MANY)]
    for opcode, expected in ((TEXT, b"".join(parts).decode()), (BINARY, b"".join(parts))):
        assert Found(max_frames=0).feed(fragments(opcode, *parts)) == [("message", expected)]


def test_masks_go_on_over_the_parts_of_a_frame():
    payload = bytes(range(256)) * 300
    raw = frame(BINARY, payload, mask=b"\x01\x02\x03\x04")
    for step in (1, 2, 3, 5, 4096, 4097, 4099):
        pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
        assert Found().feed(*pieces) == [("message", payload)], step


def test_a_read_that_looks_like_a_frame_in_the_middle_of_one():
    inner = text("Hello")
    # A payload's part.
    payload = masked(inner, MASK)
    assert Found().feed(frame(BINARY, payload)[:6], inner) == [("message", payload)]
    assert Found().feed(frame(BINARY, b"abcd" + payload)[:10], inner) == [("message", b"abcd" + payload)]
    # The rest of a header: the length is 0x8185, and so forth.
    found = Found()
    assert found.feed(b"\x82\xfe", inner) == []
    assert found.feed(bytes(0x8185 - 5)) == [("message", masked(inner[6:] + bytes(0x8185 - 5), inner[2:6]))]
    # Behind the end.
    assert [event[0] for event in Found().feed(close_frame(), inner)] == ["close"]
    assert [event[0] for event in Found().feed(frame(TEXT, b"\xff"), inner)] == ["error"]
    assert [event[0] for event in Found().feed(frame(3), inner)] == ["error"]


# What must not be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_each_violation_has_its_code(name):
    raw, code = REFUSED[name]
    *before, (kind, found, reason) = read(raw)
    assert (kind, found, before) == ("error", code, [])
    assert reason
    # Behind what is good, which is told first.
    behind = read(text("good") + frame(PING, b"1") + raw)
    assert [event[0] for event in behind] == ["message", "ping", "error"]


def test_what_is_wrong_is_seen_as_early_as_it_can_be():
    """Not when the payload, or even the length, has come."""
    for raw in (b"\x81\x05", b"\xc1\xfe", b"\x83\x80", b"\x09\x80", b"\x89\xfe", b"\x80\x81", b"\x80\xff"):
        assert [event[0] for event in Found().feed(raw)] == ["error"], raw
    # UTF-8: with the byte that cannot be mended, in the middle of a frame.
    raw = frame(TEXT, b"good\xf4\x90" + b"x" * 1000)
    assert Found().feed(raw[: 8 + 5]) == []
    assert [event[1] for event in Found().feed(raw[: 8 + 6])] == [1007]
    # Too long: with the length.
    raw = frame(BINARY, b"x" * 600, fin=False) + b"\x80\xfe\x02\x59"
    assert [event[1] for event in Found(max_size=1200).feed(raw)] == [1009]


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_the_longest_message_that_may_be_and_one_byte_more():
    for opcode in (TEXT, BINARY):
        for split in ((100,), (50, 50), (0, 100, 0), (1,) * 100):
            assert [event[0] for event in read(fragments(opcode, *(b"x" * part for part in split)), max_size=100)] == [
                "message"
            ]
        for split in ((101,), (50, 51), (100, 1), (1,) * 101):
            events = read(fragments(opcode, *(b"x" * part for part in split)), max_size=100, max_frames=0)
            assert [event[:2] for event in events] == [("error", 1009)]


def test_bounds_are_of_each_message():
    raw = fragments(TEXT, b"x" * 60, b"x" * 40) * 5 + frame(BINARY, b"x" * 100) * 5
    assert [event[0] for event in read(raw, max_size=100, max_frames=2)] == ["message"] * 10


def test_no_bounds():
    raw = fragments(BINARY, *[b"x" * 1000] * 2000)
    assert Found(max_size=0, max_frames=0).feed(raw) == [("message", b"x" * 2000000)]


# Compressed -----------------------------------------------------------------------------------------------------------

TERMS = Terms()


def test_the_examples_of_rfc_7692():
    """Section 7.2.3: one frame, two fragments, a message that refers to the last, no compression, a final block, two
    blocks."""
    raw = frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4)
    raw += frame(TEXT, b"\xf2\x48\xcd", rsv=4, fin=False) + frame(CONTINUATION, b"\xc9\xc9\x07\x00")
    assert read(raw, terms=TERMS) == [("message", "Hello")] * 2
    raw = frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4) + frame(TEXT, b"\xf2\x00\x11\x00\x00", rsv=4)
    assert read(raw, terms=TERMS) == [("message", "Hello")] * 2
    assert read(frame(TEXT, b"\x00\x05\x00\xfa\xffHello\x00", rsv=4), terms=TERMS) == [("message", "Hello")]
    assert read(frame(TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", rsv=4), terms=TERMS) == [("message", "Hello")]
    raw = frame(TEXT, b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", rsv=4)
    assert read(raw, terms=TERMS) == [("message", "Hello")]


def test_compressed_messages_among_others():
    raw = text("plain") + frame(TEXT, deflated("gepreßt".encode()), rsv=4) + frame(PING, b"1")
    raw += fragments(BINARY, *(bytes((byte,)) for byte in deflated(b"x" * 1000)), rsv=4) + frame(BINARY, b"plain")
    assert read(raw, terms=TERMS) == [
        *(("message", "plain"), ("message", "gepreßt"), ("ping", b"1"), ("message", b"x" * 1000)),
        ("message", b"plain"),
    ]


def test_compressed_messages_that_are_wrong():
    for payload, code in (
        (b"\xff\xff", 1007),
        (deflated(b"\xff"), 1007),
        (deflated("ä".encode()[:1]), 1007),
        (deflated(b"x" * (MAX_SIZE + 1)), 1009),
    ):
        events = read(frame(TEXT, payload, rsv=4), terms=TERMS)
        assert [event[:2] for event in events] == [("error", code)], payload[:20]


def test_a_bomb_is_stopped_while_it_inflates(monkeypatch):
    """A megabyte of zeros a kilobyte; what would exceed the bound never becomes bytes."""
    most = 0
    feed = Inflater.feed

    def watched(self, data, last, limit):
        nonlocal most
        inflated = feed(self, data, last, limit)
        most = max(most, len(inflated))
        return inflated

    monkeypatch.setattr(Inflater, "feed", watched)
    bomb = deflated(bytes(1 << 26))
    assert len(bomb) < 70000
    assert [event[:2] for event in Found(100000, terms=TERMS).feed(frame(BINARY, bomb, rsv=4))] == [("error", 1009)]
    halves = bytes(60000)
    stream = zlib.compressobj(wbits=-15)
    half = stream.compress(halves) + stream.flush(zlib.Z_SYNC_FLUSH)
    raw = frame(BINARY, half, rsv=4, fin=False) + frame(CONTINUATION, deflated(halves, stream))
    assert Found(120000, terms=TERMS).feed(raw) == [("message", bytes(120000))]
    most = 0
    events = Found(119999, terms=TERMS).feed(raw)
    assert [event[:2] for event in events] == [("error", 1009)]
    assert most <= 60000


def test_final_blocks_without_end_are_refused():
    """Each costs a new stream and a copy of what is behind it: 60,000 of them in a small frame would be a weapon."""
    final = b"\x03\x00"
    some = b"\xf3\x48\xcd\xc9\xc9\x07\x00"
    assert read(frame(TEXT, some * 10 + b"\x00", rsv=4) * 2, terms=TERMS) == [("message", "Hello" * 10)] * 2
    for payload in (final * 30000, some * 9000, final * (MAX_ENDS + 1)):
        events = Found(terms=TERMS).feed(fragments(TEXT, payload[:50], payload[50:], rsv=4))
        assert [event[:2] for event in events] == [("error", 1007)]
    raw = frame(TEXT, final * MAX_ENDS + b"\x00", rsv=4)
    assert Found(terms=TERMS).feed(raw * 3) == [("message", "")] * 3


# Close frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_codes_that_a_client_may_close_with(code):
    assert read(close_frame(code, "because ä")) == [("close", code, "because ä")]
    assert read_close(close_payload(code, "because ä")) == (code, "because ä")


def test_a_close_frame_without_a_code():
    assert read(close_frame(None)) == [("close", Close.NO_STATUS, "")]
    assert close_payload(Close.NO_STATUS, "unsaid") == b""


def test_a_reason_is_cut_between_characters():
    payload = close_payload(1000, "ä" * 100)
    assert len(payload) == 124
    assert read_close(payload) == (1000, "ä" * 61)
    assert read_close(close_payload(1000, "x" * 200)) == (1000, "x" * 123)
    assert read_close(close_payload(1000, "a\ud800b")) == (1000, "a?b")


# Any of it ------------------------------------------------------------------------------------------------------------

WORDS = st.text(max_size=200).map(str.encode)
SHORT = st.binary(max_size=125)
MASKS = st.sampled_from([MASK, b"\x00\x00\x00\x00", b"\xff\x00\xff\x00"])


@st.composite
def messages(draw):
    """One message in one to five frames with control frames between them -> bytes, and the events."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(st.one_of(WORDS, st.integers(120, 70000).map(lambda size: b"z" * size)))
    compressed = draw(st.booleans())
    event = ("message", payload.decode() if opcode == TEXT else payload)
    if compressed:
        payload = deflated(payload)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts = [payload[start:end] for start, end in itertools.pairwise([0, *cuts, len(payload)])]
    raw, events = b"", []
    for number, part in enumerate(parts):
        for opcode_, between in draw(st.lists(st.tuples(st.sampled_from([PING, PONG]), SHORT), max_size=2)):
            raw += frame(opcode_, between, mask=draw(MASKS))
            events.append(("ping" if opcode_ == PING else "pong", between))
        raw += frame(
            CONTINUATION if number else opcode,
            part,
            fin=number == len(parts) - 1,
            rsv=4 if compressed and not number else 0,
            mask=draw(MASKS),
        )
    return raw, [*events, event]


ENDS = st.one_of(
    st.just((b"", [])),
    st.just((close_frame(1001, "off"), [("close", 1001, "off")])),
    st.sampled_from([(raw, [("error", code)]) for raw, code in REFUSED.values() if len(raw) < 200 and raw[0] != 0xC1]),
)


@examples(300)
@given(st.lists(messages(), max_size=6), ENDS, st.lists(st.integers(0, 1 << 20), max_size=20))
def test_any_split_of_any_sequence_gives_the_same_events(sequence, end, places):
    raw = b"".join(part for part, _ in sequence) + end[0]
    expected = [event for _, events in sequence for event in events] + end[1]
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    found = Found(terms=Terms(their_takeover=False)).feed(*(raw[a:b] for a, b in itertools.pairwise(edges)))
    assert [event[:2] if event[0] == "error" else event for event in found] == expected


@examples(300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([raw for raw, _ in REFUSED.values() if len(raw) < 300]),
            st.builds(frame, st.integers(0, 15), SHORT, fin=st.booleans(), rsv=st.sampled_from([0, 0, 0, 1, 2, 4])),
        ),
        max_size=10,
    ).map(b"".join),
    st.lists(st.integers(0, 4000), max_size=12),
    st.booleans(),
)
def test_anything_gives_the_same_events_whatever_the_split(raw, places, deflate):
    terms = TERMS if deflate else None
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    whole = Found(1000, 5, terms).feed(raw)
    assert Found(1000, 5, terms).feed(*(raw[a:b] for a, b in itertools.pairwise(edges))) == whole
    assert [event[0] for event in whole].count("error") <= 1
