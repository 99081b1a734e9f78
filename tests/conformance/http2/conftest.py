"""`peer`: the ways in which each case of the specification is tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.http2 import SocketLink
from tests.support.http2cases import SERVER, Peer, answering, outside, reading
from tests.support.inprocess import InThread, serving

APPS = {"answering": answering, "reading": reading}
WAYS = ["outside"] if SERVER else [f"{app}-{way}" for app in APPS for way in ("together", "apart", "socket")]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, InThread]]:
    if SERVER:
        yield {}
        return
    with serving(answering, http="h2") as one, serving(reading, http="h2") as other:
        yield {"answering": one, "reading": other}


@pytest.fixture(params=WAYS)
def peer(request: pytest.FixtureRequest, servers: dict[str, InThread]) -> Peer:
    if SERVER:
        return outside
    app, _, way = request.param.partition("-")

    async def connect():
        if way == "socket":
            address = servers[app].address
            assert not isinstance(address, str)
            return await SocketLink.connect(address)
        from tests.support.http2driven import MemoryLink

        return MemoryLink(APPS[app], apart=way == "apart")

    return connect
