"""HPACK's static table (RFC 7541 appendix A), and where to find what in it.

An index counts from 1, and goes on behind the static table with the newest entry of the dynamic one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palfrey.types import Header

_ROWS = """
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


def _field(row: str) -> Header:
    name, _, value = row.partition(" ")
    return name.encode("ascii"), value.encode("ascii")


NO_FIELD: Header = (b"", b"")
"""Stands at index 0, which no representation may use (RFC 7541 section 6.1)."""

STATIC: list[Header] = [NO_FIELD, *map(_field, _ROWS.split("\n")[1:-1])]
"""By index. Decoders share the list and its tuples; none changes it."""

FIRST_DYNAMIC = len(STATIC)
"""62: the index of the newest entry of a dynamic table."""

INDEXES: dict[Header, int] = {field: index for index, field in enumerate(STATIC) if index}
NAMES: dict[bytes, int] = {STATIC[index][0]: index for index in range(FIRST_DYNAMIC - 1, 0, -1)}
"""Name -> the lowest index that has it."""
