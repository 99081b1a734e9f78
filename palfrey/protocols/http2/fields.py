"""The fields of a header block, checked (RFC 9113 section 8.2): each pair is looked up, and read when it is new.

As in HTTP/1.1 (http1/fields.py), clients send the same few fields over and over, so a worker remembers the pairs that
it found good, bounded in number and length, and one that is remembered costs a set's look-up. Nothing with credentials
is remembered, and nothing that the server acts upon: that is read each time, by `request.py`.

What is wrong here makes a request malformed (section 8.1.1), which ends its stream.
"""

from __future__ import annotations

import re

from palfrey.errors import ProtocolError
from palfrey.protocols.http1.fields import (
    CREDENTIALS,
    LINE_LENGTH,
    LINES_OF_A_NAME,
    NAME_LENGTH,
    REMEMBERED_LINES,
    REMEMBERED_NAMES,
)
from palfrey.protocols.http1.head import FORWARDED
from palfrey.protocols.http2.codes import ErrorCode, StreamFault
from palfrey.types import Header

CONNECTION_SPECIFIC = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""What HTTP/2 has no use for, and no message may have (section 8.2.2)."""

SPECIAL = FORWARDED | {b"host", b"content-length", b"expect", b"cookie", b"priority"}
"""The fields of a request that the server itself acts upon."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*+")


def malformed(reason: str) -> StreamFault:
    """To be raised for a malformed message (section 8.1.1)."""
    return StreamFault(ErrorCode.PROTOCOL_ERROR, reason)


def check_value(value: bytes) -> None:
    """Raises StreamFault for what is no field value, pseudo-header or not (section 8.2.1, RFC 9110 section 5.5)."""
    if not (value.isascii() and str(value, "ascii").isprintable()) and _VALUE.fullmatch(value) is None:
        raise malformed("a control character in a field value")
    if value.strip(b" \t") != value:
        raise malformed("white space around a field value")


def field_too_large() -> ProtocolError:
    return ProtocolError(431, "a header field is longer than limit_request_field_size")


class FieldSieve:
    """A worker's memory of pairs, which checks those that it does not have."""

    __slots__ = ("_header_map", "_limit", "_names", "_plain")

    def __init__(self, header_map: str, limit_field: int) -> None:
        """`header_map`: whether names with an underscore are to "keep", "drop" or "refuse"; `limit_field`: the longest
        field that is allowed, in bytes, as it would be written in HTTP/1.1."""
        self._header_map = header_map
        self._limit = limit_field
        self._plain: set[Header] = set()
        """Good, short enough, and of no interest to the server."""
        self._names: dict[bytes, int] = {}
        """Good names, and how many more pairs of each may be remembered."""

    def sift(self, fields: list[Header]) -> tuple[list[Header], list[Header]]:
        """The fields that count, which may be the same list, and those that were not remembered: all SPECIAL ones, and
        credentials, are among these.

        Raises StreamFault for malformed ones, ProtocolError for one that is too long or that `header_map` refuses.
        """
        plain = self._plain
        new = [field for field in fields if field not in plain]
        # Each has to be looked at, whatever the one before it was.
        takes = [self._takes(field) for field in new]
        if False in takes:
            fields = [field for field in fields if b"_" not in field[0]]
        return fields, new

    def _takes(self, field: Header) -> bool:
        """Whether a field, which is not remembered, counts; all without an underscore do. Raises as `sift` does."""
        name, value = field
        check_value(value)
        length = len(name) + len(": ") + len(value)
        if length > self._limit:
            raise field_too_large()
        if name in SPECIAL:
            return True
        room = self._names.get(name)
        if room is None:
            if name in CONNECTION_SPECIFIC:
                raise malformed("a connection-specific field")
            if _NAME.fullmatch(name) is None:
                raise malformed(_what_is_wrong(name))
            if self._header_map != "keep" and b"_" in name:
                # Neither it nor its name is remembered, so that each comes by here.
                if self._header_map == "refuse":
                    raise ProtocolError(400, "an underscore in a field name, which header_map refuses")
                return False
            room = self._remember_name(name)
        if name == b"te" and value.lower() != b"trailers":
            raise malformed("te says more than trailers")
        if room and length <= LINE_LENGTH:
            if len(self._plain) >= REMEMBERED_LINES:
                self._plain.clear()
                self._names.clear()
            self._names[name] = room - 1
            self._plain.add(field)
        return True

    def _remember_name(self, name: bytes) -> int:
        room = 0 if name in CREDENTIALS or len(name) > NAME_LENGTH else LINES_OF_A_NAME
        if len(name) <= NAME_LENGTH:
            if len(self._names) >= REMEMBERED_NAMES:
                self._names.clear()
            self._names[name] = room
        return room


def _what_is_wrong(name: bytes) -> str:
    """Why it is no field name. Only for what is refused."""
    if name.startswith(b":"):
        return "a pseudo-header field where none may be"
    if _NAME.fullmatch(name.lower()) is not None:
        return "an upper-case field name"
    return "a malformed field name"
