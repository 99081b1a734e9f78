"""HTTP/2 turned on and off by HUP, and who gets it meanwhile: by ALPN, by the preface, over a UNIX socket."""

from __future__ import annotations

import signal
import socket
import ssl
from pathlib import Path

from palfrey.protocols.http2.frames import PREFACE, SETTINGS, frame, goaway_frame
from tests.process.conftest import Start
from tests.process.test_tls import GET, NAME, OLD, connected, put, trusting
from tests.support.processes import PATIENCE, Server
from tests.support.rawhttp import Client

HELLO = PREFACE + frame(SETTINGS, 0, 0)


def configure(site: Path, http: str) -> None:
    (site / "palfrey.conf.py").write_text(f'http = "{http}"\n')


def spoken_to_the_preface(client: Client) -> str:
    client.send(HELLO)
    start = client.take(9)
    if start.startswith(b"HTTP/1.1 "):
        return "505" if b"505" in start + client.rest() else "http/1.1"
    assert start[3:] == bytes((SETTINGS, 0, 0, 0, 0, 0)), "the server's own preface is SETTINGS"
    client.send(goaway_frame(0, 0, ""))
    client.rest()
    return "h2"


def chosen_by_alpn(server: Server, *offered: str) -> str | None:
    context = trusting()
    context.set_alpn_protocols(offered)
    with connected(server, context) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        chosen = client.sock.selected_alpn_protocol()
        assert spoken_to_the_preface(client) == ("h2" if chosen == "h2" else "505")
        return chosen


def reload(server: Server, generation: int) -> None:
    old = server.workers()
    server.signal(signal.SIGHUP)
    server.wait_for_ready(1, generation=generation)
    server.wait_for_ends(old)


def test_without_tls(serve: Start, site: Path) -> None:
    configure(site, "auto")
    server = serve(workers=1)
    address = ("127.0.0.1", server.port)
    for generation, (http, spoken) in enumerate((("auto", "505"), ("h2", "h2"), ("h11", "505")), 1):
        if generation > 1:
            configure(site, http)
            reload(server, generation)
        with Client.connect(address) as client:
            assert spoken_to_the_preface(client) == spoken
        with Client.connect(address) as client:
            assert client.request(GET).status == 200, "HTTP/1.1 is always spoken"


def test_over_tls(serve: Start, site: Path) -> None:
    configure(site, "auto")
    server = serve(*put(site, OLD), workers=1)
    for generation, (http, spoken) in enumerate((("auto", "http/1.1"), ("h2", "h2"), ("auto", "http/1.1")), 1):
        if generation > 1:
            configure(site, http)
            reload(server, generation)
        assert chosen_by_alpn(server, "http/1.1", "h2") == spoken
        assert chosen_by_alpn(server, "http/1.1") == "http/1.1"
        assert chosen_by_alpn(server, "h3") is None


def test_over_a_unix_socket(serve: Start, site: Path) -> None:
    path = str(site / "s.sock")
    serve("--uds", path, "--http", "h2", workers=1, port="")
    with Client.connect(path) as client:
        assert spoken_to_the_preface(client) == "h2"
    with Client.connect(path) as client:
        assert client.request(GET).status == 200


def test_a_cipher_that_http2_forbids_is_for_http1_alone(serve: Start, site: Path) -> None:
    forbidden = "ECDHE-ECDSA-AES128-SHA256"
    server = serve(*put(site, OLD), "--http", "h2", "--ssl-ciphers", forbidden, workers=1)
    for offered, said in (("h2", b"this cipher is not for HTTP/2"), ("http/1.1", b"HTTP/1.1 200")):
        context = trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(forbidden)
        context.set_alpn_protocols([offered])
        sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        with Client(sock).tls(context, NAME) as client:
            client.send(HELLO if offered == "h2" else GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert said in client.rest()
    server.wait_for(f"Refused HTTP/2 to 127.0.0.1: RFC 9113 forbids {forbidden}, which ssl_ciphers allows")
