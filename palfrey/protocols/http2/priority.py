"""The priority that a client asks for (RFC 9218), as the request field `priority` or in a PRIORITY_UPDATE frame: a
dictionary of RFC 8941, `u=0, i`.

It is advice. A value that is no dictionary counts as none, and a member of another type or out of its range as absent
(RFC 9218 section 4).
"""

from __future__ import annotations

import re

Priority = tuple[int, bool]
"""Urgency, 0 (at once) to 7 (background), and whether the response is of use in parts, so that it may share the
connection with others of its urgency."""

DEFAULT: Priority = (3, False)

UNSAID: Priority = (3, True)
"""A client that does not speak of priorities: its responses share the connection, so that none holds another."""

LONGEST = 256
"""Bytes of a value that is read at all; those that say something have six."""

_KEY = rb"[a-z*][a-z0-9_.*\-]*+"
_BARE_ITEM = (
    rb"(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?"  # integer, decimal
    rb'|"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+"'  # string
    rb"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*+"  # token
    rb"|:[A-Za-z0-9+/=]*+:"  # byte sequence
    rb"|\?[01])"  # boolean
)
_PARAMETERS = rb"(?:; *" + _KEY + rb"(?:=" + _BARE_ITEM + rb")?)*+"
_INNER_LIST = rb"\( *(?:" + _BARE_ITEM + _PARAMETERS + rb"(?: +|(?=\))))*+\)"
_MEMBER = re.compile(
    rb"("
    + _KEY
    + rb")(?:=("
    + _BARE_ITEM
    + rb"|"
    + _INNER_LIST
    + rb"))?"
    + _PARAMETERS
    # Behind it are another member or the end.
    + rb"[ \t]*+(?:,[ \t]*+(?!\Z)|\Z)"
)

_USUAL: dict[bytes, Priority] = {b"i": (3, True)}
for _urgency in range(8):
    _USUAL[b"u=%d" % _urgency] = (_urgency, False)
    _USUAL[b"u=%d, i" % _urgency] = _USUAL[b"u=%d,i" % _urgency] = (_urgency, True)


def parse_priority(value: bytes) -> Priority:
    """The field's value, its lines joined with commas -> what it asks for. Raises nothing."""
    return _USUAL.get(value) or _parse(value)


def _parse(value: bytes) -> Priority:
    urgency, incremental = DEFAULT
    value = value.strip(b" ")
    at = 0
    while at < len(value) <= LONGEST:
        member = _MEMBER.match(value, at)
        if member is None:
            return DEFAULT
        key, item = member.groups()
        # The last of several with the same key counts, whatever it is (RFC 8941 section 4.2.2).
        if key == b"u":
            urgency = int(item) if item in _URGENCIES else DEFAULT[0]
        elif key == b"i":
            incremental = item is None or item == b"?1"
        at = member.end()
    return urgency, incremental


_URGENCIES = frozenset(b"%d" % urgency for urgency in range(8))
