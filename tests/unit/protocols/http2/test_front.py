"""Which protocol a connection gets, that it sees every byte, and what becomes of those that never say enough."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from palfrey.config.settings import Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.http1.connection import Http1Connection
from palfrey.protocols.http2.frames import PREFACE
from palfrey.protocols.http2.front import _GOOD_CIPHER, FAREWELL_SECONDS, Front
from palfrey.protocols.service import EACH_SWEEP, NEVER, Service
from palfrey.types import HostPort
from tests.support.driven import CLIENT, SERVER, Driven, FakeTransport
from tests.support.inprocess import http, logged, looped, read_body, respond
from tests.support.rawhttp import read_all

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
ALMOST = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
    b"PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"pri * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n" + PREFACE,
)
"""What is not HTTP/2, however late that shows."""


@http
async def app(scope, receive, send):
    body = await read_body(receive)
    await respond(send, b"%b %b %b" % (scope["http_version"].encode(), scope["raw_path"], body))


class Http2(asyncio.Protocol):
    """Stands in for a connection of HTTP/2."""

    def __init__(self, service: Service, client: HostPort | None, server: HostPort | None, scheme: str) -> None:
        self.service = service
        self.facts = (client, server, scheme)
        self.received: list[bytes] = []
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.service.connections.add(self)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self.received.append(data)


class Handshake:
    """A TLS connection that has agreed on this."""

    def __init__(self, alpn: str | None, version: str, cipher: str) -> None:
        self._alpn, self._version, self._cipher = alpn, version, cipher

    def selected_alpn_protocol(self) -> str | None:
        return self._alpn

    def version(self) -> str:
        return self._version

    def cipher(self) -> tuple[str, str, int]:
        return self._cipher, self._version, 128


class Transport(FakeTransport):
    tls: Handshake | None = None
    sock: socket.socket | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self.tls
        if name == "socket" and self.sock is not None:
            return self.sock
        return super().get_extra_info(name, default)


class Begun:
    """A connection that has just been made."""

    def __init__(self, tls: Handshake | None = None, **settings: Any) -> None:
        table = Settings(**{"http": "h2", "server_header": False, "date_header": False, **settings})
        loop = asyncio.get_running_loop()
        self.service = Service(table, app, loop, AccessLog.off(), {}, None)
        self.transport = Transport(loop, writes_eof=tls is None)
        self.transport.tls = tls
        self.front = Front(Http2, self.service, CLIENT, SERVER, "http" if tls is None else "https")
        self.transport.attach(self.front)

    @property
    def protocol(self) -> Any:
        return self.transport.get_protocol()

    def feed(self, *reads: bytes) -> None:
        for data in reads:
            self.protocol.data_received(data)

    def feed_eof(self) -> None:
        if not self.protocol.eof_received():
            self.transport.close()

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.service.tick()

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


class TestHttp2:
    @looped
    async def test_the_preface_makes_it_and_it_sees_every_byte(self):
        begun = Begun()
        begun.feed(PREFACE + b"frames", b"more")
        assert isinstance(begun.protocol, Http2)
        assert begun.protocol.received == [PREFACE + b"frames", b"more"]
        assert begun.protocol.facts == (CLIENT, SERVER, "http")
        assert begun.protocol.transport is begun.transport
        assert begun.service.connections == {begun.protocol}

    @pytest.mark.parametrize("size", [1, 2, 5, 23])
    @looped
    async def test_a_preface_in_pieces_is_kept_until_it_is_whole(self, size):
        begun = Begun()
        *first, last = pieces(PREFACE, size)
        begun.feed(*first)
        assert begun.protocol is begun.front
        begun.feed(last + b"frames")
        assert begun.protocol.received == [PREFACE + b"frames"]
        assert begun.service.connections == {begun.protocol}

    @pytest.mark.parametrize("cipher", ["TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"])
    @looped
    async def test_the_handshake_makes_it(self, cipher):
        version = "TLSv1.3" if cipher.startswith("TLS_") else "TLSv1.2"
        begun = Begun(Handshake("h2", version, cipher))
        assert isinstance(begun.protocol, Http2)
        assert begun.protocol.facts == (CLIENT, SERVER, "https")
        assert begun.service.connections == {begun.protocol}
        begun.feed(b"anything")
        assert begun.protocol.received == [b"anything"]


class TestHttp1:
    @pytest.mark.parametrize("request_", [GET, POST, *ALMOST])
    @looped
    async def test_it_answers_as_it_would_alone_wherever_the_reads_end(self, request_):
        alone = Driven(app, http="httptools")
        alone.feed(request_)
        await alone.settle()
        assert alone.transport.data
        for at in range(1, len(request_)):
            begun = Begun()
            begun.feed(request_[:at], request_[at:])
            await begun.settle()
            assert isinstance(begun.protocol, Http1Connection)
            assert begun.transport.data == alone.transport.data, at

    @looped
    async def test_a_request_byte_by_byte(self):
        begun = Begun()
        begun.feed(*pieces(POST + GET, 1))
        await begun.settle()
        assert begun.transport.data.count(b"HTTP/1.1 200 OK") == 2
        assert begun.service.connections == {begun.protocol}

    @pytest.mark.parametrize("alpn", ["http/1.1", None, "h3"])
    @looped
    async def test_the_handshake_makes_it(self, alpn):
        """A preface alone does not make it HTTP/2 there: it has to be agreed on (RFC 9113 section 3.2)."""
        begun = Begun(Handshake(alpn, "TLSv1.2", "AES128-SHA"))
        assert isinstance(begun.protocol, Http1Connection)
        assert begun.protocol.scheme == "https"
        assert begun.service.connections == {begun.protocol}
        begun.feed(PREFACE)
        assert begun.transport.data.startswith(b"HTTP/1.1 ")

    @pytest.mark.parametrize("request_", [GET, POST])
    @looped
    async def test_an_upgrade_to_h2c_is_not_taken(self, request_):
        """As curl --http2 asks for it. RFC 9113 section 3.1 has given it up; the request is served all the same."""
        asked = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
        begun = Begun()
        begun.feed(request_.replace(b"Host: a\r\n", b"Host: a\r\n" + asked), GET)
        await begun.settle()
        first, second = read_all(begun.transport.data)
        assert first.status == second.status == 200
        assert first.body == (b"1.1 /a " if request_ is GET else b"1.1 /b abc")
        assert first.all("upgrade") == []
        assert first.all("connection") == []


class TestTime:
    @looped
    async def test_who_says_nothing_is_closed_without_a_word(self):
        begun = Begun(timeout_first_byte=3)
        begun.pass_time(3)
        assert not begun.transport.closed
        begun.pass_time(1)
        assert begun.transport.closed
        assert begun.transport.data == b""
        await begun.settle()
        assert not begun.service.connections

    @looped
    async def test_what_has_come_and_was_not_read_yet_is_not_lost(self):
        near, far = socket.socketpair()
        with near, far:
            begun = Begun(timeout_first_byte=1)
            begun.transport.sock = near
            far.send(b"P")
            begun.pass_time(2)
            begun.front.part()
            assert not begun.transport.closed
            assert begun.front.deadline == EACH_SWEEP
            near.recv(1)
            begun.pass_time(1)
            assert begun.transport.closed

    @pytest.mark.parametrize("kept", [b"P", b"PRI * HTTP/2.0\r\n", PREFACE[:18], PREFACE[:-1]])
    @looped
    async def test_who_does_not_finish_is_answered_as_by_http1(self, kept):
        begun = Begun(timeout_first_byte=3, timeout_request_header=5)
        begun.pass_time(2)
        begun.feed(*pieces(kept, 1))
        with logged() as records:
            begun.pass_time(5)
            assert begun.transport.data == b""
            begun.pass_time(1)
        whole = b"\r\n\r\n" in kept
        assert begun.transport.data.startswith(b"HTTP/1.1 505" if whole else b"HTTP/1.1 408")
        assert whole or [line for line in records.at(20) if "its request head took too long" in line]
        begun.pass_time(10)
        assert begun.transport.closed

    @looped
    async def test_bytes_of_a_preface_do_not_lengthen_the_time_for_a_head(self):
        begun = Begun(timeout_request_header=5)
        begun.feed(b"P")
        begun.pass_time(4)
        begun.feed(b"OST / HTTP/1.1\r\n")
        begun.pass_time(1)
        assert begun.transport.data == b""
        begun.pass_time(1)
        assert begun.transport.data.startswith(b"HTTP/1.1 408")

    @looped
    async def test_timeouts_that_are_off(self):
        begun = Begun(timeout_first_byte=0, timeout_request_header=0)
        assert begun.front.deadline == NEVER
        begun.feed(b"PRI * HTTP/2.0\r\n\r\n")
        assert begun.front.deadline == NEVER
        begun.feed(b"X")
        assert begun.protocol.deadline < NEVER  # a refused client is left to read that, but not for ever


class TestEnd:
    @pytest.mark.parametrize("kept", [b"", b"PRI", PREFACE[:-1]])
    @looped
    async def test_the_clients_end_of_file_is_the_end(self, kept):
        begun = Begun()
        begun.feed(*pieces(kept, 1))
        begun.feed_eof()
        await begun.settle()
        assert begun.transport.closed
        assert begun.transport.data == b""
        assert not begun.service.connections

    @looped
    async def test_a_connection_that_is_lost_is_forgotten(self):
        begun = Begun()
        told = []
        begun.service.on_room = lambda: told.append(1)
        begun.front.connection_lost(None)
        assert not begun.service.connections
        assert told == [1]

    @looped
    async def test_a_drain_closes_who_has_said_nothing_and_waits_for_who_has(self):
        silent, begun = Begun(), Begun()
        begun.feed(PREFACE[:5])
        for one in (silent, begun):
            one.front.leave(1001)
            one.front.part()
        assert silent.transport.closed
        begun.feed(PREFACE[5:])
        assert isinstance(begun.protocol, Http2)

    @looped
    async def test_a_cut_cuts_nothing_short(self):
        begun = Begun()
        begun.feed(PREFACE[:5])
        assert begun.front.cut() is None
        assert begun.transport.aborted


class TestNeither:
    @looped
    async def test_the_request_line_of_another_protocol_is_answered_in_http2(self):
        begun = Begun()
        begun.feed(b"INVALID CONNECTION PREFACE\r\n\r\n")
        assert begun.transport.data[:9] == b"\0\0\0\4\0\0\0\0\0"
        assert begun.transport.data[12:26] == b"\7\0\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\1"  # GOAWAY, PROTOCOL_ERROR
        assert begun.transport.closed
        await begun.settle()
        assert not begun.service.connections

    @pytest.mark.parametrize(
        "sent", [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/3\r\n", b"GET /\r\n", b"\x16\x03\x01\r\n", b"hi"]
    )
    @looped
    async def test_what_may_be_meant_for_http1_is_answered_there(self, sent):
        begun = Begun()
        begun.feed(sent)
        assert isinstance(begun.protocol, Http1Connection)


FORBIDDEN = ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES256-SHA", "ADH-AES128-GCM-SHA256", "RC4-SHA")


class TestForbiddenCiphers:
    """RFC 9113 section 9.2.2 and appendix A."""

    @pytest.mark.parametrize("cipher", FORBIDDEN)
    @looped
    async def test_the_client_is_told_and_left(self, cipher):
        with logged() as records:
            begun = Begun(Handshake("h2", "TLSv1.2", cipher))
        assert begun.transport.data[:9] == b"\0\0\0\4\0\0\0\0\0"
        goaway = begun.transport.data[9:]
        assert goaway[3:17] == b"\7\0\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\x0c"
        assert begun.transport.closed
        (said,) = records.at(20)
        assert said == f"Refused HTTP/2 to {CLIENT[0]}: RFC 9113 forbids {cipher}, which ssl_ciphers allows"
        begun.feed(PREFACE)
        assert begun.protocol is begun.front
        await begun.settle()
        assert not begun.service.connections

    @looped
    async def test_one_that_does_not_take_it_is_dropped(self):
        begun = Begun(Handshake("h2", "TLSv1.2", FORBIDDEN[0]))
        begun.front.part()
        begun.pass_time(int(FAREWELL_SECONDS))
        assert not begun.transport.aborted
        begun.pass_time(1)
        assert begun.transport.aborted
        assert begun.front.deadline == NEVER

    def test_appendix_a_by_openssls_names(self):
        """The ones that the default of ssl_ciphers has are good, and OpenSSL's own idea of ephemeral and authenticated
        is ours."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        known = [one for one in context.get_ciphers() if one["protocol"] != "TLSv1.3"]
        good = {one["name"] for one in known if _GOOD_CIPHER.match(one["name"])}
        kinds = ("kx-ecdhe", "kx-dhe", "kx-ecdhe-psk", "kx-dhe-psk")
        assert good == {
            one["name"] for one in known if one["aead"] and one["kea"] in kinds and one["auth"] != "auth-null"
        }
        assert len(good) > 10
        assert len(known) > len(good)
