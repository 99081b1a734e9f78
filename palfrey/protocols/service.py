"""What all connections of one worker share: the application, the limits, the caches, the counts.

A connection is given its `Service` when it is made and asks it for everything that is not its own. The worker's
serving half (workers/serving.py) makes it, calls `tick` each second and sets `draining`; connections register in
`connections`, and exchanges whose application runs are in `running`.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

from palfrey.asgi.exchange import Exchange
from palfrey.asgi.identity import RequestIds
from palfrey.protocols.http1.fields import FieldReader, make_parser
from palfrey.protocols.http1.heads import HeadReader
from palfrey.protocols.http1.render import HeadRenderer
from palfrey.protocols.http2.limits import limits as http2_limits
from palfrey.protocols.http2.memory import Memory
from palfrey.protocols.response import DefaultFields
from palfrey.protocols.websocket.codes import Close
from palfrey.protocols.websocket.limits import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from palfrey.asgi.proxy import Trusted
    from palfrey.asgi.tls import TlsExtension
    from palfrey.config.settings import Settings
    from palfrey.observe.facts import WebSocketFacts
    from palfrey.types import ASGIApp, Header, HostPort, Receive, Scope, Send

NEVER = float("inf")
EACH_SWEEP = 0.0

ASGI_VERSIONS = {"version": "3.0", "spec_version": "2.3"}
"""The HTTP specification's version. All of 2.5 is done, `send` raising OSError once the client is gone (2.4) included.
But a server that says 2.4 is trusted to tell by that alone: Starlette then stops listening for http.disconnect while it
streams, and a stream that has nothing to send holds on to a client that left (docs/decisions/0003)."""


class Facts(Protocol):
    """What a connection of any protocol knows about itself, for the scopes of its requests."""

    client: HostPort | None
    server: HostPort | None
    scheme: str
    extensions: dict[str, dict[str, Any]]
    """ASGI's, as they are offered on this connection."""
    trusted: Trusted | None
    """Whose forwarded headers are believed; None when this peer's are not."""


class Connection(Protocol):
    """What the registry knows of a connection of any protocol."""

    deadline: float
    """`Service.clock` at which `expire` is due; NEVER while only the application is waited for, EACH_SWEEP to be
    looked at by every sweep."""

    def expire(self) -> None:
        """The deadline has passed: do what this phase of the connection calls for."""

    def leave(self, code: int) -> None:
        """The worker begins to drain; a WebSocket is to be closed with this code."""

    def part(self) -> None:
        """Closes it, in order, if it has nothing in hand. Otherwise the drain closes it after its response."""

    def say_last_word(self) -> bool:
        """The worker ends at once, and nobody is waited for: say so where the protocol has a word for it and the client
        reads. False where nothing was said."""

    def cut(self) -> str | None:
        """Drops the connection at once. Returns what was cut short, in a few words, or None if it was idle."""


class AccessLog(Protocol):
    """The part of observe.access.AccessLog that connections use."""

    enabled: bool

    def log(self, facts: Exchange, ended: float) -> None:
        """Writes one line; `ended` is time.monotonic()."""

    def log_websocket(self, facts: WebSocketFacts, ended: float) -> None:
        """The same for a WebSocket that is over."""


