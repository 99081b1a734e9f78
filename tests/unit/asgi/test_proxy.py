"""What a trusted proxy's fields make of a request, and that nobody else's do."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.asgi.proxy import KNOWN_NODES, NODE_LENGTH, Trusted
from tests.support.driven import Driven
from tests.support.inprocess import http, looped, respond
from tests.support.properties import examples

PEER = ("10.0.0.1", 1234)


XFF, XFP, XFH = "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"
XPORT, XPREFIX = "x-forwarded-port", "x-forwarded-prefix"
ALL_X = (XFF, XFP, XFH, XPORT, XPREFIX)
HOST = (b"host", b"inner:8000")


def told(trusted: str, *fields: tuple[bytes, bytes], believed=(XFF, XFP), **changes) -> dict:
    """The scope after `fields` were applied."""
    scope = {
        "client": PEER,
        "scheme": "http",
        "server": ("10.0.0.2", 8000),
        "root_path": "",
        "path": "/é",
        "raw_path": b"/%C3%A9",
        "headers": [HOST, *fields],
        **changes,
    }
    Trusted(trusted, believed).apply(scope, list(scope["headers"]))
    return scope


def forwarded(trusted: str, *fields: tuple[bytes, bytes]) -> tuple:
    scope = told(trusted, *fields)
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
        ("/run/app.sock", "/run/app.sock", False),
        ("", "127.0.0.1", False),
        ("127.0.0.1", "localhost", False),
        ("localhost", "127.0.0.1", False),
        ("0.0.0.0/0", "::1", False),
        ("10.0.0.0/8", "::ffff:10.1.1.1", True),
        ("::ffff:10.0.0.0/104", "10.1.1.1", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.1.1", True),
        ("::/0", "10.1.1.1", False),
        ("unix", "127.0.0.1", False),
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
        ("unix:/run/app.sock", None, ("/run/app.sock", None), True),
        ("/run/app.sock", None, ("/run/other.sock", None), False),
        ("unix", None, ("/run/app.sock", None), True),
        ("unix", None, ("10.0.0.2", 80), False),
        ("unix", PEER, ("10.0.0.2", 80), False),
        ("unix", None, None, False),
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
        # Empty elements do not count (RFC 9110 section 5.6.1.2)
        ("10.0.0.0/8", [b"192.0.2.1, "], ("192.0.2.1", 0)),
        ("10.0.0.0/8", [b"192.0.2.1,,10.0.0.9"], ("192.0.2.1", 0)),
        # A proxy that will not name it: nobody's address, and its own least of all
        ("10.0.0.0/8", [b"unknown"], None),
        ("10.0.0.0/8", [b"192.0.2.1, Unknown, 10.0.0.9"], None),
        ("10.0.0.0/8", [b"_hidden"], None),
        ("10.0.0.0/8", [b"_hidden:_port"], None),
        ("*", [b"unknown, 192.0.2.1"], None),
        # Malformed: the peer stays the client
        ("10.0.0.0/8", [b""], PEER),
        ("10.0.0.0/8", [b" , "], PEER),
        ("10.0.0.0/8", [b"_"], PEER),
        ("10.0.0.0/8", [b"::1%<script>"], PEER),
        ("10.0.0.0/8", [b"fe80::1%eth0"], PEER),
        ("10.0.0.0/8", [b"[192.0.2.1]"], PEER),
        ("10.0.0.0/8", [b"[::1"], PEER),
        ("10.0.0.0/8", [b"[::1]x"], PEER),
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


def test_the_last_of_repeated_protos_is_the_peers():
    assert forwarded("*", (b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"http"))[1] == "http"


@pytest.mark.parametrize(
    ("elements", "client", "scheme"),
    [
        ([b"for=192.0.2.1"], ("192.0.2.1", 0), "http"),
        ([b"for=192.0.2.1;proto=https"], ("192.0.2.1", 0), "https"),
        ([b"For=192.0.2.1 ; PROTO=HTTPS;by=10.0.0.3"], ("192.0.2.1", 0), "https"),
        ([b'for="192.0.2.1:4711"'], ("192.0.2.1", 4711), "http"),
        ([b"for=192.0.2.1:4711"], ("192.0.2.1", 4711), "http"),
        ([b'for="[2001:db8::1]:4711"'], ("2001:db8::1", 4711), "http"),
        ([b'for="[2001:db8::1]"'], ("2001:db8::1", 0), "http"),
        ([b'for="192.0.2\\.1"'], ("192.0.2.1", 0), "http"),
        ([b"for=unknown;proto=https"], None, "https"),
        ([b"for=_gazonk"], None, "http"),
        ([b'for="_gazonk:_p"'], None, "http"),
        # The right-most that is not trusted, and its own words
        ([b"for=1.1.1.1;proto=http, for=192.0.2.1;proto=https, for=10.0.0.9;proto=http"], ("192.0.2.1", 0), "https"),
        ([b"for=1.1.1.1", b"for=192.0.2.1;proto=https", b"for=10.0.0.9"], ("192.0.2.1", 0), "https"),
        ([b"for=192.0.2.1, for=10.0.0.9;proto=https"], ("192.0.2.1", 0), "https"),
        ([b"for=10.0.0.7;proto=https, for=10.0.0.8"], ("10.0.0.7", 0), "https"),
        ([b",for=192.0.2.1,, "], ("192.0.2.1", 0), "http"),
        # An element that names nobody is where the chain ends
        ([b"for=1.1.1.1;proto=http, proto=https"], PEER, "https"),
        ([b"for=1.1.1.1;proto=http, by=10.0.0.3"], PEER, "http"),
        # What a client sends to swallow its proxy's word
        ([b'for="6.6.6.6, for=192.0.2.1;proto=https'], ("192.0.2.1", 0), "https"),
        ([b'for="6.6.6.6, for="192.0.2.1";proto=https'], ("192.0.2.1", 0), "https"),
        ([b'for="6.6.6.6', b'for="192.0.2.1"'], ("192.0.2.1", 0), "http"),
        ([b'secret="a, b";for=192.0.2.1'], ("192.0.2.1", 0), "http"),
        # Malformed: nothing of it counts
        ([b"for=192.0.2.1;for=1.1.1.1"], PEER, "http"),
        ([b"for=192.0.2.1;proto=https, for=nonsense;proto=https"], PEER, "http"),
        ([b"for=192.0.2.1, for =10.0.0.9;proto=https"], PEER, "http"),
        ([b"for=192.0.2.1;proto"], PEER, "http"),
        ([b"192.0.2.1"], PEER, "http"),
        ([b"for=192.0.2.1;proto=gopher"], ("192.0.2.1", 0), "http"),
        ([b""], PEER, "http"),
    ],
)
def test_forwarded(elements, client, scheme):
    scope = told("10.0.0.0/8", *((b"forwarded", element) for element in elements), believed=("forwarded",))
    assert (scope["client"], scope["scheme"]) == (client, scheme)


def test_everybody_trusted_is_the_left_most_element():
    scope = told("*", (b"forwarded", b"for=1.1.1.1;proto=https, for=192.0.2.1"), believed=("forwarded",))
    assert (scope["client"], scope["scheme"]) == (("1.1.1.1", 0), "https")


@pytest.mark.parametrize("believed", [(XFF, XFP), ("forwarded",), (), (XFH,)])
def test_only_the_named_fields_are_believed(believed):
    fields = {
        "forwarded": b"for=1.1.1.1;proto=https;host=forwarded.example",
        XFF: b"2.2.2.2",
        XFP: b"https",
        XFH: b"x.example",
        XPORT: b"81",
        XPREFIX: b"/x",
    }
    every = [(name.encode(), value) for name, value in fields.items()]
    named = [(name.encode(), value) for name, value in fields.items() if name in believed]
    scopes = [told("*", *given, believed=believed) for given in (every, named)]
    for scope in scopes:
        scope["headers"] = [field for field in scope["headers"] if field[0] == b"host"]
    assert scopes[0] == scopes[1]


@pytest.mark.parametrize(
    ("host", "port", "field", "server"),
    [
        (b"example.org", b"", b"example.org", ("example.org", 80)),
        (b"example.org:8443", b"", b"example.org:8443", ("example.org", 8443)),
        (b"first.example, example.org", b"", b"example.org", ("example.org", 80)),
        (b"[2001:db8::1]:8443", b"", b"[2001:db8::1]:8443", ("2001:db8::1", 8443)),
        (b"[2001:db8::1]", b"", b"[2001:db8::1]", ("2001:db8::1", 80)),
        (b"example.org", b"8443", b"example.org:8443", ("example.org", 8443)),
        (b"example.org:1", b"80", b"example.org", ("example.org", 80)),
        (b"", b"8443", b"inner:8443", ("inner", 8443)),
        (b"", b"80", b"inner", ("inner", 80)),
        # Malformed
        (b"", b"0", b"inner:8000", ("10.0.0.2", 8000)),
        (b"", b"http", b"inner:8000", ("10.0.0.2", 8000)),
        (b"", b"9" * 5000, b"inner:8000", ("10.0.0.2", 8000)),
        (b"a/b", b"", b"inner:8000", ("10.0.0.2", 8000)),
        (b"a@b", b"", b"inner:8000", ("10.0.0.2", 8000)),
        (b"a b", b"", b"inner:8000", ("10.0.0.2", 8000)),
        (b"a:", b"", b"inner:8000", ("10.0.0.2", 8000)),
        (b"a:99999", b"", b"inner:8000", ("10.0.0.2", 8000)),
        (b"[::::]", b"", b"inner:8000", ("10.0.0.2", 8000)),
        (b"\xff", b"", b"inner:8000", ("10.0.0.2", 8000)),
    ],
)
def test_host_and_port(host, port, field, server):
    fields = [(name, value) for name, value in ((b"x-forwarded-host", host), (b"x-forwarded-port", port)) if value]
    scope = told("*", *fields, believed=ALL_X)
    assert [value for name, value in scope["headers"] if name == b"host"] == [field]
    assert scope["server"] == server


def test_a_port_of_https_stays_out_of_the_host_field():
    fields = [(b"x-forwarded-port", b"443"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"example.org")]
    scope = told("*", *fields, believed=ALL_X)
    assert scope["headers"][0] == (b"host", b"example.org")
    assert scope["server"] == ("example.org", 443)


@pytest.mark.parametrize(
    ("server", "after"), [(("10.0.0.2", 80), ("10.0.0.2", 81)), (("/run/s", None),) * 2, (None,) * 2]
)
def test_a_port_without_any_host(server, after):
    scope = told(
        "*", (b"x-forwarded-port", b"81"), believed=ALL_X, server=server, headers=[(b"x-forwarded-port", b"81")]
    )
    assert scope["server"] == after
    assert scope["headers"] == [(b"x-forwarded-port", b"81")]


def test_the_host_of_forwarded():
    scope = told("10.0.0.0/8", (b"forwarded", b'for=1.1.1.1;host=a, for=192.0.2.1;host="b:1"'), believed=("forwarded",))
    assert scope["headers"][0] == (b"host", b"b:1")
    assert scope["server"] == ("b", 1)


@pytest.mark.parametrize(
    ("prefix", "root_path", "path", "raw_path"),
    [
        (b"/shop", "/shop", "/shop/é", b"/shop/%C3%A9"),
        (b"/a/b/", "/a/b", "/a/b/é", b"/a/b/%C3%A9"),
        (b"/%C3%A9", "/é", "/é/é", b"/%C3%A9/%C3%A9"),
        (b"/", "", "/é", b"/%C3%A9"),
        # Malformed: the setting stays
        (b"", "/root", "/root/é", b"/root/%C3%A9"),
        (b"shop", "/root", "/root/é", b"/root/%C3%A9"),
        (b"//evil.example", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/a//b", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/..", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/a/./b", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/%2e%2E", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/a?b", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/a\\b", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/%zz", "/root", "/root/é", b"/root/%C3%A9"),
        (b"/\xff", "/root", "/root/é", b"/root/%C3%A9"),
    ],
)
def test_prefix(prefix, root_path, path, raw_path):
    before = {"root_path": "/root", "path": "/root/é", "raw_path": b"/root/%C3%A9"}
    scope = told("*", (b"x-forwarded-prefix", prefix), believed=ALL_X, **before)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (root_path, path, raw_path)


def test_the_asterisk_form_has_no_prefix():
    scope = told("*", (b"x-forwarded-prefix", b"/shop"), believed=ALL_X, path="*", raw_path=b"*")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("", "*", b"*")


def test_what_is_remembered_of_addresses_is_bounded():
    trusted = Trusted("10.0.0.0/8")
    for number in range(3 * KNOWN_NODES):
        for text in (b"192.0.2.1:%d" % number, b"%d" % number * 100):
            trusted.apply({"client": PEER, "scheme": "http"}, xff(text))
    assert 0 < len(trusted._nodes) <= KNOWN_NODES
    assert max(map(len, trusted._nodes)) <= NODE_LENGTH


def test_what_is_remembered_of_peers_is_bounded_and_right():
    trusted = Trusted("10.0.0.0/8")
    for _ in range(2):
        for number in range(KNOWN_NODES + 100):
            host = f"{10 + number % 2}.0.{number // 250}.{number % 250}"
            assert trusted.peer((host, number), ("server", 1)) is (number % 2 == 0)
        assert 0 < len(trusted._peers) <= KNOWN_NODES


PIECES = st.sampled_from(
    [
        b"for=",
        b"proto=",
        b"host=",
        b"https",
        b"10.0.0.9",
        b"192.0.2.1",
        b"[::1]",
        b'"',
        b"\\",
        b";",
        b",",
        b" ",
        b"=",
        b"_x",
        b"/",
        b":80",
    ]
)


@examples()
@given(
    st.binary(max_size=60) | st.lists(PIECES, max_size=20).map(b"".join),
    st.sampled_from(["*", "10.0.0.0/8", "", "127.0.0.1,::1"]),
    st.sampled_from([ALL_X, ("forwarded", XPREFIX)]),
)
def test_nothing_that_anybody_sends_raises(value, trusted, believed):
    fields = [(name.encode(), value) for name in (*ALL_X, "forwarded")]
    scope = told(trusted, *fields, believed=believed)
    assert scope["scheme"] in ("http", "https")
    if scope["client"] is not None:
        ip_address(scope["client"][0])
        assert 0 <= scope["client"][1] < 65536
    assert scope["server"][0].isascii()
    assert scope["root_path"] in ("",) or re.match("/[^/]", scope["root_path"])
    assert scope["path"] == scope["root_path"] + "/é"


@examples()
@given(st.lists(PIECES | st.binary(max_size=9), max_size=20).map(b"".join))
def test_whatever_a_client_sends_the_word_of_its_proxy_counts(value):
    """Appended as a field line of its own, or to the client's by a comma."""
    theirs = b"for=192.0.2.1;proto=https"
    for lines in ([value, theirs], [value + b", " + theirs]):
        scope = told("10.0.0.1", *((b"forwarded", line) for line in lines), believed=("forwarded",))
        assert (scope["client"], scope["scheme"]) == (("192.0.2.1", 0), "https"), lines
    scope = told("10.0.0.1", (b"x-forwarded-for", value + b", 192.0.2.1"))
    assert scope["client"] == ("192.0.2.1", 0)


FIELDS = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
THEIRS = (("203.0.113.9", 0), "https")


@pytest.mark.parametrize(
    ("settings", "peer", "head", "expected"),
    [
        ({"forwarded_allow_ips": "10.0.0.1"}, PEER, b"GET / HTTP/1.1\r\nHost: a\r\n", THEIRS),
        ({"forwarded_allow_ips": "10.0.0.1"}, PEER, b"GET / HTTP/1.0\r\n", THEIRS),
        ({"forwarded_allow_ips": "10.0.0.2"}, PEER, b"GET / HTTP/1.1\r\nHost: a\r\n", (PEER, "http")),
        ({"forwarded_allow_ips": "10.0.0.1", "proxy_headers": False}, PEER, b"GET / HTTP/1.0\r\n", (PEER, "http")),
        ({}, None, b"GET / HTTP/1.1\r\nHost: a\r\n", (None, "http")),
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
