"""ASGI's tls extension, asked for by an application and checked against what its client knows of the connection."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography.x509 import load_pem_x509_certificate

from palfrey.types import Scope
from tests.support.inprocess import InThread, http, logged, respond, serving

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NAME = "app.test"
TRUST = trustme.CA()
BETWEEN = TRUST.create_child_ca()
CLIENT = BETWEEN.issue_cert("client.test", common_name="A, Client", organization_name="Example")
SERVER = TRUST.issue_cert(NAME)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("tls")
    SERVER.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    TRUST.cert_pem.write_to_path(folder / "ca.pem")
    return {"ssl_certfile": str(folder / "server.pem"), "ssl_ca_certs": str(folder / "ca.pem")}


@pytest.fixture
def context() -> ssl.SSLContext:
    made = ssl.create_default_context()
    TRUST.configure_trust(made)
    return made


class Seen:
    """An application's scopes."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

        @http
        async def app(scope, receive, send):
            self.scopes.append(scope)
            await respond(send)

        self.app = app

    @property
    def tls(self) -> dict[str, object]:
        """The extension, as the last request had it."""
        found: dict[str, object] = self.scopes[-1]["extensions"]["tls"]
        return found


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@contextmanager
def asked(server: InThread, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection on which a request has been answered."""
    with server.client().tls(context, NAME, session) as client:
        assert client.request(GET).status == 200
        assert isinstance(client.sock, ssl.SSLSocket)
        yield client.sock


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_version_suite_and_server_certificate(files, context, loop, version):
    seen = Seen()
    context.maximum_version = version
    only = {"ssl_certfile": files["ssl_certfile"]}
    with serving(seen.app, loop=loop, **only) as server, asked(server, context) as sock:
        name, number = sock.cipher()[0], seen.tls["cipher_suite"]
        shown = ssl.DER_cert_to_PEM_cert(sock.getpeercert(binary_form=True))
        assert sock.version() == version.name.replace("_", ".")
    assert seen.tls == {
        "server_cert": shown,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": {ssl.TLSVersion.TLSv1_2: 0x0303, ssl.TLSVersion.TLSv1_3: 0x0304}[version],
        "cipher_suite": number,
    }
    # RFC 8446 appendix B.4, RFC 5289 section 3.2, RFC 7905 section 2.
    assert (
        number
        == {
            "TLS_AES_128_GCM_SHA256": 0x1301,
            "TLS_AES_256_GCM_SHA384": 0x1302,
            "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
            "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
            "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
            "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
        }[name]
    )


@pytest.mark.parametrize("demand", ["optional", "required"])
def test_the_clients_certificate_and_its_chain(files, context, loop, demand):
    seen = Seen()
    CLIENT.configure_cert(context)
    number = {"optional": 1, "required": 2}[demand]
    with serving(seen.app, loop=loop, ssl_cert_reqs=number, **files) as server, asked(server, context):
        pass
    pems = [blob.bytes() for blob in CLIENT.cert_chain_pems]
    assert len(pems) == 2
    assert [text.encode() for text in seen.tls["client_cert_chain"]] == pems
    assert seen.tls["client_cert_name"] == load_pem_x509_certificate(pems[0]).subject.rfc4514_string()
    assert r"CN=A\, Client" in seen.tls["client_cert_name"]
    assert seen.tls["client_cert_error"] is None


def test_a_resumed_connection_still_knows_its_client(files, context, loop):
    seen = Seen()
    CLIENT.configure_cert(context)
    with serving(seen.app, loop=loop, ssl_cert_reqs=2, **files) as server:
        with asked(server, context) as sock:
            session = sock.session
        with asked(server, context, session=session) as sock:
            assert sock.session_reused
    assert seen.tls["client_cert_chain"][0].encode() == CLIENT.cert_chain_pems[0].bytes()
    assert r"CN=A\, Client" in seen.tls["client_cert_name"]


def test_who_shows_none_where_it_is_optional(files, context, loop):
    seen = Seen()
    with serving(seen.app, loop=loop, ssl_cert_reqs=1, **files) as server, asked(server, context):
        pass
    assert seen.tls["client_cert_chain"] == []
    assert seen.tls["client_cert_name"] is None


@pytest.mark.parametrize("demand", [1, 2])
def test_a_certificate_of_another_authority_makes_no_request(files, context, loop, demand):
    """So `client_cert_error` has nothing to say. With TLS 1.3 a client hears of it after its own handshake."""
    seen = Seen()
    trustme.CA().issue_cert("client.test").configure_cert(context)
    with (
        logged() as records,
        logged("asyncio") as loop_records,
        serving(seen.app, loop=loop, ssl_cert_reqs=demand, **files) as server,
    ):
        with pytest.raises((ssl.SSLError, OSError, AssertionError)), asked(server, context):
            pass
        server.until(lambda: not server.serving._acceptor.adopting)
    assert seen.scopes == []
    assert records.warnings == []
    assert loop_records.at(30) == []


def test_it_is_made_once_for_all_requests_of_a_connection(files, context, loop):
    seen = Seen()
    with serving(seen.app, loop=loop, ssl_certfile=files["ssl_certfile"]) as server:
        with server.client().tls(context, NAME) as client:
            for _ in range(3):
                client.request(GET)
        with asked(server, context):
            pass
    one, two, three, other = (scope["extensions"]["tls"] for scope in seen.scopes)
    assert one is two is three is not other


def test_there_is_none_without_tls(loop):
    seen = Seen()
    with serving(seen.app, loop=loop) as server, server.client() as client:
        client.request(GET)
    assert "tls" not in seen.scopes[0]["extensions"]
    assert "http.response.trailers" in seen.scopes[0]["extensions"]


# The hook ------------------------------------------------------------------------------------------------------------


def test_a_context_of_the_hooks_own_choosing(files, context, loop):
    """One that picks a certificate by name: which one a client sees only the hook knows."""
    seen = Seen()
    second = TRUST.issue_cert("second.test")

    def choose(conf, default_ssl_context_factory):
        def by_name(connection, name, first):
            if name == "second.test":
                connection.context = other

        other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        second.configure_cert(other)
        made = default_ssl_context_factory()
        made.sni_callback = by_name
        return made

    with serving(seen.app, loop=loop, ssl_certfile=files["ssl_certfile"], ssl_context=choose) as server:
        for name in (NAME, "second.test"):
            with server.client().tls(context, name) as client:
                assert client.request(GET).status == 200
                (pair,) = client.sock.getpeercert()["subjectAltName"]
                assert pair == ("DNS", name)
    assert seen.tls["server_cert"] is None
    assert seen.tls["tls_version"] == 0x0304
