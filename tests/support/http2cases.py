"""What the cases of tests/conformance/http2/test_spec_*.py have in common: `case` gives each its client.

Each runs against an application that answers at once and one that reads the request first; in memory with its frames
in one read and with a pause behind each; and on a real socket. Where HTTP2_SERVER is set ("127.0.0.1:8000") they run
against the server there instead, which has to speak HTTP/2 without TLS and to answer / with at least 5 bytes.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable

from palfrey.types import Receive, Scope, Send
from tests.support.http2 import PATIENCE, Client, Link, SocketLink
from tests.support.inprocess import http, read_body, respond

Peer = Callable[[], Awaitable[Link]]
"""Makes a connection."""

BODY = b"Hello, World!\n"

SERVER = os.environ.get("HTTP2_SERVER", "")


@http
async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """Asks for nothing of the request."""
    await respond(send, BODY)


@http
async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Wants all of the request first."""
    try:
        await read_body(receive)
    except EOFError:
        return
    await respond(send, BODY)


async def outside() -> Link:
    """The server that HTTP2_SERVER names."""
    host, _, port = SERVER.rpartition(":")
    return await SocketLink.connect((host, int(port)))


def case(test: Callable[[Client], Awaitable[None]]) -> Callable[[Peer], None]:
    """Runs a test with a client whose connection has begun."""
    return _case(test, begins=True)


def raw_case(test: Callable[[Client], Awaitable[None]]) -> Callable[[Peer], None]:
    """The same for a test that sends the preface itself."""
    return _case(test, begins=False)


def _case(test: Callable[[Client], Awaitable[None]], begins: bool) -> Callable[[Peer], None]:
    @functools.wraps(test)
    def run(peer: Peer) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE):
                client = Client(await peer())
                try:
                    if begins:
                        await client.begin()
                    await test(client)
                finally:
                    client.link.close()
                    await asyncio.sleep(0)

        asyncio.run(within())

    del run.__wrapped__  # its parameter is the test's, and no fixture
    return run
