"""Responses as header blocks (RFC 9113 section 8.3.2, RFC 7541), found again where they were made before.

An application sends the same few heads over and over. So a connection remembers whole blocks, for as long as its table
stays as it is and the date, too. The fields of other heads have mostly been sent before: each (name, value) pair is
checked and written as a literal once a worker.

A pair goes into a connection's table when it comes again on this worker, which one with a value of its own each time
never does, and at most INSERTIONS_OF_A_NAME pairs of a name: each insertion moves the indexes of all others, and what
the connection knew is to be looked up anew. So a table soon stays as it is. Names in VARYING are not worth an entry.

Blocks depend on those before them: each one that is made has to be sent, in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from palfrey.asgi.stream import REASON, Framing
from palfrey.protocols.http2.encoder import Encoder, literal
from palfrey.protocols.http2.fields import CONNECTION_SPECIFIC
from palfrey.protocols.response import check_field, check_name, check_value

if TYPE_CHECKING:
    from palfrey.protocols.service import Service
    from palfrey.types import Header, Headers

REMEMBERED_FIELDS, FIELD_LENGTH = 2048, 512
"""Bounds of what a worker remembers: well below two megabytes. Longer values (cookies, tokens) do not come again."""
REMEMBERED_BLOCKS, BLOCK_LENGTH = 16, 512
"""Bounds of what a connection remembers: an idle one is to stay small."""
VALUES_OF_A_NAME, LENGTHS = 64, 1024
"""So many are remembered: what has more has a new one each time, and would only push out others. Lengths, which an
application may say itself or leave to us, do come again."""
REMEMBERED_NAMES, NAME_LENGTH = 512, 64
INSERTIONS_OF_A_NAME = 8

SECRETS = frozenset((b"set-cookie", b"cookie", b"authorization", b"proxy-authorization"))
"""Never indexed by anybody (RFC 7541 section 7.1.3), nor remembered."""
VARYING = SECRETS | {
    b"age",
    b"content-length",
    b"content-range",
    b"date",
    b"etag",
    b"expires",
    b"last-modified",
    b"location",
    b"retry-after",
}
"""Fields that mostly have another value in each response."""

WHOLE = Framing.WHOLE

Piece = bytes
"""What stands for a field in a block."""


class Name:
    """What a worker knows of a response field's name."""

    __slots__ = ("default", "indexable", "lower", "room", "start")

    def __init__(self, name: bytes, default: bool, unique: bool) -> None:
        self.lower = lower = name.lower()
        self.start = b"" if lower in CONNECTION_SPECIFIC else literal((lower, b""), lower in SECRETS)[:-1]
        """What a literal begins with; empty for one that HTTP/2 does not have."""
        self.default = default
        """Whether its fields stand in the place of a default one."""
        self.indexable = lower not in VARYING and bool(self.start)
        self.room = 0 if unique or lower in SECRETS else LENGTHS if lower == b"content-length" else VALUES_OF_A_NAME
        """How many more of its fields may be remembered."""


class Field:
    """What a worker knows of a response's field."""

    __slots__ = ("again", "default", "indexable", "literal")

    def __init__(self, name: Name, literal: Piece, indexable: Header | None) -> None:
        self.literal = literal
        """Empty for one that HTTP/2 does not have."""
        self.indexable = indexable
        """The pair as it would be in a table; None if that is not worth it."""
        self.default = name.lower if name.default else b""
        """The name of the default field that it is, or in whose place it stands; empty as a rule."""
        self.again = name.default
        """It has come more than once, or will: it is worth remembering on a connection, or an entry in its table."""


