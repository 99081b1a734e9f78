"""Whom a trusted proxy's headers make the client, and that nobody else's do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.asgi.proxy import Trusted
from tests.support.driven import Driven
from tests.support.inprocess import http, looped, respond
from tests.support.properties import examples

PEER = ("10.0.0.1", 1234)


def forwarded(trusted: str, *fields: tuple[bytes, bytes], client=PEER, scheme="http") -> tuple:
    scope = {"client": client, "scheme": scheme}
    Trusted(trusted).apply(scope, list(fields))
    return scope["client"], scope["scheme"]


def xff(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value) for value in values]


@pytest.mark.parametrize(
    ("trusted", "host", "answer"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1, ::1", "::1", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("fd00::/8", "fd00::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("*", "192.0.2.1", True),
        ("*", "anything", True),
        ("", "127.0.0.1", False),
        ("127.0.0.1", "localhost", False),
        ("localhost", "127.0.0.1", False),
        ("0.0.0.0/0", "::1", False),
    ],
)
def test_hosts(trusted, host, answer):
    assert Trusted(trusted).host(host) is answer


@pytest.mark.parametrize(
    ("trusted", "client", "server", "answer"),
    [
        ("10.0.0.1", PEER, ("10.0.0.2", 80), True),
        ("10.0.0.2", PEER, ("10.0.0.2", 80), False),
        ("/run/app.sock", None, ("/run/app.sock", None), True),
        ("/run/app.sock", None, ("/run/other.sock", None), False),
        ("127.0.0.1", None, ("/run/app.sock", None), False),
        ("*", None, ("/run/app.sock", None), True),
        ("*", None, None, True),
        ("/run/app.sock", None, None, False),
    ],
)
def test_peers(trusted, client, server, answer):
    assert Trusted(trusted).peer(client, server) is answer


@pytest.mark.parametrize(
    ("trusted", "values", "client"),
    [
        ("10.0.0.0/8", [b"192.0.2.1"], ("192.0.2.1", 0)),
        ("10.0.0.0/8", [b"192.0.2.1:4711"], ("192.0.2.1", 4711)),
        ("10.0.0.0/8", [b"2001:db8::1"], ("2001:db8::1", 0)),
        ("10.0.0.0/8", [b"[2001:db8::1]"], ("2001:db8::1", 0)),
        ("10.0.0.0/8", [b"[2001:db8::1]:4711"], ("2001:db8::1", 4711)),
        # The right-most that is not trusted: what stands left of it is the client's own say.
        ("10.0.0.0/8", [b"1.1.1.1, 192.0.2.1, 10.0.0.9"], ("192.0.2.1", 0)),
        ("10.0.0.0/8", [b"1.1.1.1", b"192.0.2.1", b"10.0.0.9"], ("192.0.2.1", 0)),
        ("10.0.0.0/8", [b"1.1.1.1,192.0.2.1 ,\t10.0.0.9"], ("192.0.2.1", 0)),
        ("10.0.0.0/8", [b"10.0.0.7, 10.0.0.8"], ("10.0.0.7", 0)),
        ("*", [b"1.1.1.1, 192.0.2.1"], ("1.1.1.1", 0)),
        # Malformed: the peer stays the client
        ("10.0.0.0/8", [b""], PEER),
        ("10.0.0.0/8", [b"unknown"], PEER),
        ("10.0.0.0/8", [b"_hidden"], PEER),
        ("10.0.0.0/8", [b"1.1.1.1, nonsense"], PEER),
        ("10.0.0.0/8", [b"1.2.3"], PEER),
        ("10.0.0.0/8", [b"1.2.3.4/8"], PEER),
        ("10.0.0.0/8", [b"\xff"], PEER),
        ("10.0.0.0/8", [b"192.0.2.1:x"], ("192.0.2.1", 0)),
        ("10.0.0.0/8", [b"192.0.2.1:99999"], ("192.0.2.1", 0)),
        ("*", [b"192.0.2.1:" + b"9" * 5000], ("192.0.2.1", 0)),
        ("*", [b"[::1]:" + b"9" * 5000], ("::1", 0)),
    ],
)
def test_x_forwarded_for(trusted, values, client):
    assert forwarded(trusted, *xff(*values))[0] == client


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        (b"https", "https"),
        (b"HTTPS", "https"),
        (b"http", "http"),
        (b"wss", "https"),
        (b"http, https", "https"),
        (b" https ", "https"),
        (b"ftp", "http"),
        (b"", "http"),
        (b"https:", "http"),
    ],
)
def test_x_forwarded_proto(value, scheme):
    assert forwarded("*", (b"x-forwarded-proto", value))[1] == scheme


@examples()
@given(st.binary(max_size=60), st.sampled_from(["*", "10.0.0.0/8", "", "127.0.0.1,::1"]))
def test_nothing_that_anybody_sends_raises(value, trusted):
    client, scheme = forwarded(trusted, (b"x-forwarded-for", value), (b"x-forwarded-proto", value))
    assert scheme in ("http", "https")
    assert isinstance(client[0], str)
    assert 0 <= client[1] < 65536


FIELDS = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
THEIRS = (("203.0.113.9", 0), "https")


@pytest.mark.parametrize(
    ("settings", "peer", "head", "expected"),
    [
        ({"forwarded_allow_ips": "10.0.0.1"}, PEER, b"GET / HTTP/1.1\r\nHost: a\r\n", THEIRS),
        ({"forwarded_allow_ips": "10.0.0.1"}, PEER, b"GET / HTTP/1.0\r\n", THEIRS),
        ({"forwarded_allow_ips": "10.0.0.2"}, PEER, b"GET / HTTP/1.1\r\nHost: a\r\n", (PEER, "http")),
        ({"forwarded_allow_ips": "10.0.0.1", "proxy_headers": False}, PEER, b"GET / HTTP/1.0\r\n", (PEER, "http")),
        ({}, ("127.0.0.1", 9), b"GET / HTTP/1.1\r\nHost: a\r\n", THEIRS),
        ({}, ("192.0.2.7", 9), b"GET / HTTP/1.1\r\nHost: a\r\n", (("192.0.2.7", 9), "http")),
    ],
)
@looped
async def test_in_a_connection(settings, peer, head, expected):
    seen = []

    @http
    async def app(scope, receive, send):
        seen.append((scope["client"], scope["scheme"]))
        await respond(send)

    driven = Driven(app, client=peer, **settings)
    driven.feed(head + FIELDS + b"\r\n")
    await driven.idle()
    assert seen == [expected]


@looped
async def test_each_request_of_a_connection_has_its_own_client():
    seen = []

    @http
    async def app(scope, receive, send):
        seen.append(scope["client"])
        await respond(send)

    driven = Driven(app, client=PEER, forwarded_allow_ips="10.0.0.1")
    for field in (b"X-Forwarded-For: 203.0.113.9\r\n", b"", b"x-forwarded-for: 203.0.113.8\r\n"):
        driven.feed(b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n")
    await driven.idle()
    assert seen == [("203.0.113.9", 0), PEER, ("203.0.113.8", 0)]
