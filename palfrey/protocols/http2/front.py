"""What a connection begins with where HTTP/2 is spoken beside HTTP/1.1: `Front` finds out which it is, and is done.

Over TLS the handshake has settled it (ALPN, RFC 9113 section 3.2). Without TLS the client's first bytes do: HTTP/2
begins with a preface that no request of HTTP/1.1 can begin with (section 3.3, prior knowledge). While what has come may
still become the preface, it is kept here, within the times that `Http1Connection` has for it, `timeout_first_byte` and
`timeout_request_header`. Then the transport gets its real protocol, which sees all bytes from the first one on. What
begins with the request line of neither is told so, and closed.

`Upgrade: h2c`, which RFC 9113 has given up (section 3.1), is a request of HTTP/1.1 like any other.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, TypeVar, cast

from palfrey.protocols.http1.connection import Http1Connection
from palfrey.protocols.http2.codes import ErrorCode
from palfrey.protocols.http2.frames import PREFACE, goaway_frame, settings_frame
from palfrey.protocols.service import EACH_SWEEP, NEVER
from palfrey.system.tcp import has_unread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from palfrey.protocols.service import Service
    from palfrey.types import HostPort

Made = TypeVar("Made", bound=asyncio.Protocol)

log = logging.getLogger("palfrey.error")

FAREWELL_SECONDS = 5.0
"""For a client that was told why it is not served to take that, and to answer the close_notify of TLS."""

_GOOD_CIPHER = re.compile(r"(EC)?DHE-.*(GCM|CCM|CHACHA20)")
"""Those of TLS 1.2 that RFC 9113's appendix A does not list, by OpenSSL's names: an ephemeral key exchange and
authenticated encryption."""

_NEITHER = re.compile(rb"[^ \r\n]+ [^ \r\n]+ (?!HTTP/)[^ \r\n]+\r\n")
"""The request line of another protocol. HTTP/1.1 has no words that its client could read."""


class Front(asyncio.Protocol):
    """See the module. In `service.connections` while it waits for the first bytes."""

    __slots__ = ("_facts", "_http2", "_pending", "_service", "_transport", "deadline")

    def __init__(
        self,
        http2: Callable[[Service, HostPort | None, HostPort | None, str], asyncio.Protocol],
        service: Service,
        client: HostPort | None,
        server: HostPort | None,
        scheme: str,
    ) -> None:
        """`http2` is the class of its connections; what follows is what they, and Http1Connection, are made of."""
        self._http2 = http2
        self._service = service
        self._facts = (client, server, scheme)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._pending = b""
        """The beginning of a preface."""
        self.deadline = NEVER

    # ---------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        service = self._service
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is None:
            service.connections.add(self)
            self.deadline = service.clock + service.first_byte_timeout
        elif tls.selected_alpn_protocol() != "h2":
            self._hand_over(Http1Connection)
        elif tls.version() == "TLSv1.3" or _GOOD_CIPHER.match((tls.cipher() or ("",))[0]):
            self._hand_over(self._http2)
        else:
            self._refuse_cipher(tls)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        whole = self._pending + data
        if whole.startswith(PREFACE):
            self._hand_over(self._http2).data_received(whole)
        elif not PREFACE.startswith(whole):
            if _NEITHER.match(whole):
                self._refuse(ErrorCode.PROTOCOL_ERROR, "this is not the preface of HTTP/2")
            else:
                self._hand_over_http1().data_received(data)
        else:
            if not self._pending:
                self.deadline = self._service.clock + self._service.header_timeout
            self._pending = whole

    def eof_received(self) -> bool:
        """Nothing was asked for that could be answered: False closes the connection."""
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.deadline = NEVER
        self._service.forget(self)

    # ---------------------------------------------------------------- to what it is

    def _hand_over(self, make: Callable[[Service, HostPort | None, HostPort | None, str], Made]) -> Made:
        """From here on the connection is this one's, which has seen no byte yet."""
        service, transport = self._service, self._transport
        connection = make(service, *self._facts)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        service.connections.discard(self)
        return connection

    def _hand_over_http1(self) -> Http1Connection:
        """It has seen what was kept, and has no more time than was left for that."""
        connection = self._hand_over(Http1Connection)
        if self._pending:
            connection.data_received(self._pending)
            connection.deadline = min(connection.deadline, self.deadline)
        return connection

    def _refuse_cipher(self, tls: ssl.SSLObject) -> None:
        """RFC 9113 section 9.2.2. `ssl_ciphers`, or a hook's context, made it possible."""
        name = (tls.cipher() or ("none",))[0]
        client = self._facts[0]
        log.info("Refused HTTP/2 to %s: RFC 9113 forbids %s, which ssl_ciphers allows", client and client[0], name)
        self._service.connections.add(self)
        self._refuse(ErrorCode.INADEQUATE_SECURITY, "this cipher is not for HTTP/2")

    def _refuse(self, code: ErrorCode, reason: str) -> None:
        """Says so as HTTP/2 does, and closes."""
        self.deadline = self._service.clock + FAREWELL_SECONDS
        self._transport.write(settings_frame(()) + goaway_frame(0, code, reason))
        self._transport.close()

    # ---------------------------------------------------------------- from the worker

    def expire(self) -> None:
        if self._transport.is_closing():
            self.deadline = NEVER
            self._transport.abort()
        elif self._pending:
            self._hand_over_http1().expire()
        else:
            self._close_idle()

    def leave(self, code: int) -> None:
        """There is nobody yet to be told."""

    def part(self) -> None:
        if not self._pending and not self._transport.is_closing():
            self._close_idle()

    def say_last_word(self) -> bool:
        return False

    def cut(self) -> str | None:
        self._transport.abort()
        return None

    def _close_idle(self) -> None:
        """Unless something has come that could not be read yet, as in Http1Connection."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and has_unread(sock):
            self.deadline = EACH_SWEEP
        else:
            self.deadline = NEVER
            self._transport.close()
