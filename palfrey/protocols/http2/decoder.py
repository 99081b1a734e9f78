"""HPACK header blocks -> fields (RFC 7541), with the dynamic table that the peer fills.

One list is both tables: the static fields at their indexes, behind them the dynamic ones, newest first. So a field that
is indexed, which is what most are, costs one look-up, and always comes out as the same tuple. Until a peer has put
something into its table that list is STATIC itself, shared by all.

All else is a literal. Its Huffman strings are looked up among those that this worker has decoded before, since clients
tend to say the same (a first request's user-agent, paths), and are decoded when they are new. What may be secret is not
remembered.

Whatever is wrong with a block is wrong with the whole connection: the two ends' tables are out of step from there on.
So all faults are ConnectionFaults, and a block has to be decoded to its end even if nobody wants its fields any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palfrey.protocols.http1.fields import CREDENTIALS
from palfrey.protocols.http2 import huffman
from palfrey.protocols.http2.codes import ConnectionFault, ErrorCode
from palfrey.protocols.http2.static import FIRST_DYNAMIC, STATIC

if TYPE_CHECKING:
    from palfrey.types import Header

DEFAULT_TABLE = 4096
"""SETTINGS_HEADER_TABLE_SIZE until an endpoint says otherwise (RFC 9113 section 6.5.2)."""
OVERHEAD = 32
"""What a field counts beyond its name and value, in a table (RFC 7541 section 4.1) and in a section (RFC 9113 section
6.5.2)."""

CONTINUATION_BYTES, LARGEST_INTEGER = 5, (1 << 31) - 1
"""Bounds of an integer; nothing that we would accept needs more."""
SIZE_UPDATES = 2
"""So many at most at a block's start: the smallest size since the last block, and the final one (section 4.2)."""
LEADING_FIELDS = 8
"""No request has more than five pseudo-header fields."""
STRETCH = 256
"""Bytes of a block after which it is looked whether there still is room for its fields."""

REMEMBERED_STRINGS, STRING_LENGTH = 2048, 128
"""Bounds of the strings that a worker remembers, in bytes of Huffman code: a megabyte at most. Never values of
CREDENTIALS, nor those that the client never wants to be indexed (section 7.1.3)."""

_strings: dict[bytes, bytes] = {}
"""The worker's memory: Huffman code -> text."""

_INDEXES = bytes((byte - 0x80 if 0x80 < byte < 0xFF else 0) for byte in range(256))
"""Byte -> the index that it alone stands for, or 0: something else begins with it."""
_LAST_PSEUDO = 0x8E
"""The last of the static table's pseudo-header fields, which are its first rows, as an indexed field."""
_PSEUDO_LITERALS = frozenset(form | index for form in (0x00, 0x10, 0x40) for index in range(1, 15))
"""First bytes of literals that have their names from there."""


