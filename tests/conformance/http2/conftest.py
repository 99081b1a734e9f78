"""`peer`: the ways in which each case of the specification is tried."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.http2 import SocketLink
from tests.support.http2cases import SERVER, Peer, answering, outside, reading
from tests.support.inprocess import InThread, serving

APPS = {"answering": answering, "reading": reading}
WAYS = ["outside"] if SERVER else [f"{app}-{way}" for app in APPS for way in ("together", "apart", "socket", "tls")]
NAME = "app.test"


@pytest.fixture(scope="session")
def trust() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(trust: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a server for NAME."""
    folder: Path = tmp_path_factory.mktemp("tls")
    issued = trust.issue_cert(NAME)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=number > 0)
    return {"ssl_certfile": str(folder / "cert.pem"), "ssl_keyfile": str(folder / "key.pem")}


@pytest.fixture(scope="session")
def context(trust: trustme.CA) -> ssl.SSLContext:
    """A client's that offers h2."""
    made = ssl.create_default_context()
    trust.configure_trust(made)
    made.set_alpn_protocols(["h2", "http/1.1"])
    return made


@pytest.fixture(scope="module")
def servers(certificate: dict[str, str]) -> Iterator[dict[str, InThread]]:
    if SERVER:
        yield {}
        return
    with (
        serving(answering, http="h2") as one,
        serving(reading, http="h2") as other,
        serving(answering, http="h2", **certificate) as one_tls,
        serving(reading, http="h2", **certificate) as other_tls,
    ):
        yield {
            "answering-socket": one,
            "reading-socket": other,
            "answering-tls": one_tls,
            "reading-tls": other_tls,
        }


@pytest.fixture(params=WAYS)
def peer(request: pytest.FixtureRequest, servers: dict[str, InThread], context: ssl.SSLContext) -> Peer:
    if SERVER:
        return outside
    app, _, way = request.param.partition("-")

    async def connect():
        if way in {"socket", "tls"}:
            address = servers[request.param].address
            assert not isinstance(address, str)
            return await SocketLink.connect(address, *((context, NAME) if way == "tls" else ()))
        from tests.support.http2driven import MemoryLink

        return MemoryLink(APPS[app], apart=way == "apart")

    return connect
