"""What a server may send on an HTTP/2 connection, given what its client has sent: every frame is held against it.

The client tells `sent()` and `received()` of each frame, in order; `received()` raises Malformed for what RFC 9113
forbids: a frame too long, a window overrun, a frame on a stream that is over, a second head, a length that does not
agree, a name in upper case, a block that cannot be decoded. It also puts the responses together (`answers`).
What a client does wrong on purpose is not judged; it only must not confuse the count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import hpack

from tests.support.http2frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_FRAME,
    MAX_WINDOW,
    PADDED,
    WINDOW,
    WITH_PRIORITY,
    Answer,
    Field,
    Frame,
    Kind,
    Setting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_CONNECTION_SPECIFIC = {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "te"}
_FLAGS = {
    Kind.DATA: END_STREAM | PADDED,
    Kind.HEADERS: END_STREAM | END_HEADERS | PADDED,
    Kind.SETTINGS: ACK,
    Kind.PING: ACK,
    Kind.CONTINUATION: END_HEADERS,
}
_LENGTHS = {Kind.RST_STREAM: 4, Kind.PING: 8, Kind.WINDOW_UPDATE: 4}
_OF_STREAMS = {Kind.DATA, Kind.HEADERS, Kind.RST_STREAM, Kind.CONTINUATION}
_OF_CONNECTION = {Kind.SETTINGS, Kind.PING, Kind.GOAWAY}


class Malformed(AssertionError):
    """The server sent what it must not."""


class _Stream:
    """One stream's part of the ledger."""

    def __init__(self, answer: Answer, window: int) -> None:
        self.answer = answer
        self.window = window
        self.received = 0
        self.client_ended = self.client_reset = False
        self.tunnel = False
        """An extended CONNECT: a 200 opens it."""