class Service:
    """See the module. Attributes are read on the hot path and are therefore plain."""

    __slots__ = (
        "_emptied",
        "access",
        "app",
        "body_timeout",
        "clock",
        "connections",
        "context",
        "default_fields",
        "draining",
        "exchange",
        "extensions",
        "farewell",
        "first_byte_timeout",
        "header_timeout",
        "heads",
        "http2",
        "http2_memory",
        "keep_alive",
        "limit_body",
        "limit_concurrency",
        "limit_connection_requests",
        "limit_field",
        "limit_fields",
        "limit_head",
        "limit_line",
        "limit_read_ahead",
        "linger",
        "loop",
        "min_rate",
        "on_request",
        "on_room",
        "open_websockets",
        "persistent",
        "raw_root_path",
        "renderer",
        "request_ids",
        "requests",
        "root_path",
        "running",
        "shows_scope",
        "start",
        "state",
        "targets",
        "tls",
        "trusted",
        "websockets",
        "write_timeout",
    )

    def __init__(
        self,
        settings: Settings,
        app: ASGIApp,
        loop: asyncio.AbstractEventLoop,
        access: AccessLog,
        state: dict[str, Any],
        trusted: Trusted | None,
    ) -> None:
        """`trusted` is whose forwarded headers are believed, None when nobody's are."""
        self.app, self.loop = app, loop
        self.context = copy_context()
        """For what one request calls forth that is none of its own, such as the next one."""
        self.exchange: type[Exchange] = getattr(app, "exchange", Exchange)
        """What runs the application: an exchange of its own kind where it is not ASGI's."""
        self.start = self.exchange.starter(loop)
        self.shows_scope = self.exchange.shows_scope
        self.access, self.state, self.trusted = access, state, trusted
        self.root_path = settings.root_path.rstrip("/")
        self.raw_root_path = self.root_path.encode()
        self.clock = 0.0
        """Seconds that the loop has turned for, as the sweep counts them. Deadlines are set and compared by it: it
        costs nothing to read, and stands still while the application blocks the loop, which is no client's fault."""
        self.keep_alive = settings.timeout_keep_alive
        self.first_byte_timeout = settings.timeout_first_byte or NEVER
        self.header_timeout = settings.timeout_request_header or NEVER
        self.body_timeout = settings.timeout_request_body or NEVER
        self.write_timeout = settings.timeout_write or NEVER
        self.linger = settings.timeout_linger
        self.min_rate = settings.min_data_rate
        self.limit_read_ahead = settings.limit_read_ahead
        self.limit_connection_requests = settings.limit_connection_requests
        heads = self.heads = HeadReader(
            FieldReader(make_parser(settings.http), settings.header_map),
            settings.limit_request_head,
            settings.limit_request_line,
            settings.limit_request_fields,
            settings.limit_request_field_size,
            settings.limit_request_body,
        )
        self.limit_head, self.limit_line = heads.limit_head, heads.limit_line
        self.limit_fields, self.limit_field = heads.limit_fields, heads.limit_field
        self.targets = heads.targets
        """Looked up for each request."""
        self.limit_body = settings.limit_request_body
        self.limit_concurrency = settings.limit_concurrency
        # None where HTTP/1.1 alone is spoken.
        self.websockets, self.http2 = limits(settings, self.exchange.websockets), http2_limits(settings)
        self.request_ids = RequestIds(settings.request_id) if settings.request_id is not None else None
        unique = self.request_ids.field if self.request_ids is not None else b""
        self.default_fields = DefaultFields(settings.server_header, settings.date_header, settings.headers)
        self.renderer = HeadRenderer(self.default_fields, unique)
        self.http2_memory = Memory(settings.header_map, self.limit_field, unique)
        self.connections: set[Connection] = set()
        self.running: set[Exchange] = set()
        self.requests = self.open_websockets = 0
        self.draining = False
        self.farewell = Close.SERVICE_RESTART
        """What WebSockets are closed with while draining."""
        self.persistent = self.keep_alive > 0
        """Whether a connection may go on after its response; not while draining."""
        self._emptied: asyncio.Future[None] | None = None
        self.on_request: Callable[[], None] | None = None
        self.tls: TlsExtension | None = None
        self.on_room: Callable[[], None] | None = None
        """Called when a connection goes; set by an acceptor that has no room for more, or whose others want to know."""
        self.extensions: dict[str, dict[str, Any]] = {
            "http.response.early_hint": {},
            "http.response.pathsend": {},
            "http.response.trailers": {},
            "http.response.zerocopysend": {},
        }

    def application(self, due: int = 0) -> ASGIApp:
        """The application for the next request, or what says 503 when too many are in flight, or `due` to be."""
        if self.limit_concurrency and len(self.running) + due >= self.limit_concurrency:
            return service_unavailable
        return self.app

    def begin_draining(self) -> None:
        """From now on every response is its connection's last."""
        self.draining = True
        self.persistent = False

    def take_leave(self, last: bool) -> None:
        """The worker is about to end: those that would stay are told so. `last`: nobody serves on."""
        self.farewell = Close.GOING_AWAY if last else Close.SERVICE_RESTART
        for connection in list(self.connections):
            connection.leave(self.farewell)

    def say_last_words(self) -> list[Connection]:
        """The worker ends at once: those that were told so, and are to be cut when that is written."""
        self.farewell = Close.GOING_AWAY
        return [connection for connection in list(self.connections) if connection.say_last_word()]

    def end_draining(self) -> None:
        """Connections may go on again after their responses."""
        self.draining = False
        self.persistent = self.keep_alive > 0

    def forget(self, connection: Connection) -> None:
        """A connection is gone. May be told more than once."""
        self.connections.discard(connection)
        self.make_room()
        if self._emptied is not None and not self.connections and not self._emptied.done():
            self._emptied.set_result(None)

    def make_room(self) -> None:
        """There is room for one more connection."""
        if self.on_room is not None:
            self.on_room()

    async def wait_until_empty(self) -> None:
        """Returns when no connection is left. For one waiter."""
        if self.connections:
            self._emptied = self.loop.create_future()
            await self._emptied

    def tick(self, seconds: float = 1.0) -> None:
        """The sweep, each so many seconds: the date, and the connections whose time is up.

        They are compared before the clock moves on, so that no time that was given is cut short by its fraction.
        """
        self.default_fields.tick()
        self.renderer.tick()
        clock = self.clock
        for connection in [each for each in self.connections if each.deadline <= clock]:
            connection.expire()
        self.clock = clock + seconds


def plain_answer(status: int, text: str, headers: tuple[Header, ...] = ()) -> ASGIApp:
    """An application of the server's own, which answers in place of the user's: a line of text, and these fields."""
    body = f"{text}\n".encode()
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)), *headers]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return answer


service_unavailable = plain_answer(503, "Service Unavailable", ((b"retry-after", b"1"),))
"""For requests beyond `limit_concurrency`."""
