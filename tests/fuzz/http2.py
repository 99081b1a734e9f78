"""HTTP/2 connections that no client would make: requests as frames, spoilt, moved, cut and repeated.

A connection is written frame by frame, with several requests under way at once, by a client that is right; then some
of its frames are changed in what they say of themselves (length, type, flags, stream), in what they hold, or in their
order. Header blocks that hpack has written are what may be in a frame; most stay as they are, so that what comes
behind them is not simply out of step.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import hpack

from tests.fuzz import frames as websocket
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    WITH_PRIORITY,
    Field,
    Kind,
    Setting,
    continuation,
    data,
    dependency,
    frame,
    goaway,
    ping,
    priority,
    priority_update,
    reset,
    settings,
    split,
    window_update,
)

PATHS = ("/hello", "/echo", "/echo", "/stream", "/big", "/early", "/unread", "/silent")
"""What the application of the judge knows."""

FIELDS: list[Field] = [
    ("accept", "*/*"),
    ("accept-language", "de-DE,de;q=0.9,en;q=0.8"),
    ("cookie", "a=b"),
    ("cookie", "c=d"),
    ("user-agent", "fuzz/1 " + "long " * 30),
    ("te", "trailers"),
    ("priority", "u=1, i"),
    ("priority", "u=7"),
    ("expect", "100-continue"),
    ("authorization", "secret"),
    ("x-forwarded-for", "192.0.2.9, 198.51.100.9"),
    ("host", "palfrey.test"),
    ("x-empty", ""),
]
WRONG: list[Field] = [
    ("Upper", "a"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("te", "gzip"),
    ("host", "another.test"),
    ("content-length", "1, 2"),
    ("content-length", "+1"),
    ("content-length", "9" * 30),
    (":path", "/again"),
    (":status", "200"),
    ("x", "a\nb"),
    ("x", " a"),
    ("a b", "c"),
    ("", "nameless"),
    ("x-large", "x" * 9000),
]
SETTINGS = [
    (Setting.INITIAL_WINDOW_SIZE, 0),
    (Setting.INITIAL_WINDOW_SIZE, 10),
    (Setting.INITIAL_WINDOW_SIZE, 65535),
    (Setting.INITIAL_WINDOW_SIZE, 2**31 - 1),
    (Setting.HEADER_TABLE_SIZE, 0),
    (Setting.HEADER_TABLE_SIZE, 100),
    (Setting.HEADER_TABLE_SIZE, 4096),
    (Setting.MAX_FRAME_SIZE, 16384),
    (Setting.MAX_CONCURRENT_STREAMS, 0),
    (Setting.ENABLE_PUSH, 0),
    (Setting.NO_RFC7540_PRIORITIES, 1),
    (0x4A4A, 12345),
]


class Author:
    """Writes one connection."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._encoder = hpack.Encoder()
        self._next = 1

    def write(self) -> list[bytes]:
        """Its frames; those that must not be parted are one."""
        rng = self.rng
        if rng.random() < 0.1:
            self._encoder.header_table_size = rng.choice((0, 200, 4096))
        written = [settings(*rng.sample(SETTINGS, rng.choice((0, 0, 1, 2))))]
        under_way = [self._conversation() for _ in range(rng.choice((1, 2, 3, 5, 9)))]
        while under_way:
            chosen = rng.choice(under_way[:4])
            piece = next(chosen, None)
            if piece is None:
                under_way.remove(chosen)
            else:
                written.append(piece)
            if rng.random() < 0.25:
                written.append(self._aside())
        if rng.random() < 0.05:
            written.append(goaway(rng.randrange(9), rng.randrange(14), b"bye"))
        return written

    def _conversation(self) -> Iterator[bytes]:
        """A request's frames, each written when its turn comes."""
        rng = self.rng
        number, self._next = self._next, self._next + rng.choice((2, 2, 2, 2, 6))
        if rng.random() < 0.12:
            yield from self._websocket(number)
            return
        content = rng.randbytes(rng.choice((0, 0, 0, 1, 20, 300, 3000, 20000)))
        more: list[Field] = rng.sample(FIELDS, rng.randrange(7))
        if rng.random() < 0.5:
            more.append(("content-length", str(len(content) + (rng.random() < 0.03))))
        if rng.random() < 0.1:
            more.insert(rng.randrange(len(more) + 1), rng.choice(WRONG))
        ends = not content and rng.random() < 0.9
        path = rng.choice(PATHS) + rng.choice(("", "", "?q=1", "/%41", "?" + "x" * 40))
        start = [
            (":method", rng.choice(("GET", "POST", "HEAD", "PUT", "CONNECT" if rng.random() < 0.1 else "GET"))),
            (":scheme", rng.choice(("http", "https"))),
            (":path", path),
            (":authority", "palfrey.test"),
        ]
        if rng.random() < 0.05:
            rng.shuffle(start)
        if rng.random() < 0.05:
            del start[rng.randrange(4)]
        yield self._block(number, [*start, *more], ends)
        if ends:
            return
        for piece in self._pieces(content):
            yield self._data(number, piece, False)
        trailers = rng.random() < 0.2
        if trailers:
            yield self._block(number, [("x-trailer", "t"), *rng.choices(WRONG, k=rng.random() < 0.1)], True)
        else:
            yield self._data(number, b"", True)

    def _websocket(self, number: int) -> Iterator[bytes]:
        start = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/socket"),
            (":authority", "palfrey.test"),
            ("sec-websocket-version", "13"),
        ]
        yield self._block(number, start, False)
        for piece in self._pieces(websocket.generate(self.rng)):
            yield self._data(number, piece, False)
        if self.rng.random() < 0.7:
            yield self._data(number, b"", True)

    def _pieces(self, content: bytes) -> list[bytes]:
        """Content as that of a few DATA frames."""
        edges = sorted({0, len(content), *(self.rng.randrange(len(content) + 1) for _ in range(self.rng.randrange(4)))})
        whole = [content[start:end] for start, end in itertools.pairwise(edges)]
        return [piece[at : at + 16000] for piece in whole for at in range(0, len(piece), 16000)]

    def _data(self, number: int, content: bytes, ends: bool) -> bytes:
        flags = END_STREAM if ends else 0
        if self.rng.random() < 0.1:
            padding = self.rng.randrange(30)
            return data(number, bytes((padding,)) + content + bytes(padding), flags | PADDED)
        return data(number, content, flags)

    def _block(self, number: int, fields: list[Field], ends: bool) -> bytes:
        """HEADERS, and CONTINUATION now and then."""
        rng = self.rng
        # A table that is not used is one that cannot get out of step.
        block = self._encoder.encode(
            [hpack.NeverIndexedHeaderTuple(*each) if rng.random() < 0.3 else each for each in fields],
            huffman=rng.random() < 0.5,
        )
        flags = END_STREAM if ends else 0
        before, behind = b"", b""
        if rng.random() < 0.1:
            flags |= PADDED
            behind = bytes(rng.randrange(9))
            before = bytes((len(behind),))
        if rng.random() < 0.15:
            flags |= WITH_PRIORITY
            before += dependency(rng.choice((0, 0, 1, number + 2)), weight=rng.randrange(256))
        edges = sorted({len(block), *(rng.randrange(len(block) + 1) for _ in range(rng.choice((0, 0, 0, 0, 1, 3))))})
        first = frame(
            Kind.HEADERS,
            flags | (END_HEADERS if len(edges) == 1 else 0),
            number,
            before + block[: edges[0]] + behind,
        )
        rest = [block[start:end] for start, end in itertools.pairwise(edges)]
        return first + b"".join(
            continuation(number, piece, END_HEADERS if at == len(rest) - 1 else 0) for at, piece in enumerate(rest)
        )

    def _aside(self) -> bytes:
        """A frame that is no part of a request."""
        rng = self.rng
        number = rng.randrange(1, self._next + 2, 2)
        return rng.choice(
            (
                lambda: ping(rng.randbytes(8), rng.choice((0, 0, 1))),
                lambda: settings(*rng.sample(SETTINGS, rng.randrange(3))),
                lambda: frame(Kind.SETTINGS, 1),
                lambda: window_update(0, rng.choice((1, 1000, 65535, 1 << 20))),
                lambda: window_update(number, rng.choice((1, 1000, 65535, 2**31 - 1))),
                lambda: window_update(number, rng.choice((1, 100, 70000))),
                lambda: reset(number, rng.randrange(14)),
                lambda: priority(number, rng.choice((0, 1, number)), rng.random() < 0.5, rng.randrange(256)),
                lambda: priority_update(number, rng.choice((b"u=0", b"u=5, i", b"i", b"", b"\xff"))),
                lambda: frame(rng.choice((0x0A, 0x0B, 0x0C, 0x7F, 0xFF)), rng.randrange(256), number, b"unknown"),
            )
        )()


