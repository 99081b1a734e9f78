"""What a line of the access log is made of: the facts of a finished request, and text that is safe to write.

Everything that a client may choose (method, target, header values, its address behind a proxy) passes through
`escape()`, or through JSON's own escapes: a control character, a quote, a backslash or a byte beyond ASCII is written
as \\xNN, so that a request can neither forge a line nor close a quoted field. What repeats (client, method, status) is
remembered as ready text in small bounded caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, TypeVar

from palfrey.types import Header, HostPort

MEMO_ENTRIES, MEMO_LENGTH = 1024, 200
"""Bounds of each cache of ready text, which clients must not be able to fill with memory."""


class AccessFacts(Protocol):
    """What is read of a finished request. An Exchange is one; attribute reads are all it costs."""

    @property
    def client(self) -> HostPort | None: ...
    @property
    def method(self) -> str: ...
    @property
    def target(self) -> bytes:
        """The request target as it was sent, query included."""

    @property
    def http_version(self) -> str:
        """ "1.1", "2" …"""

    @property
    def status(self) -> int: ...
    @property
    def body_bytes(self) -> int:
        """Octets of response content sent, without framing."""

    @property
    def started(self) -> float:
        """When the request began, on time.monotonic()."""

    @property
    def request_id(self) -> str:
        """By the `request_id` setting; empty where that is off."""

    @property
    def request_headers(self) -> Sequence[Header]:
        """Names in lower case."""

    @property
    def response_headers(self) -> Sequence[Header]:
        """Names in whatever case the application likes."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What went over a WebSocket, and how it ended."""

    messages_in: int
    messages_out: int
    bytes_in: int
    """Octets of the messages from the client as they came: without framing, before inflating."""
    bytes_out: int
    """The same of those that were sent."""
    close_code: int
    """The first one that was given, by either side; 1006 where the connection just ended."""


class WebSocketFacts:
    """A WebSocket that is over: the facts of the request that it began with, and its counts. An AccessFacts.

    A copy, made once for each WebSocket, so that nothing is asked of requests that are none.
    """

    __slots__ = (
        "body_bytes",
        "client",
        "counts",
        "http_version",
        "method",
        "request_headers",
        "request_id",
        "response_headers",
        "started",
        "status",
        "target",
    )

    def __init__(self, request: AccessFacts, counts: Counts) -> None:
        self.client = request.client
        self.method = request.method
        self.target = request.target
        self.http_version = request.http_version
        self.status = request.status
        self.body_bytes = counts.bytes_out
        self.started = request.started
        self.request_id = request.request_id
        self.request_headers = request.request_headers
        self.response_headers = request.response_headers
        self.counts = counts


Line = Callable[[AccessFacts, float], str]
"""(facts, when it ended on time.monotonic()) -> the line, without its newline."""
WebSocketLine = Callable[[WebSocketFacts, float], str]
_Key = TypeVar("_Key")

SAFE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""What `escape()` leaves as it is: `not data.translate(None, SAFE)` says whether that is all there is."""
_ESCAPED = [chr(byte) if byte in SAFE else f"\\x{byte:02x}" for byte in range(256)]


def escape(data: bytes) -> str:
    """`data` as printable ASCII without quotes and backslashes, other bytes as \\xNN."""
    if not data.translate(None, SAFE):
        return data.decode("ascii")
    return "".join([_ESCAPED[byte] for byte in data])


def escape_text(text: str) -> str:
    """The same for text, by its UTF-8 bytes. Lone surrogates are no reason to fail."""
    return escape(text.encode("utf-8", "backslashreplace"))


class Memo(dict[_Key, str]):
    """key -> text, made on first use. Bounded: it is emptied when full, and long texts are not remembered."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[_Key], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: _Key) -> str:
        text = self._make(key)
        if len(text) <= MEMO_LENGTH:
            if len(self) >= MEMO_ENTRIES:
                self.clear()
            self[key] = text
        return text


def client_text(client: HostPort | None) -> str:
    """`127.0.0.1:53412`, `[::1]:53412`, the path of a UNIX socket's client, or `-`."""
    if client is None:
        return "-"
    host, port = client
    host = escape_text(host)
    if port is None:
        return host or "unix"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def status_text(status: int) -> str:
    """`200 OK`, or the number alone where it has no name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


Fields = dict[bytes, bytes]
"""A request's fields by name, repeated ones joined."""


def fields_of(headers: Sequence[Header]) -> Fields:
    """All fields in one go: for two of them it is cheaper than to look for each, and most formats want three."""
    fields = dict(headers)
    if len(fields) != len(headers):
        fields.clear()
        for name, value in headers:  # RFC 9110 section 5.3
            fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def duration(facts: AccessFacts, ended: float) -> float:
    """Seconds from the head's arrival to the end of the response."""
    return max(ended - facts.started, 0.0)


_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def time_stamp() -> Callable[[], str]:
    """A clock that says `[20/Nov/2026:06:44:21 +0000]`, made once a second."""
    known = (0, "")

    def stamp() -> str:
        nonlocal known
        now = int(time.time())
        if known[0] != now:
            # strftime's %b follows the locale; the log's readers do not.
            local = time.localtime(now)
            known = (now, time.strftime(f"[%d/{_MONTHS[local.tm_mon]}/%Y:%H:%M:%S %z]", local))
        return known[1]

    return stamp