class Decoder:
    """One connection's.

    `version` grows with each change of the dynamic table and each change of its size. A block that left it alone means
    the same whenever it comes again, for as long as the version is the same.
    """

    __slots__ = ("_capacity", "_largest", "_max_table", "_size", "_table", "version")

    def __init__(self, max_table: int = DEFAULT_TABLE) -> None:
        """`max_table`: how much the peer may use, as our SETTINGS_HEADER_TABLE_SIZE told it."""
        self.version = 0
        self._table = STATIC
        """Both tables, by index. Copied before it is changed for the first time."""
        self._max_table = max_table
        self._capacity = min(max_table, DEFAULT_TABLE)
        """What the peer has chosen."""
        self._size = 0
        self._largest = 64
        """No field in the table is larger."""

    def lead(self, block: bytes) -> tuple[list[Header], int]:
        """The pseudo-header fields that a block begins with, eight at most, and the offset of what follows them.

        To be followed by `decode` from there on. Raises ConnectionFault.
        """
        fields: list[Header] = []
        at, end = 0, len(block)
        if end and 0x20 <= block[0] < 0x40:
            at = self._update_size(block)
        table = self._table
        try:
            while at < end and len(fields) < LEADING_FIELDS:
                byte = block[at]
                if 0x80 < byte < 0xFF:
                    field = table[byte - 0x80]
                    if byte > _LAST_PSEUDO and field[0][:1] != b":":
                        break
                    at += 1
                elif byte in _PSEUDO_LITERALS or self._leads(block, at):
                    field, at = self._literal(block, at)
                    table = self._table
                else:
                    break
                fields.append(field)
        except IndexError:
            raise _fault("an index beyond the tables") from None
        return fields, at

    def decode(self, block: bytes, at: int = 0, room: int = LARGEST_INTEGER) -> tuple[list[Header], bool]:
        """The fields of a block from offset `at` on, and whether there was room for them.

        A section larger than `room` (names and values, and 32 bytes for each) is decoded to its end, but not
        collected. Raises ConnectionFault.
        """
        if not at:
            at = self._update_size(block)
        fields: list[Header] = []
        fits = True
        end = len(block)
        indexes = block.translate(_INDEXES)
        table = self._table
        try:
            while at < end:
                stop = end if end - at <= STRETCH else at + STRETCH
                while at < stop:
                    if indexes[at]:
                        first, at = at, indexes.find(0, at, stop)
                        if at < 0:
                            at = stop
                        fields += [table[index] for index in indexes[first:at]]
                    else:
                        field, at = self._literal(block, at)
                        fields.append(field)
                        table = self._table
                # Huffman code shortens a string to five eighths at most, so that the literals are below 2 * at.
                if not fits or (len(fields) * self._largest + 2 * at > room and section_size(fields) > room):
                    fits = False
                    fields.clear()
        except IndexError:
            raise _fault("an index beyond the tables") from None
        return fields, fits

    def _literal(self, block: bytes, at: int) -> tuple[Header, int]:
        """A field that takes more than one byte, and the offset behind it. Raises ConnectionFault."""
        form = block[at]
        at += 1
        try:
            if form >= 0x80:
                if form == 0x80:
                    raise _fault("index 0")
                index, at = _integer(block, at, 0x7F)
                return self._entry(index), at
            if 0x20 <= form < 0x40:
                raise _fault("a table size update behind a block's start")
            prefix = 0x3F if form >= 0x40 else 0x0F
            index = form & prefix
            if index == prefix:
                index, at = _integer(block, at, prefix)
            if index:
                name = self._entry(index)[0]
            else:
                name, at = _string(block, at, True)
            value, at = _string(block, at, not 0x10 <= form < 0x20 and name not in CREDENTIALS)
        except IndexError:
            raise _fault("a header block that is cut short") from None
        field = (name, value)
        if form >= 0x40:
            self._insert(field)
        return field, at

    def _leads(self, block: bytes, at: int) -> bool:
        """Whether the representation at this offset, none of a single byte, is of a pseudo-header field.

        A name as long as 127 bytes is none of those that there are, and is not looked at.
        """
        form = block[at]
        try:
            if 0x20 <= form < 0x40 or form == 0x80:
                return False  # refused by _literal
            prefix = 0x7F if form >= 0x80 else 0x3F if form >= 0x40 else 0x0F
            index = form & prefix
            if index:
                if index == prefix:
                    index, _ = _integer(block, at + 1, prefix)
                return self._entry(index)[0][:1] == b":"
            length, first = block[at + 1], block[at + 2]
        except IndexError:
            raise _fault("a header block that is cut short") from None
        if not 0 < length & 0x7F < 0x7F:
            return False
        # A colon's Huffman code is seven bits, 1011100.
        return first >> 1 == 0b1011100 if length >= 0x80 else first == 0x3A

    def _entry(self, index: int) -> Header:
        try:
            return self._table[index]
        except IndexError:
            raise _fault("an index beyond the tables") from None

    def _insert(self, field: Header) -> None:
        """Section 4.4. A field that is larger than the table empties it."""
        size = len(field[0]) + len(field[1]) + OVERHEAD
        if self._table is STATIC:
            self._table = STATIC.copy()
        self._table.insert(FIRST_DYNAMIC, field)
        self._size += size
        if self._size > self._capacity:
            self._evict()
        elif size > self._largest:
            self._largest = size
        self.version += 1

    def _evict(self) -> None:
        """Section 4.3."""
        table, size = self._table, self._size
        while size > self._capacity:
            name, value = table.pop()
            size -= len(name) + len(value) + OVERHEAD
        self._size = size

    def _update_size(self, block: bytes) -> int:
        """What a block may begin with (section 4.2). Returns the offset behind it."""
        at = count = 0
        while at < len(block) and 0x20 <= block[at] < 0x40:
            size = block[at] & 0x1F
            at += 1
            if size == 0x1F:
                try:
                    size, at = _integer(block, at, 0x1F)
                except IndexError:
                    raise _fault("a header block that is cut short") from None
            count += 1
            if size > self._max_table or count > SIZE_UPDATES:
                raise _fault("a table size beyond our limit" if size > self._max_table else "too many table sizes")
            self._capacity = size
            self._evict()
            self.version += 1
        return at


def section_size(fields: list[Header]) -> int:
    """RFC 9113 section 6.5.2."""
    return sum([len(name) + len(value) for name, value in fields]) + OVERHEAD * len(fields)


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """Section 5.1: what follows a prefix that is all ones, which is `value`. Returns the sum, and the offset behind it.

    Raises IndexError where the block ends, ConnectionFault.
    """
    for shift in range(0, 7 * CONTINUATION_BYTES, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            if value > LARGEST_INTEGER:
                break
            return value, at
    raise _fault("an integer that is too large")


def _string(block: bytes, at: int, remember: bool) -> tuple[bytes, int]:
    """Section 5.2: a string, and the offset behind it. Raises IndexError where the block ends, ConnectionFault."""
    first = block[at]
    at += 1
    length = first & 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise _fault("a header block that is cut short")
    code = block[at:end]
    if first < 0x80:
        return code, end
    text = _strings.get(code)
    if text is None:
        try:
            text = huffman.decode(code)
        except ValueError as error:
            raise _fault(str(error)) from None
        if remember and length <= STRING_LENGTH:
            if len(_strings) >= REMEMBERED_STRINGS:
                _strings.clear()
            _strings[code] = text
    return text, end


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, reason)
