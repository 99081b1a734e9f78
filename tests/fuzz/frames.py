"""WebSocket frames that nobody wrote: seeds, what is done to them, and what must hold whatever it was.

splitting changes nothing      the reader alone, and a whole server, with the bytes whole and in pieces
nobody reads it differently    wsproto finds the same messages, control frames and close code
a clean answer                 what the server writes are whole frames, pongs and at most one close frame behind them
the worker lives               no error is logged, and nothing of the WebSocket is left
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from palfrey.protocols.websocket.codes import WebSocketError
from palfrey.protocols.websocket.deflate import Inflater, Terms
from palfrey.protocols.websocket.frames import FrameReader
from tests.corpus.frames import REFUSED
from tests.fuzz.mutate import cuts
from tests.support.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    deflated,
    fragments,
    frame,
    one_by_one,
    text,
)
from tests.support.inprocess import logged
from tests.support.sockets import Listening, Opened

OFFER = b"Sec-WebSocket-Extensions: permessage-deflate"
BEHIND = bytes(32)
"""Follows every stream, so that a header that is wrong is there to its end: readers differ in how early they look."""
UNKNOWN = (1009, 1014)
"""Codes with which a stream ends here and not for wsproto: our bound for want of another, 2 ** 62 bytes, and one that
has been registered since."""
SOME = "aä€𐍈".encode()

SEEDS: list[Callable[[random.Random], bytes]] = [
    lambda rng: frame(rng.choice((TEXT, BINARY)), b"x" * rng.choice((0, 1, 5, 125, 126, 127, 300))),
    lambda rng: frame(BINARY, rng.randbytes(rng.randrange(40)), mask=rng.randbytes(4)),
    lambda rng: text("aä€𐍈" * rng.randrange(40)),
    lambda rng: fragments(TEXT, *(SOME[at : at + 1] for at in range(len(SOME)))),
    lambda rng: fragments(rng.choice((TEXT, BINARY)), *[b"part"] * rng.randrange(1, 5)),
    lambda rng: frame(TEXT, b"a", fin=False) + frame(PING, b"b") + frame(CONTINUATION, b"c"),
    lambda rng: frame(rng.choice((PING, PONG)), rng.randbytes(rng.choice((0, 4, 125)))),
    lambda rng: frame(TEXT, deflated(b"squeezed " * rng.randrange(60)), rsv=4),
    lambda rng: fragments(BINARY, *(deflated(bytes(500))[at : at + 3] for at in range(0, 20, 3)), rsv=4),
    lambda rng: frame(
        rng.randrange(16), rng.randbytes(rng.randrange(9)), fin=rng.random() < 0.5, rsv=rng.choice((0, 4))
    ),
    lambda rng: close(rng.choice((None, 1000, 1001, 3000, 4999)), rng.choice(("", "why", "ä" * 61))),
    lambda rng: rng.choice([raw for raw, _ in REFUSED.values() if len(raw) < 400]),
]


def _bit(raw: bytes, rng: random.Random) -> bytes:
    """A bit is the other one; in a header more often than not."""
    at = rng.randrange(len(raw)) if rng.random() < 0.4 else rng.randrange(min(8, len(raw)))
    return raw[:at] + bytes((raw[at] ^ 1 << rng.randrange(8),)) + raw[at + 1 :]


def _byte(raw: bytes, rng: random.Random) -> bytes:
    """A byte more, less, or another."""
    at = rng.randrange(len(raw))
    return raw[:at] + rng.choice((rng.randbytes(1), b"", b"\x80", b"\xff", b"\x00")) + raw[at + rng.randrange(2) :]


def _slice(raw: bytes, rng: random.Random) -> bytes:
    """A piece away, or twice."""
    start = rng.randrange(len(raw))
    end = min(len(raw), start + rng.randint(1, 20))
    return raw[:start] + raw[start:end] * rng.choice((0, 2)) + raw[end:]


MUTATIONS = (_bit, _bit, _byte, _slice)


def generate(rng: random.Random) -> bytes:
    """One to eight frames or messages, some of them spoilt."""
    stream = b""
    for _ in range(rng.randint(1, 8)):
        raw = rng.choice(SEEDS)(rng)
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
            raw = rng.choice(MUTATIONS)(raw or b"\x81", rng)
        stream += raw
    return stream


Event = tuple[Any, ...]


class Found:
    """What our reader finds."""

    def __init__(self, deflate: bool) -> None:
        self.events: list[Event] = []
        inflater = Inflater(Terms()) if deflate else None
        self._reader = FrameReader(self, 0, 0, inflater)

    def on_message(self, data: str | bytes) -> None:
        self.events.append(("message", data))

    def on_ping(self, payload: bytes) -> None:
        self.events.append(("ping", payload))

    def on_pong(self, payload: bytes) -> None:
        self.events.append(("pong", payload))

    def on_close(self, code: int, reason: str) -> None:
        self.events.append(("close", code, reason))

    def feed(self, pieces: list[bytes]) -> list[Event]:
        for piece in pieces:
            try:
                self._reader.feed(piece)
            except WebSocketError as error:
                self.events.append(("error", error.code))
        return self.events


def by_wsproto(stream: bytes) -> list[Event]:
    """What wsproto takes the stream for, without compression."""
    events: list[Event] = []
    connection = Connection(ConnectionType.SERVER)
    parts: list[Any] = []
    connection.receive_data(stream)
    for event in connection.events():
        if isinstance(event, TextMessage | BytesMessage):
            parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
            if event.message_finished:
                events.append(("message", type(parts[0])().join(parts)))
                parts = []
        elif isinstance(event, Ping):
            events.append(("ping", bytes(event.payload)))
        elif isinstance(event, Pong):
            events.append(("pong", bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            events.append(("close", int(event.code), event.reason or ""))
            break
    return events


class FrameJudge:
    """`judge` raises AssertionError for the first thing that is wrong."""

    def __init__(self) -> None:
        self.served = self.refused = 0

    async def judge(self, raw: bytes, rng: random.Random) -> None:
        stream = raw + BEHIND
        pieces = one_by_one(stream) if rng.random() < 0.3 else cuts(stream, rng)
        whole = Found(False).feed([stream])
        assert Found(False).feed(pieces) == whole, f"in {pieces}"
        assert Found(True).feed(pieces) == Found(True).feed([stream]), f"inflating, in {pieces}"
        theirs = by_wsproto(stream)
        if theirs and theirs[-1][0] == "close" and whole and whole[-1][0] == "error":
            theirs[-1] = ("error", theirs[-1][1])
        if whole and whole[-1][1] in UNKNOWN:
            whole, theirs = whole[:-1], theirs[: len(whole) - 1]
        assert whole == theirs, f"{whole} instead of {theirs}"
        with logged() as records, logged("asyncio") as loop_records:
            fields = [OFFER] if rng.random() < 0.5 else []
            first = await _replay([stream], fields)
            assert await _replay(pieces, fields) == first, f"in {pieces}"
        assert not records.errors + loop_records.errors, records.errors + loop_records.errors
        self.served += len([event for event in whole if event[0] == "message"])
        self.refused += bool(whole) and whole[-1][0] == "error"


async def _replay(pieces: list[bytes], fields: list[bytes]) -> tuple[Any, ...]:
    """What the application hears and what the client reads; everything of it is over then."""
    app = Listening()
    opened = await Opened(app, *fields).opened()
    for piece in pieces:
        await opened.until(lambda: not opened.transport.paused or opened.over)
        if opened.over:
            break
        opened.feed(piece)
    frames = await opened.settled()
    assert all(each.opcode in (PONG, CLOSE) for each in frames)
    opened.transport.abort()
    await opened.gone()
    # Of two faults the reader may meet the one or the other first: the code is the same, the words are not.
    heard = [message.get("code") or (message["text"], message["bytes"]) for message in app.messages]
    return heard, [each.code if each.opcode == CLOSE else each.payload for each in frames]
