"""Each extension that the scope offers, with an application that uses it and a client that sees it.

The two that send files are in test_files.py.
"""

from __future__ import annotations

from tests.support.inprocess import http, read_body, respond, serving

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OFFERED = {
    "http.response.early_hint",
    "http.response.pathsend",
    "http.response.trailers",
    "http.response.zerocopysend",
}


def test_every_extension_that_is_offered_is_tested_here():
    offered = []

    @http
    async def app(scope, receive, send):
        offered.append(scope["extensions"])
        await respond(send)

    with serving(app) as server, server.client() as client:
        client.request(GET)
    assert offered == [{name: {} for name in OFFERED}]


def test_what_an_application_adds_to_the_extensions_stays_in_its_request():
    offered = []

    @http
    async def app(scope, receive, send):
        offered.append(set(scope["extensions"]))
        scope["extensions"]["http.response.debug"] = {}
        await respond(send)

    with serving(app) as server, server.client() as client:
        client.request(GET)
        client.request(GET)
    assert offered == [OFFERED, OFFERED]


def test_early_hints_arrive_before_the_response():
    answered = []

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]})
        await read_body(receive)
        answered.append(True)
        await respond(send, b"page")

    with serving(app) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        head = client.head()
        assert head == b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style"
        assert not answered
        assert client.request(b"b").body == b"page"
        # HTTP/1.0 has no interim responses.
        assert client.request(b"GET / HTTP/1.0\r\n\r\n").interim == []


def test_trailers():
    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"def"})
        await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"1234")]})

    with serving(app) as server, server.client() as client:
        for _ in range(2):
            response = client.request(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
            assert (response.body, response.trailers) == (b"abcdef", [("x-checksum", "1234")])
            assert client.request(GET).trailers == []