class ResponseEncoder:
    """One connection's."""

    __slots__ = ("_blocks", "_default_fields", "_encoder", "_end", "_insertions", "_memory", "_pairs")

    def __init__(self, service: Service) -> None:
        self._memory = service.http2_memory
        self._default_fields = service.default_fields
        self._encoder = Encoder()
        self._insertions: dict[bytes, int] = {}
        """Name -> how often it was inserted."""
        self._blocks: dict[tuple[int | Header, ...], bytes] = {}
        """A status and fields, as the application has them -> their block with the default fields."""
        self._pairs: list[Header] | None = None
        """The default fields that are in those blocks, and in `_end`."""
        self._end = b""

    def resize(self, size: int) -> None:
        """The client's SETTINGS_HEADER_TABLE_SIZE, acknowledged in front of the next block."""
        self._encoder.resize(size)
        self._forget()

    def head(self, status: int, headers: Headers, framing: Framing, length: int) -> bytes:
        """A final response's block. `length` is the content's where `framing` is WHOLE.

        Raises InvalidHeader; nothing has changed then.
        """
        if self._pairs is not self._default_fields.pairs:
            self._blocks.clear()
        try:
            block = self._blocks.get((status, *headers))
        except TypeError:  # a list in a pair's place
            block = None
        if block is None:
            block = self._head(status, headers)
        if framing is WHOLE:
            return block + (self._memory.lengths.get(length) or self._length(length))
        return block

    def informational(self, status: int, headers: Headers) -> bytes:
        """An interim (1xx) response's block. Raises InvalidHeader; nothing has changed then."""
        return self._without_insertions([_status(status)], headers)

    def trailers(self, headers: Headers) -> bytes:
        """A trailer section's block. Raises InvalidHeader; nothing has changed then."""
        return self._without_insertions([], headers)

    def _without_insertions(self, pieces: list[Piece], headers: Headers) -> bytes:
        for name, value in headers:
            field = self._field(name, value)
            pieces.append(self._index(field) or field.literal)
        return self._encoder.begin() + b"".join(pieces)

    # ---------------------------------------------------------------- what is not known on this connection

    def _head(self, status: int, headers: Headers) -> bytes:
        """A block that is not known, content-length left out. Raises InvalidHeader."""
        # RFC 9110 section 8.6: a 204 must not say a length.
        fields = [
            self._field(name, value) for name, value in headers if status != 204 or name.lower() != b"content-length"
        ]
        come_again = False not in [field.again for field in fields]
        overridden = {field.default for field in fields if field.default}
        wanted: set[Header] = set()
        pieces = [_status(status), *self._look_up(fields, wanted)]
        pairs = self._default_fields.pairs
        if overridden or self._pairs is not pairs:
            end = b"".join(self._look_up(self._defaults(overridden), wanted))
            if not overridden:
                self._end, self._pairs = end, pairs
        else:
            end = self._end
        if wanted:
            return self._insert(status, fields + self._defaults(overridden), wanted)
        pieces.append(end)
        block = b"".join(pieces)
        if come_again and len(block) <= BLOCK_LENGTH:
            if len(self._blocks) >= REMEMBERED_BLOCKS:
                self._blocks.clear()
            try:
                self._blocks[status, *headers] = block
            except TypeError:
                pass
        return self._encoder.begin() + block

    def _defaults(self, overridden: set[bytes]) -> list[Field]:
        return [self._field(*pair) for pair in self._default_fields.pairs if pair[0] not in overridden]

    def _look_up(self, fields: list[Field], wanted: set[Header]) -> list[Piece]:
        """What stands for the fields. Those that are to have an entry in the table are added to `wanted`."""
        pieces = []
        for field in fields:
            piece = self._index(field)
            if piece is None:
                piece = field.literal
                if field.again and self._may_insert(field.indexable):
                    wanted.add(field.indexable)
            field.again = True
            pieces.append(piece)
        return pieces

    def _insert(self, status: int, fields: list[Field], wanted: set[Header]) -> bytes:
        """A block that gives entries to those that want one."""
        pieces = [self._encoder.begin(), _status(status)]
        for field in fields:
            piece = self._index(field)
            if piece is None and field.indexable in wanted:
                name = field.indexable[0]
                self._insertions[name] = self._insertions.get(name, 0) + 1
                piece = self._encoder.insert(field.indexable)
            pieces.append(field.literal if piece is None else piece)
        self._forget()
        return b"".join(pieces)

    def _index(self, field: Field) -> Piece | None:
        return self._encoder.indexed(field.indexable) if field.indexable is not None else None

    def _may_insert(self, pair: Header | None) -> TypeGuard[Header]:
        return pair is not None and self._insertions.get(pair[0], 0) < INSERTIONS_OF_A_NAME

    def _forget(self) -> None:
        """The table has changed: indexes mean something else."""
        self._blocks.clear()
        self._pairs = None

    # ---------------------------------------------------------------- what the worker knows

    def _field(self, name: bytes, value: bytes) -> Field:
        """Raises InvalidHeader."""
        try:
            field = self._memory.response_fields.get((name, value))
        except TypeError:  # no bytes
            field = None
        return field or self._read(name, value)

    def _read(self, name: bytes, value: bytes) -> Field:
        """A field that is not remembered. Raises InvalidHeader."""
        if name is REASON:
            return _NOT_SENT
        check_value(name, value)
        memory = self._memory
        known = memory.response_names.get(name)
        if known is None:
            check_name(name)
            known = Name(name, name.lower() in self._default_fields.names, name == memory.unique)
            if len(name) <= NAME_LENGTH:
                if len(memory.response_names) >= REMEMBERED_NAMES:
                    memory.response_names.clear()
                memory.response_names[name] = known
        # RFC 9113 section 8.2.1: no white space around values.
        text = value.strip(b" \t")
        kept = known.room > 0 and len(name) + len(value) <= FIELD_LENGTH
        indexable = (known.lower, text) if kept and known.indexable else None
        field = Field(known, known.start and known.start + _plain(text), indexable)
        if kept:
            if len(memory.response_fields) >= REMEMBERED_FIELDS:
                memory.response_fields.clear()
                memory.response_names.clear()
            known.room -= 1
            memory.response_fields[name, value] = field
        return field

    def _length(self, length: int) -> Piece:
        lengths = self._memory.lengths
        if len(lengths) >= LENGTHS:
            lengths.clear()
        piece = lengths[length] = _LENGTH_START + _plain(b"%d" % length)
        return piece


def check_fields(headers: Headers) -> list[Header]:
    """Raises InvalidHeader for what `trailers` would not take."""
    fields = list(headers)
    for name, value in fields:
        check_field(name, value)
    return fields


def _plain(text: bytes) -> bytes:
    """A string as it is (RFC 7541 section 5.2). Huffman code would be a fourth shorter, and takes 70 ns a byte."""
    length = len(text)
    if length < 0x7F:
        return bytes((length,)) + text
    digits = [0x7F]
    length -= 0x7F
    while length > 0x7F:
        digits.append(0x80 | length & 0x7F)
        length >>= 7
    return bytes((*digits, length)) + text


_NOT_SENT = Field(Name(b"connection", False, False), b"", None)
_LENGTH_START = literal((b"content-length", b""))[:-1]
_STATUSES: dict[int, Piece] = {}


def _status(status: int) -> Piece:
    """The pseudo-header field: an index for the usual ones, four bytes or five for the others."""
    piece = _STATUSES.get(status)
    if piece is None:
        pair = (b":status", b"%d" % status)
        piece = _STATUSES[status] = Encoder().indexed(pair) or literal(pair)
    return piece
