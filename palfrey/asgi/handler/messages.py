"""What a handler sees and fills in, and what of it can be sent: scope and content -> `Request`, `Response` -> `Answer`.

All that is wrong with a response raises here, before a byte of it is out, and names the attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from palfrey.asgi.messages import ApplicationError

if TYPE_CHECKING:
    from palfrey.types import Header, Scope


class Headers(MutableMapping[str, Any]):
    """A dictionary whose names have no case; it keeps the order, and the spelling that a name was first set with.

    Of a request's repeated headers the values are joined by `, ` (cookies by `; `). In a response a list of values is
    sent as one header for each.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._items: dict[str, tuple[str, Any]] = {}
        self.update(items)

    def __getitem__(self, name: str) -> Any:
        return self._items[name.lower()][1]

    def __setitem__(self, name: str, value: Any) -> None:
        key = name.lower()
        self._items[key] = (self._items[key][0] if key in self._items else name, value)

    def __delitem__(self, name: str) -> None:
        del self._items[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._items

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._items.values()])

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._items.values())!r})"

    def copy(self) -> Headers:
        return Headers(self)

    __copy__ = copy


# In ------------------------------------------------------------------------------------------------------------------


class Request:
    """What a client asks for."""

    __slots__ = ("client", "data", "headers", "method", "path", "protocol", "query", "query_string")

    def __init__(self, scope: Scope, data: bytes) -> None:
        self.method: str = scope["method"]
        """In capitals: GET."""
        self.path: list[str] = _segments(scope)
        """Decoded segments: `/a/b%20c` is ["a", "b c"], `/` is [""], `/a/` is ["a", ""]; there is always a path[0]."""
        self.query_string: str = scope["query_string"].decode("latin-1")
        """As it came, for those to whom a name's last value is not enough."""
        self.query: dict[str, str] = dict(parse_qsl(self.query_string, keep_blank_values=True))
        """Decoded; of a name that is repeated, the last value."""
        self.protocol = f"HTTP/{scope['http_version']}"
        """HTTP/1.1"""
        self.headers = _request_headers(scope["headers"])
        self.client: tuple[str, int | None] | None = scope["client"]
        """(host, port) of the client, or of whoever a trusted proxy says that it is; None over a UNIX socket."""
        self.data = data
        """The content, b"" if there is none."""

    def __repr__(self) -> str:
        path = "/".join(["", *self.path])
        # For logs: a line feed in it, which any client may ask for, must not begin a line there.
        return f"<Request {self.method} {path if path.isprintable() else path.encode('unicode_escape').decode()}>"


def _segments(scope: Scope) -> list[str]:
    """Split before they are decoded, so that an encoded slash stays within its segment."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return [unquote(each) for each in raw.decode("latin-1").removeprefix("/").split("/")]


def _request_headers(fields: Iterable[Header]) -> Headers:
    headers = Headers()
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in headers:
            value = headers[name] + ("; " if name == "cookie" else ", ") + value
        headers[name] = value
    return headers


# Out -----------------------------------------------------------------------------------------------------------------


class Response:
    """What is answered. The handler fills it in."""

    __slots__ = ("_headers", "_protocol", "data", "status")

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._headers = Headers()
        self.status = 200
        """From 200 to 999."""
        self.data: str | bytes | Iterable[str | bytes] | None = None
        """Text (sent as UTF-8), bytes, or an iterable of either, which is sent piece by piece; None: nothing. If it has
        a `close()`, that is called when it is not needed any more."""

    @property
    def protocol(self) -> str:
        """What it will be sent by, which is the request's."""
        return self._protocol

    @property
    def headers(self) -> Headers:
        """To be filled, or set to any dictionary."""
        return self._headers

    @headers.setter
    def headers(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        self._headers = Headers(items)


class Answer(NamedTuple):
    """A response that has been looked at."""

    status: int
    fields: list[Header]
    body: bytes | None
    """None for content that streams."""


REFUSAL = Answer(
    503,
    [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"20"), (b"retry-after", b"1")],
    b"Service Unavailable\n",
)


def answer(response: Response) -> Answer:
    """Raises ApplicationError for what cannot be sent."""
    data, status = response.data, response.status
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ApplicationError(f"response.status is {status!r}: it must be a number from 200 to 999")
    body: bytes | None = None
    if data is None:
        body = b""
    elif isinstance(data, (str, bytes, bytearray, memoryview)):
        body = encoded(data)
    elif not isinstance(data, Iterable) or isinstance(data, Mapping):
        raise ApplicationError(
            f"response.data is {type(data).__name__}: it must be str, bytes, or an iterable of these"
        )
    fields: list[Header] = []
    for name, value in response.headers.items():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            fields.append(_field(name, each))
    if isinstance(data, str) and "content-type" not in response.headers:
        fields.append((b"content-type", b"text/plain; charset=utf-8"))
    if body is not None and "content-length" not in response.headers and status not in (204, 304):
        fields.append((b"content-length", b"%d" % len(body)))
    return Answer(int(status), fields, body)


def _field(name: str, value: object) -> Header:
    if value is None:
        raise ApplicationError(f"response.headers[{name!r}] is None: it must be text")
    try:
        return name.encode("latin-1"), value if isinstance(value, bytes) else str(value).encode("latin-1")
    except UnicodeEncodeError:
        raise ApplicationError(f"response.headers[{name!r}] is {value!r}: headers are sent as latin-1") from None


def encoded(piece: object) -> bytes:
    """Raises ApplicationError for what is neither text nor bytes."""
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise ApplicationError(f"response.data yielded {type(piece).__name__}: pieces are str or bytes")