# What is done to them -------------------------------------------------------------------------------------------------

Frames = list[bytes]


def _pick(written: Frames, rng: random.Random) -> int:
    return rng.randrange(len(written))


def _flags(written: Frames, rng: random.Random) -> None:
    """A flag is the other way round."""
    at = _pick(written, rng)
    raw = bytearray(written[at])
    raw[4] ^= rng.choice((0x1, 0x4, 0x8, 0x20, 0x40))
    written[at] = bytes(raw)


def _type(written: Frames, rng: random.Random) -> None:
    at = _pick(written, rng)
    raw = bytearray(written[at])
    raw[3] = rng.choice((*range(11), 0x10, 0xFF))
    written[at] = bytes(raw)


def _stream(written: Frames, rng: random.Random) -> None:
    """Another stream; the reserved bit, which says nothing."""
    at = _pick(written, rng)
    raw = bytearray(written[at])
    others = [number.to_bytes(4, "big") for number in (0, 1, 2, 3, 5, 7, 2**31 - 1)]
    raw[5:9] = rng.choice((b"\x80" + raw[6:9], *others))
    written[at] = bytes(raw)


def _length(written: Frames, rng: random.Random) -> None:
    """A payload longer or shorter, which the length agrees with; or a length that agrees with nothing."""
    at = _pick(written, rng)
    raw = written[at]
    if rng.random() < 0.8:
        payload = rng.choice((raw[9:-1], raw[9:] + b"\0", raw[9:12], b"", raw[9:] + bytes(6)))
        raw = len(payload).to_bytes(3, "big") + raw[3:9] + payload
    else:
        raw = rng.choice((0, 1, 5, 16384, 16385, 2**24 - 1)).to_bytes(3, "big") + raw[3:]
    written[at] = raw


