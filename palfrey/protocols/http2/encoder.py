"""Fields -> HPACK header blocks (RFC 7541), with the dynamic table that we fill at the peer.

What is worth an entry is decided elsewhere (render.py): this is the table and the bytes. A block is put together from

    `encoder.begin()`          what has to stand first: nothing, or the table's new size. Once for each block
    `encoder.indexed(pair)`    the pair as an index, or None if neither table has it
    `encoder.insert(pair)`     the pair as a literal that the peer adds to its table, and we to ours
    `literal(pair)`            the pair as a literal that is not added. Depends on no table, so that it can be kept.
                               Its string is in Huffman code; `literal((name, b""))[:-1] + plain(value)` is one that
                               takes less to make, for a value that is sent once

in the order in which they are sent, and has to be sent once it was begun: the peer's table follows ours. An index
changes its meaning with each insertion. `version` grows then; what `indexed` gave is right for as long as it is the
same, and `literal` always.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from palfrey.protocols.http2 import huffman
from palfrey.protocols.http2.decoder import DEFAULT_TABLE, OVERHEAD
from palfrey.protocols.http2.static import FIRST_DYNAMIC, INDEXES, NAMES

if TYPE_CHECKING:
    from palfrey.types import Header

INDEXED, INSERTED, SIZE, NEVER, PLAIN = 0x80, 0x40, 0x20, 0x10, 0x00
"""The first bits of representations (section 6)."""
HUFFMAN = 0x80
"""The first bit of a string in Huffman code (section 5.2)."""


class Encoder:
    """One connection's."""

    __slots__ = ("_capacity", "_entries", "_inserted", "_limit", "_lowest", "_numbers", "_size", "_told", "version")

    def __init__(self, max_table: int = DEFAULT_TABLE) -> None:
        """`max_table`: the most that we want to use, whatever the peer allows."""
        self.version = 0
        self._entries: deque[Header] = deque()
        """Oldest first."""
        self._numbers: dict[Header, int] = {}
        """The count of insertions at which an entry was the newest."""
        self._inserted = self._size = 0
        self._limit = min(max_table, DEFAULT_TABLE)
        self._told = self._lowest = self._capacity = DEFAULT_TABLE
        """What the peer knows of, the lowest one since, and the one that holds."""
        if max_table < DEFAULT_TABLE:
            self.resize(max_table)

    def resize(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE, once it is acknowledged. It is told in the next block."""
        self._capacity = min(size, self._limit)
        self._lowest = min(self._lowest, self._capacity)
        self._evict(self._capacity)

    def begin(self) -> bytes:
        """What a block begins with: nothing, as a rule, or the table's new size (RFC 7541 section 4.2)."""
        told, lowest, capacity = self._told, self._lowest, self._capacity
        if lowest == capacity == told:
            return b""
        self._told = self._lowest = capacity
        update = _integer(SIZE, 0x1F, capacity)
        return _integer(SIZE, 0x1F, lowest) + update if lowest < told and lowest < capacity else update

    def indexed(self, pair: Header) -> bytes | None:
        """The pair as an index into either table, right until `version` grows; None if it is in none."""
        number = self._numbers.get(pair)
        if number is not None:
            return _INDEXED[FIRST_DYNAMIC + self._inserted - number]
        index = INDEXES.get(pair)
        return None if index is None else _INDEXED[index]

    def insert(self, pair: Header) -> bytes:
        """The pair as a literal, and from now on the newest entry. One that does not fit leaves the table alone."""
        size = len(pair[0]) + len(pair[1]) + OVERHEAD
        if size > self._capacity:
            return literal(pair)
        self._evict(self._capacity - size)
        self._size += size
        self._inserted += 1
        self._entries.append(pair)
        self._numbers[pair] = self._inserted
        self.version += 1
        return _render(INSERTED, 0x3F, pair)

    def _evict(self, room: int) -> None:
        """Drops the oldest until the table is no larger (section 4.3)."""
        entries, numbers = self._entries, self._numbers
        while self._size > room:
            if numbers.get(entries[0]) == self._inserted - len(entries) + 1:  # not inserted again since
                del numbers[entries[0]]
            name, value = entries.popleft()
            self._size -= len(name) + len(value) + OVERHEAD
            self.version += 1


def literal(pair: Header, never: bool = False) -> bytes:
    """A field that no table gets. `never`: nor that of anybody who passes it on, since it is secret (section 7.1.3)."""
    return _render(NEVER if never else PLAIN, 0x0F, pair)


def _render(form: int, prefix: int, pair: Header) -> bytes:
    name, value = pair
    index = NAMES.get(name)
    start = bytes((form,)) + _string(name) if index is None else _integer(form, prefix, index)
    return start + _string(value)


def plain(text: bytes) -> bytes:
    """Section 5.2: a string as it is. A fourth longer than in Huffman code, and made in a tenth of the time."""
    return _integer(PLAIN, 0x7F, len(text)) + text


def _string(text: bytes) -> bytes:
    """Section 5.2: in Huffman code where that is shorter."""
    code = huffman.encode(text)
    if len(code) < len(text):
        return _integer(HUFFMAN, 0x7F, len(code)) + code
    return plain(text)


def _integer(form: int, prefix: int, value: int) -> bytes:
    """Section 5.1: behind the bits of `form`; `prefix` is the largest number that fits beside them."""
    if value < prefix:
        return bytes((form | value,))
    digits = [form | prefix]
    value -= prefix
    while value > 0x7F:
        digits.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes((*digits, value))


_INDEXED = [_integer(INDEXED, 0x7F, index) for index in range(FIRST_DYNAMIC + DEFAULT_TABLE // OVERHEAD)]
"""By index, as many as there can be."""
