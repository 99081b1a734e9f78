"""Each extension that the scope offers, with an application that uses it and a client that sees it."""

from __future__ import annotations

import os
import ssl

import psutil
import pytest
import trustme

from tests.support.inprocess import http, logged, read_body, respond, serving
from tests.support.rawhttp import Cut

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


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_pathsend(tmp_path, tls, loop):
    data = os.urandom(5_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"x/y")]})
        await send({"type": "http.response.pathsend", "path": str(path)})

    settings, context = {}, None
    if tls:
        authority = trustme.CA()
        issued = authority.issue_cert("app.test")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
        settings = {"ssl_certfile": str(tmp_path / "cert.pem")}
        context = ssl.create_default_context()
        authority.configure_trust(context)
    with serving(app, loop=loop, **settings) as server:
        client = server.client()
        if context is not None:
            client = client.tls(context, "app.test")
        with client:
            for _ in range(2):
                response = client.request(GET)
                assert response.body == data
                assert response["content-length"] == str(len(data))
            assert client.request(b"HEAD" + GET[3:], "HEAD")["content-length"] == str(len(data))
    assert str(path) not in [file.path for file in psutil.Process().open_files()]


def test_pathsend_to_a_client_that_leaves(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000_000))

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(path)})

    with logged() as records, serving(app) as server:
        client = server.client(receive_buffer=65536)
        client.send(GET)
        client.take(1000)
        client.reset()
        server.until(lambda: not server.serving.service.running)
    assert records.errors == []


def test_pathsend_of_a_file_that_shrinks_meanwhile(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000_000))

    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(path)})

    with logged() as records, serving(app) as server, server.client(receive_buffer=65536) as client:
        client.send(GET)
        client.take(1000)
        os.truncate(path, 1000)
        with pytest.raises(Cut):
            client.take(20_000_000)
    assert "shorter than it was" in records.errors[0]
