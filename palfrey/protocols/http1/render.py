"""Response heads as bytes (RFC 9112 section 4), made of cached lines.

`HeadRenderer` belongs to a worker. An application sends the same few fields over and over, so each (name, value) pair
is checked and encoded once and found again in a bounded cache: 95 ns against 503 for a check by pattern. Fields that
Palfrey has a say in (date, connection, ...) are never cached and take the slower way through `_special`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from palfrey.asgi.stream import REASON, Framing
from palfrey.protocols.response import check_field

if TYPE_CHECKING:
    from palfrey.protocols.response import DefaultFields
    from palfrey.types import Header, Headers

CACHED_LINES = 2048
"""At most so many pairs are remembered; a reflected header would otherwise fill the memory."""
CACHED_LENGTH = 128
"""Longer values (cookies, tokens) are not worth remembering: they do not come again."""

HEADS = 64
"""At most so many heads are remembered whole, until the next tick."""

_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_STATUS_LINES: dict[int, bytes] = {}

# Looked up once, as in asgi/exchange.py.
DECLARED, WHOLE, OPEN, NONE = Framing.DECLARED, Framing.WHOLE, Framing.OPEN, Framing.NONE


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` with its CRLF; a status that nobody registered has an empty reason, which is legal."""
    line = _STATUS_LINES.get(status)
    if line is None:
        line = _STATUS_LINES[status] = b"HTTP/1.1 %d %s\r\n" % (status, _REASONS.get(status, b""))
    return line


def encode_line(name: bytes, value: bytes) -> bytes:
    """One checked field line. Raises InvalidHeader."""
    check_field(name, value)
    return b"%b: %b\r\n" % (name, value)


def chunk(content: bytes, more: bool = True) -> bytes:
    """Content in chunked coding; with `more` false its end, too (RFC 9112 section 7.1)."""
    end = b"" if more else b"0\r\n\r\n"
    return b"%x\r\n%b\r\n%b" % (len(content), content, end) if content else end


class HeadRenderer:
    """Renders heads with a worker's default fields."""

    __slots__ = (
        "_again",
        "_default_fields",
        "_defaults",
        "_defaults_text",
        "_lines",
        "_special_names",
        "_unique",
        "_usual_end",
    )

    def __init__(self, defaults: DefaultFields, unique: bytes = b"") -> None:
        """`unique` names a field that never has the same value twice, and is not remembered therefore."""
        self._default_fields = defaults
        self._special_names = defaults.names | {b"connection", b"keep-alive", b"transfer-encoding", REASON}
        self._unique = unique
        self._lines: dict[Header, bytes] = {}
        self._defaults: dict[bytes, bytes] = {}
        self._defaults_text = self._usual_end = b""
        self._again: dict[int, tuple[Headers, int, bytes | None]] = {}
        """By the id of a head's fields, which are kept alive: what has been made of them since the last tick."""
        self.tick()

    def tick(self) -> None:
        """To be called whenever the default fields have been."""
        self._defaults = {}
        for name, value in self._default_fields.pairs:
            self._defaults[name] = self._defaults.get(name, b"") + b"%b: %b\r\n" % (name, value)
        self._defaults_text = b"".join(self._defaults.values())
        self._usual_end = self._defaults_text + b"\r\n"
        self._again = {}

    def render(
        self, status: int, headers: Headers, framing: Framing, length: int, keep_alive: bool, old: bool
    ) -> tuple[bytes, bool, bool]:
        """One final response's head.

        `length` is the content's length where `framing` is WHOLE. `old` says that the client speaks HTTP/1.0.
        Returns the bytes, whether the content is to be sent in chunked coding, and whether the connection may stay
        open afterwards. Raises InvalidHeader.
        """
        lines = self._lines
        parts = [_STATUS_LINES.get(status) or status_line(status)]
        if status == 204:
            # RFC 9110 section 8.6: a 204 must not say a length; HEAD and 304 may.
            headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        seen: set[bytes] | None = None
        for pair in headers:
            try:
                parts.append(lines[pair])
            except (KeyError, TypeError):  # not seen before, or a list in a tuple's place
                name, value = pair
                lowered = name.lower()
                if lowered not in self._special_names:
                    parts.append(self._remember(name, value))
                    continue
                seen = seen or set()
                seen.add(lowered)
                if lowered == b"connection":
                    keep_alive = b"close" not in value.lower() and keep_alive
                    parts.append(_kept_options(value))
                elif name is REASON:
                    parts[0] = b"HTTP/1.1 %d %b\r\n" % (status, value)
                elif lowered not in (b"transfer-encoding", b"keep-alive"):
                    # Those are the server's business (hop-by-hop framing, RFC 9110 section 7.6.1).
                    parts.append(encode_line(name, value))
        if seen is None and keep_alive and not old and (framing is DECLARED or framing is NONE):
            parts.append(self._usual_end)
            return b"".join(parts), False, True
        parts.append(self._defaults_without(seen) if seen is not None else self._defaults_text)
        chunked = False
        if framing is WHOLE:
            parts.append(b"content-length: %d\r\n" % length)
        elif framing is OPEN:
            if old:
                keep_alive = False
            else:
                chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
        if not keep_alive:
            parts.append(b"connection: close\r\n\r\n")
        elif old:
            parts.append(b"connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
        return b"".join(parts), chunked, keep_alive

    def render_again(self, status: int, headers: Headers) -> bytes | None:
        """The head of a response with its own Content-Length, on a connection that stays open, for fields that nobody
        changes and that come again as the same object; None where they end the connection. Raises InvalidHeader."""
        known = self._again.get(id(headers))
        if known is None or known[1] != status:
            head, _, stays = self.render(status, headers, DECLARED, 0, True, False)
            if len(self._again) >= HEADS:
                self._again.clear()
            known = self._again[id(headers)] = headers, status, head if stays else None
        return known[2]

    def render_switch(self, status: int, headers: Headers) -> bytes:
        """A 101's head: the client speaks another protocol behind it. Raises InvalidHeader."""
        lines = b"".join([encode_line(name, value) for name, value in headers])
        seen = {name.lower() for name, _ in headers}
        return status_line(status) + lines + self._defaults_without(seen) + b"\r\n"

    def _remember(self, name: bytes, value: bytes) -> bytes:
        line = encode_line(name, value)
        if len(value) <= CACHED_LENGTH and name != self._unique:
            if len(self._lines) >= CACHED_LINES:
                self._lines.clear()
            self._lines[name, value] = line
        return line

    def _defaults_without(self, seen: set[bytes]) -> bytes:
        """The default fields that the application did not set itself."""
        return b"".join(line for name, line in self._defaults.items() if name not in seen)


def _kept_options(value: bytes) -> bytes:
    """The line of an application's Connection field, without what is the server's business in it.

    RFC 9110 section 7.8: a response that has Upgrade, as a 426 must, names it here.
    """
    return b"connection: Upgrade\r\n" if b"upgrade" in value.lower() else b""


def render_informational(status: int, headers: Headers) -> bytes:
    """An interim response's head. Raises InvalidHeader."""
    return status_line(status) + b"".join([encode_line(name, value) for name, value in headers]) + b"\r\n"
