"""`RequestParser`: bytes off the wire -> requests, one after the other. Pure: no socket, no loop, no clock.

One parser reads one connection. `feed` takes bytes as they come, in whatever pieces, and stops behind the request that
it reads: what it returns is how many it used up, and the rest is the next request's, to be fed behind `next()`.

    phase     until               then
    HEAD      its empty line      `request` is there
    CONTENT   its last byte       what has come is in `request.body`, to be read at once or it stays in memory
    CHUNKS    its last chunk      the same, decoded
    HELD      `next()`            `completed`
    CLOSED                        `feed` raises `error` again; the connection is to be answered and closed

Both this and the server's connection are a `Reader` (protocols/http1/reader.py), which cuts the stream, and read heads
by protocols/http1/heads.py and chunks by protocols/http1/chunked.py; the tests replay the server's corpus here.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palfrey.errors import ProtocolError
from palfrey.http.errors import ClientGone, RequestError, typed
from palfrey.http.pieces import Uri
from palfrey.protocols.http1.fields import FieldReader, make_parser
from palfrey.protocols.http1.head import CHUNKED
from palfrey.protocols.http1.heads import NO_SECTION, HeadReader, kept
from palfrey.protocols.http1.reader import CLOSED, CONTENT, HEAD, HELD, Reader
from palfrey.protocols.http1.target import with_host

if TYPE_CHECKING:
    from palfrey.protocols.http1.head import Framing
    from palfrey.types import Header


HEADER_MAPS = ("keep", "drop", "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken, in bytes; what is longer is refused with the status beside it. The defaults are the server's.
    0 stands for no limit of its own, except for the head."""

    request_line: int = 8190
    """414."""
    fields: int = 100
    """Their number: 431."""
    field_size: int = 8190
    """Of one field's line: 431."""
    head: int = 65536
    """Of all lines together: 431."""
    body: int = 0
    """413."""
    header_map: str = "keep"
    """Fields whose name has an underscore, which CGI and WSGI cannot tell from a hyphen: keep, drop or refuse (400)."""

    def __post_init__(self) -> None:
        """Raises ValueError for what is no limit."""
        for name in ("request_line", "fields", "field_size", "head", "body"):
            value, least = getattr(self, name), 1 if name == "head" else 0
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}: it has to be a whole number, {least} or more")
        if self.header_map not in HEADER_MAPS:
            raise ValueError(f"header_map is {self.header_map!r}: it has to be one of {', '.join(HEADER_MAPS)}")


class Memory(HeadReader):
    """What connections with the same limits may share: the lines of heads that were found good. For one thread.

    Clients say the same again and again, so that a head is mostly looked up rather than read. It is bounded, below four
    megabytes whatever clients send, and holds no Authorization and no Cookie.
    """

    __slots__ = ("limits",)

    def __init__(self, limits: Limits | None = None, parser: str = "auto") -> None:
        """`parser` has to agree with our own reading of each line: httptools, h11 or auto. Raises BootError for one
        that is not installed, ValueError for one that is not known."""
        self.limits = limits = limits or Limits()
        fields = FieldReader(make_parser(parser), limits.header_map)
        super().__init__(fields, limits.head, limits.request_line, limits.fields, limits.field_size, limits.body)


SMALL = 1024
"""Pieces of content are put together up to so many bytes. Each takes some forty more, and many have a single one."""


class Body:
    """A request's content as it comes. Nothing is awaited: what has not come yet is not there."""

    __slots__ = ("_at", "_pieces", "complete", "received", "waiting")

    def __init__(self, complete: bool) -> None:
        self.complete = complete
        """Nothing more will come. `read` may still have something."""
        self.received = 0
        """Bytes in all, so far."""
        self.waiting = 0
        """Bytes that were not read yet."""
        self._pieces: deque[bytes] = deque()
        self._at = 0
        """Bytes of the first piece that were read."""

    def read(self, size: int = -1) -> bytes:
        """What has come, at most `size` bytes of it. b"" where nothing waits; `complete` tells whether that is all."""
        pieces = self._pieces
        wanted = self.waiting if size < 0 else min(size, self.waiting)
        self.waiting -= wanted
        found = []
        while wanted:
            piece = pieces[0]
            if self._at or wanted < len(piece):
                piece = piece[self._at : self._at + wanted]
            wanted -= len(piece)
            self._at += len(piece)
            if self._at == len(pieces[0]):
                pieces.popleft()
                self._at = 0
            found.append(piece)
        return found[0] if len(found) == 1 else b"".join(found)

    def _give(self, data: bytes, last: bool) -> None:
        if data:
            if self._pieces and len(self._pieces[-1]) + len(data) <= SMALL:
                self._pieces[-1] += data
            else:
                self._pieces.append(data)
            self.received += len(data)
            self.waiting += len(data)
        self.complete = last

    def __repr__(self) -> str:
        return f"<Body {self.received} bytes, {self.waiting} to be read{', complete' if self.complete else ''}>"


HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        b"expect",
    )
)
"""RFC 9110 section 7.6.1; trailers are dropped here, and an expectation is answered by who reads the request."""
FRAMING = frozenset((b"host", b"content-length"))
"""No option of a connection: whoever names them so wants to be read in two ways."""