class Ledger:
    """See the module."""

    def __init__(self) -> None:
        self.decoder = hpack.Decoder(max_header_list_size=1 << 20)
        self.answers: dict[int, Answer] = {}
        self.server: dict[int, int] = {}
        """The server's settings, once they came; `-1` is a mark that they did."""
        self.highest = 0
        """Of the streams that were opened."""
        self.window = WINDOW
        self._streams: dict[int, _Stream] = {}
        self._pending: list[list[tuple[int, int]]] = []
        self._mine = {int(Setting.INITIAL_WINDOW_SIZE): WINDOW, int(Setting.MAX_FRAME_SIZE): MAX_FRAME}
        self._peer = hpack.Decoder(max_header_list_size=1 << 20)
        """What the server's decoder knows, to read the method of a request."""
        self._pings: list[bytes] = []
        self._open_block: tuple[int, int, bytes] | None = None
        self._sending: tuple[int, int, bytes] | None = None
        self._last_goaway: int | None = None

    @property
    def settings_acknowledged(self) -> bool:
        return not self._pending

    def starving(self, frame: Frame) -> Iterator[int]:
        """The streams (0: the connection) whose window this DATA frame has brought below a half."""
        if self._mine[Setting.INITIAL_WINDOW_SIZE] < WINDOW:
            return  # a test of small windows, which gives them itself
        if self.window < WINDOW // 2:
            yield 0
        stream = self._streams[frame.stream]
        if stream.window < WINDOW // 2 and not stream.answer.over and not stream.client_reset:
            yield frame.stream

    # ------------------------------------------------------------ from the client

    def sent(self, frame: Frame) -> None:
        """The client sends this."""
        if frame.kind == Kind.HEADERS:
            block = _unpadded(frame)[5 if frame.has(WITH_PRIORITY) else 0 :]
            self._request_block((frame.stream, frame.flags, block), frame.has(END_HEADERS))
        elif frame.kind == Kind.CONTINUATION and self._sending is not None and self._sending[0] == frame.stream:
            stream, flags, block = self._sending
            self._request_block((stream, flags, block + frame.payload), frame.has(END_HEADERS))
        elif frame.kind == Kind.SETTINGS and not frame.has(ACK):
            self._pending.append(frame.settings)
        elif frame.kind == Kind.PING and not frame.has(ACK):
            self._pings.append(frame.payload)
        elif frame.kind == Kind.WINDOW_UPDATE and not frame.stream:
            self.window += frame.number
        elif frame.stream in self._streams:
            stream_of = self._streams[frame.stream]
            if frame.kind == Kind.WINDOW_UPDATE:
                stream_of.window += frame.number
            elif frame.kind == Kind.RST_STREAM:
                stream_of.client_reset = True
            elif frame.kind == Kind.DATA and frame.has(END_STREAM):
                stream_of.client_ended = True

    def _request_block(self, block: tuple[int, int, bytes], complete: bool) -> None:
        if not complete:
            self._sending = block
            return
        self._sending = None
        number, flags, fragment = block
        try:
            # Trailers, too: they may change the table.
            fields = dict(_decode(self._peer, fragment))
        except hpack.HPACKError:
            fields = {}
        stream = self._streams.get(number)
        if stream is None:
            stream = _Stream(Answer(number), self._mine[Setting.INITIAL_WINDOW_SIZE])
            self._streams[number] = stream
            self.answers[number] = stream.answer
            self.highest = max(self.highest, number)
            stream.answer.method = fields.get(":method", "GET")
            stream.tunnel = ":protocol" in fields
        stream.client_ended = stream.client_ended or bool(flags & END_STREAM)

    # ------------------------------------------------------------ from the server

    def received(self, frame: Frame) -> None:
        """The server sent this. Raises Malformed."""
        self._check_form(frame)
        if frame.kind == Kind.DATA:
            self._data(frame)
        elif frame.kind == Kind.HEADERS:
            self._block((frame.stream, frame.flags, _unpadded(frame)), frame.has(END_HEADERS))
        elif frame.kind == Kind.CONTINUATION:
            assert self._open_block is not None
            stream, flags, block = self._open_block
            self._block((stream, flags, block + frame.payload), frame.has(END_HEADERS))
        elif frame.kind == Kind.SETTINGS:
            self._settings(frame)
        elif frame.kind == Kind.PING:
            self._ping(frame)
        elif frame.kind == Kind.RST_STREAM:
            self._reset(frame)
        elif frame.kind == Kind.GOAWAY:
            self._goaway(frame)
        elif frame.kind == Kind.WINDOW_UPDATE:
            self._window_update(frame)

    def _check_form(self, frame: Frame) -> None:
        _require(bool(self.server) or frame.kind == Kind.SETTINGS, "the server's preface is SETTINGS", frame)
        _require(len(frame.payload) <= self._mine[Setting.MAX_FRAME_SIZE], "longer than allowed", frame)
        _require(not frame.stream >> 31, "the reserved bit is set", frame)
        _require(frame.kind in set(Kind), "a type that nobody asked for", frame)
        _require(frame.kind not in {Kind.PUSH_PROMISE, Kind.PRIORITY, Kind.PRIORITY_UPDATE}, "not a server's", frame)
        _require(not frame.flags & ~_FLAGS.get(Kind(frame.kind), 0), "an undefined flag", frame)
        _require(len(frame.payload) == _LENGTHS.get(Kind(frame.kind), len(frame.payload)), "a wrong length", frame)
        _require(frame.kind not in _OF_STREAMS or frame.stream > 0, "belongs to a stream", frame)
        _require(frame.kind not in _OF_CONNECTION or frame.stream == 0, "belongs to no stream", frame)
        due = self._open_block
        continues = frame.kind == Kind.CONTINUATION
        _require(continues == (due is not None), "a header block is interrupted, or not begun", frame)
        _require(due is None or due[0] == frame.stream, "another stream's block is open", frame)

    def _of(self, frame: Frame) -> _Stream:
        _require(frame.stream in self._streams, "a stream that was never opened", frame)
        stream = self._streams[frame.stream]
        _require(stream.answer.code is None, "the server had reset it", frame)
        return stream

    def _data(self, frame: Frame) -> None:
        stream = self._of(frame)
        answer = stream.answer
        _require(not answer.ended, "the response was complete", frame)
        _require(bool(answer.status), "content before a head", frame)
        _require(len(frame.payload) <= max(0, self.window), "more than the connection's window", frame)
        _require(len(frame.payload) <= max(0, stream.window), "more than the stream's window", frame)
        _require(bool(frame.payload) or frame.has(END_STREAM), "an empty frame that says nothing", frame)
        self.window -= len(frame.payload)
        stream.window -= len(frame.payload)
        content = _unpadded(frame)
        _require(not content or not _bodiless(answer), "content where there can be none", frame)
        answer.pieces.append(content)
        stream.received += len(content)
        if frame.has(END_STREAM):
            self._ended(stream, frame)

    def _block(self, block: tuple[int, int, bytes], complete: bool) -> None:
        if not complete:
            self._open_block = block
            return
        self._open_block = None
        number, flags, fragment = block
        frame = Frame(Kind.HEADERS, flags, number, fragment)
        try:
            fields = _decode(self.decoder, fragment)
        except hpack.HPACKError as error:
            raise Malformed(f"{error!r} in {frame}") from None
        stream = self._of(frame)
        answer = stream.answer
        _require(not answer.ended, "the response was complete", frame)
        _check_fields(fields, frame)
        ends = bool(flags & END_STREAM)
        if answer.status:
            _require(ends and ":status" not in dict(fields), "a second head", frame)
            answer.trailers = fields
        else:
            _require([name for name, _ in fields].count(":status") == 1, "one :status", frame)
            _require(re.fullmatch("[1-9][0-9][0-9]", fields[0][1]) is not None, "a status", frame)
            status = int(fields[0][1])
            if status < 200:
                _require(not ends and status != 101, "an interim response that cannot be", frame)
                answer.interim.append((status, fields[1:]))
                return
            answer.status, answer.fields = status, fields[1:]
        if ends:
            self._ended(stream, frame)

    @staticmethod
    def _ended(stream: _Stream, frame: Frame) -> None:
        answer = stream.answer
        answer.ended = True
        lengths = answer.all("content-length")
        _require(len(lengths) < 2, "two lengths", frame)
        if lengths and not _bodiless(answer):
            _require(int(lengths[0]) == stream.received, f"{stream.received} of {lengths[0]} bytes", frame)

    def _settings(self, frame: Frame) -> None:
        if frame.has(ACK):
            _require(not frame.payload and bool(self._pending), "acknowledges nothing", frame)
            _require(bool(self.server), "the preface must be first", frame)
            for setting, value in self._pending.pop(0):
                self._apply(setting, value)
            return
        _require(len(frame.payload) % 6 == 0, "a wrong length", frame)
        self.server[-1] = 1
        for setting, value in frame.settings:
            _require(setting != Setting.ENABLE_PUSH or value == 0, "a server cannot be pushed to", frame)
            _require(setting != Setting.INITIAL_WINDOW_SIZE or value <= MAX_WINDOW, "too much", frame)
            _require(setting != Setting.MAX_FRAME_SIZE or MAX_FRAME <= value < 1 << 24, "out of range", frame)
            self.server[setting] = value

    def _apply(self, setting: int, value: int) -> None:
        """The server has taken note of a setting of the client's."""
        if setting == Setting.INITIAL_WINDOW_SIZE:
            for stream in self._streams.values():
                stream.window += value - self._mine[setting]
        elif setting == Setting.HEADER_TABLE_SIZE:
            self.decoder.max_allowed_table_size = value
        self._mine[setting] = value

    def _ping(self, frame: Frame) -> None:
        if frame.has(ACK):
            _require(frame.payload in self._pings, "answers a PING that nobody sent", frame)
            self._pings.remove(frame.payload)

    def _reset(self, frame: Frame) -> None:
        stream = self._of(frame)
        answer = stream.answer
        _require(frame.code != 0 or answer.ended, "a stream that is no error, and not complete", frame)
        answer.code = frame.code

    def _goaway(self, frame: Frame) -> None:
        _require(len(frame.payload) >= 8, "a wrong length", frame)
        _require(self._last_goaway is None or frame.number <= self._last_goaway, "the last stream grows", frame)
        _require(frame.number == MAX_WINDOW or frame.number <= self.highest, "a stream that was never opened", frame)
        _require(len(frame.payload) <= 136 and frame.payload[8:].isascii(), "debug data is short ASCII here", frame)
        self._last_goaway = frame.number

    def _window_update(self, frame: Frame) -> None:
        _require(frame.number > 0, "an increment of 0", frame)
        if frame.stream:
            self._of(frame)


def _decode(decoder: hpack.Decoder, block: bytes) -> list[Field]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in decoder.decode(block, raw=True)]


def _bodiless(answer: Answer) -> bool:
    return answer.method == "HEAD" or answer.status in {204, 304}


def _unpadded(frame: Frame) -> bytes:
    if not frame.has(PADDED) or not frame.payload:
        return frame.payload
    return frame.payload[1 : len(frame.payload) - frame.payload[0]]


def _check_fields(fields: list[Field], frame: Frame) -> None:
    for number, (name, value) in enumerate(fields):
        pseudo = name.startswith(":")
        _require(not pseudo or (number == 0 and name == ":status"), f"the field {name!r}", frame)
        _require(pseudo or _NAME.fullmatch(name) is not None, f"the name {name!r}", frame)
        _require(name not in _CONNECTION_SPECIFIC, f"the field {name!r}", frame)
        _require(_VALUE.fullmatch(value) is not None, f"the value {value!r}", frame)


def _require(holds: bool, what: str, frame: Frame) -> None:
    if not holds:
        raise Malformed(f"{what}: {frame}")