def _payload(written: Frames, rng: random.Random) -> None:
    """A bit or a byte of what a frame holds."""
    at = _pick(written, rng)
    raw = bytearray(written[at])
    if len(raw) > 9:
        place = rng.randrange(9, len(raw))
        raw[place] = rng.choice((raw[place] ^ 1 << rng.randrange(8), 0, 0xFF, 0x80, 0x7F, rng.randrange(256)))
    written[at] = bytes(raw)


def _move(written: Frames, rng: random.Random) -> None:
    written.insert(_pick(written, rng), written.pop(_pick(written, rng)))


def _repeat(written: Frames, rng: random.Random) -> None:
    written.insert(_pick(written, rng), written[_pick(written, rng)])


def _again(written: Frames, rng: random.Random) -> None:
    """A request's very bytes on another stream, once or more: the table may have changed what they mean."""
    heads = [raw for raw in written if raw[3:4] == b"\1"]
    last = max((int.from_bytes(raw[5:9], "big") for raw in heads), default=0)
    if heads and last < 2**30:
        chosen = rng.choice(heads)
        for turn in range(1, rng.choice((2, 3, 4))):
            written.append(chosen[:5] + (last + 2 * turn).to_bytes(4, "big") + chosen[9:])


def _drop(written: Frames, rng: random.Random) -> None:
    if len(written) > 1:
        del written[_pick(written, rng)]


def _part(written: Frames, rng: random.Random) -> None:
    """Frames that belong together are so no more: a header block."""
    at = _pick(written, rng)
    parts = [frame(each.kind, each.flags, each.stream, each.payload) for each in split(bytearray(written[at]))]
    if parts:
        written[at : at + 1] = rng.choice((parts[::-1], parts[:-1], [parts[-1], *parts]))


def _noise(written: Frames, rng: random.Random) -> None:
    """Bytes that are no frame, or happen to be one."""
    written.insert(_pick(written, rng), rng.randbytes(rng.randrange(1, 20)))


def _many(written: Frames, rng: random.Random) -> None:
    at = _pick(written, rng)
    written[at:at] = [written[at]] * rng.choice((5, 30, 120)) if len(written[at]) < 200 else []


MUTATIONS: list[Callable[[Frames, random.Random], None]] = [
    *(_flags, _flags, _type, _stream, _stream, _length, _payload, _payload, _move, _move, _repeat, _drop, _part),
    *(_again, _again, _again, _noise, _many),
]


def generate(rng: random.Random) -> bytes:
    """One connection: the preface, and frames with none to four mutations."""
    written = Author(rng).write()
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 4))):
        rng.choice(MUTATIONS)(written, rng)
        written = [each for each in written if len(each) >= 9] or [settings()]
    preface = PREFACE
    if rng.random() < 0.02:
        preface = rng.choice((PREFACE[:-1], PREFACE[1:], b"", PREFACE * 2))
    return preface + b"".join(written)