class Request:
    """One request's head, and its content."""

    __slots__ = (
        "body",
        "expects_continue",
        "headers",
        "keep_alive",
        "length",
        "method",
        "target",
        "upgrade",
        "uri",
        "version",
    )

    def __init__(
        self, method: str, target: bytes, uri: Uri, version: str, headers: list[Header], frame: Framing
    ) -> None:
        self.method = method
        self.target = target
        """As it came."""
        self.uri = uri
        self.version = version
        """`1.1` or `1.0`."""
        self.headers = headers
        """In order, names in lower case. Where the target has a host, Host is that one (RFC 9112 section 3.2.2)."""
        self.length = frame.length if frame.length != CHUNKED else None
        """Of the content, in bytes: 0 where there is none, None where only its end will tell (chunked coding)."""
        self.keep_alive = frame.keep_alive
        """Whether another request may follow on this connection."""
        self.expects_continue = frame.expects_continue
        """The client waits for `100 Continue` before it sends the content (RFC 9110 section 10.1.1)."""
        self.upgrade = frame.upgrade
        """Other protocols that it would like to speak, in lower case (RFC 9110 section 7.8)."""
        self.body = Body(complete=not frame.length)

    @property
    def end_to_end(self) -> list[Header]:
        """The fields that a proxy passes on: without those for its own connection (RFC 9110 section 7.6.1)."""
        named = b",".join(value for name, value in self.headers if name == b"connection").lower().split(b",")
        dropped = HOP_BY_HOP | {option.strip() for option in named} - FRAMING
        return [field for field in self.headers if field[0] not in dropped]

    @property
    def origin_form(self) -> bytes:
        """The target as a proxy gives it to the origin (RFC 9112 sections 3.2.1 and 3.2.4)."""
        if self.uri.host is None:
            return self.target
        if self.method == "OPTIONS" and self.target.partition(b"://")[2] == self.uri.host:
            return b"*"
        return self.uri.raw_path + b"".join(self.target.partition(b"?")[1:])

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target!r} HTTP/{self.version}>"


class RequestParser(Reader):
    """See the module."""

    __slots__ = (
        "_chunks",
        "_pending",
        "_received",
        "_remaining",
        "_searched",
        "_section",
        "error",
        "heads",
        "phase",
        "request",
    )

    def __init__(self, limits: Limits | None = None, memory: Memory | None = None) -> None:
        """Without either the limits are the server's. A `memory` brings its own: raises ValueError for others."""
        if memory is None:
            memory = Memory(limits)
        elif limits not in (None, memory.limits):
            raise ValueError("the memory was made with other limits: leave them out here")
        self.heads = memory
        self.phase = HEAD
        self._pending = b""
        self._searched = 0
        self._section = NO_SECTION
        self._remaining = 0
        self._received = 0
        self._chunks = None
        self.request: Request | None = None
        """There once its head is; None before."""
        self.error: RequestError | None = None
        """What is wrong, once `feed` or `feed_eof` has raised it."""

    @property
    def completed(self) -> bool:
        """The request is whole, its content included."""
        return self.phase is HELD

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """Bytes that the client sent -> how many of them were used up: all, unless the request is `completed`.

        A buffer may be filled anew behind it: nothing of `data` is kept but where it is bytes. Raises ParseError or
        Unsupported.
        """
        if self.error is not None:
            raise copy(self.error)
        rest = self._pending + data
        self._pending = b""
        try:
            while rest and self.phase is not HELD:
                if self.phase is HEAD:
                    rest = self._take_head(rest)
                elif self.phase is CONTENT:
                    rest = self._take_content(rest)
                else:
                    rest = self._take_chunks(rest)
        except ProtocolError as error:
            raise self._failed(typed(error)) from None
        return len(data) - len(rest)

    def feed_eof(self) -> None:
        """The client has ended its side. Raises ClientGone where that cuts a request short."""
        if self.error is not None:
            raise copy(self.error)
        if self.request is not None and not self.completed:
            raise self._failed(ClientGone(400, "the client left in the middle of its content"))
        if self._pending.strip(b"\r"):
            raise self._failed(ClientGone(400, "the client left in the middle of a head"))

    def next(self) -> None:
        """On to the connection's next request. Raises RuntimeError while this one is not completed, and behind one that
        is its connection's last."""
        if self.error is not None:
            raise RuntimeError(f"no request can follow: {self.error}")
        if self.request is None or not self.completed:
            raise RuntimeError("the request is not completed: feed the rest of it first")
        if not self.request.keep_alive:
            raise RuntimeError("the connection is to be closed behind this request (RFC 9112 section 9.3)")
        self.phase = HEAD
        self.request = None

    # ---------------------------------------------------------------- what Reader has cut

    def _begin(self, head: bytes) -> None:
        heads, section = self.heads, self._section
        end = head.find(b" HTTP/1.")
        parts = heads.targets.get(head[:end])
        if parts is None or head[end:] != section.raw:
            parts, section = heads.read_new(head, section)
            self._section = kept(section)
        method = parts[0]
        uri = Uri(*parts[1:])
        headers = section.headers.copy() if uri.host is None else with_host(section.headers, uri.host)
        target = head[len(method) + 1 : end]
        self.request = Request(method, target, uri, section.version, headers, section.frame)
        self.phase = HELD
        if section.frame.length:
            self._expect(section.frame.length)

    def _feed(self, content: bytes, last: bool) -> None:
        assert self.request is not None
        self.request.body._give(content, last)

    def _failed(self, error: RequestError) -> RequestError:
        """What is kept is never raised itself: its traceback would grow, and keep all that was fed in memory."""
        self.error = copy(error)
        self.phase = CLOSED
        return error
