"""The opening handshake (RFC 6455 section 4.2): what a request asks for, and what agrees to it.

Two ways lead to a WebSocket, one row each in `WAYS`: HTTP/1.1's Upgrade, answered with 101, and extended CONNECT (RFC
8441), answered with 200. What is asked and answered in fields is the same for both but for the key.

A request that asks for another protocol is an ordinary one. One that asks for a WebSocket in a wrong way is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from palfrey.protocols.websocket import deflate

if TYPE_CHECKING:
    from palfrey.types import Header, Headers

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = b"13"


@dataclass(frozen=True, slots=True)
class Way:
    """One row: how this HTTP version comes to a WebSocket."""

    status: int
    """Of the response that agrees."""
    keyed: bool
    """Whether there is a Sec-WebSocket-Key to answer (RFC 8441 section 5 has none)."""


WAYS = {"1.1": Way(101, True), "2": Way(200, False), "3": Way(200, False)}


class HandshakeRefused(Exception):
    """The client asked in a wrong way: the status and fields that tell it so."""

    def __init__(self, status: int, reason: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


@dataclass(slots=True)
class Handshake:
    """A good request for a WebSocket."""

    way: Way
    key: bytes
    subprotocols: list[str] = field(default_factory=list)
    offers: list[dict[str, str | None]] = field(default_factory=list)
    """The parameters of each permessage-deflate that was offered, in order."""

    def answer(self, subprotocol: str | None, terms: deflate.Terms | None) -> list[Header]:
        """The fields of the response that agrees, without the application's own."""
        fields: list[Header] = []
        if self.way.keyed:
            fields += [
                (b"upgrade", b"websocket"),
                (b"connection", b"Upgrade"),
                (b"sec-websocket-accept", accept_key(self.key)),
            ]
        if subprotocol is not None:
            fields.append((SUBPROTOCOL, subprotocol.encode("ascii")))
        if terms is not None:
            fields.append((b"sec-websocket-extensions", terms.answer.encode("ascii")))
        return fields

    def agree(
        self, subprotocol: str | None, wanted: deflate.Terms | None, headers: Headers, id_field: Header | None
    ) -> tuple[list[Header], deflate.Terms | None]:
        """The whole response's fields, and what is settled about compression. `headers` are the application's, some of
        which are not its to set; `wanted` is what the server would like of permessage-deflate, `id_field` the request's
        id."""
        terms = deflate.agree(self.offers, wanted) if wanted is not None else None
        fields = self.answer(subprotocol, terms)
        own = OWN_FIELDS if subprotocol is None else OWN_FIELDS | {SUBPROTOCOL}
        fields += [(name, value) for name, value in headers if name.lower() not in own]
        if id_field is not None and not any(name.lower() == id_field[0] for name, _ in fields):
            fields.append(id_field)
        return fields, terms


SUBPROTOCOL = b"sec-websocket-protocol"
OWN_FIELDS = frozenset(
    (
        b"upgrade",
        b"connection",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-version",
        b"content-length",
        b"transfer-encoding",
    )
)
"""Fields of the response that an application has no say in."""


def accept_key(key: bytes) -> bytes:
    """Section 4.2.2: proof that the server read the key."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def read_handshake(version: str, headers: Iterable[Header]) -> Handshake:
    """The handshake of a request that `asks_for_websocket`. Raises HandshakeRefused."""
    way = WAYS[version]
    versions, keys = [], []
    handshake = Handshake(way, b"")
    for name, value in headers:
        if name == b"sec-websocket-version":
            versions.append(value)
        elif name == b"sec-websocket-key":
            keys.append(value)
        elif name == SUBPROTOCOL:
            handshake.subprotocols += [item.decode("latin-1") for item in _items(value)]
        elif name == b"sec-websocket-extensions":
            handshake.offers += _offers(value)
    if versions != [VERSION]:
        # Section 4.2.2: the version that is spoken here; and RFC 9110 section 15.5.22.
        spoken = ((b"sec-websocket-version", VERSION), (b"upgrade", b"websocket"), (b"connection", b"Upgrade"))
        raise HandshakeRefused(426, "not WebSocket version 13", spoken)
    if way.keyed:
        if len(keys) != 1 or not _is_key(keys[0]):
            raise HandshakeRefused(400, "Sec-WebSocket-Key is not 16 bytes of base64")
        handshake.key = keys[0]
    return handshake


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def _items(value: bytes) -> list[bytes]:
    return [item for part in value.split(b",") if (item := part.strip(b" \t"))]


def _offers(value: bytes) -> list[dict[str, str | None]]:
    """The parameters of each permessage-deflate in a Sec-WebSocket-Extensions field.

    One that gives a parameter twice is left out, since it must be declined (RFC 7692 section 7.1).
    """
    offers = []
    for item in _items(value):
        name, *parameters = [part.strip() for part in item.decode("latin-1").split(";")]
        pairs = [_parameter(text) for text in parameters]
        if name == deflate.NAME and len(dict(pairs)) == len(pairs):
            offers.append(dict(pairs))
    return offers


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name.strip(), value.strip().strip('"') if equals else None
