"""A worker under rapid reset (CVE-2023-44487) from several clients at once, while others are served."""

from __future__ import annotations

import asyncio
import re
import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.process.conftest import Start
from tests.process.test_slow_clients import others
from tests.support.http2 import Client, SocketLink
from tests.support.http2frames import PREFACE, Kind, headers, reset, settings, split
from tests.support.processes import PATIENCE

APP = """\
most = running = began = 0


async def app(scope, receive, send):
    global most, running, began
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/slow":
        began += 1
        running += 1
        most = max(most, running)
        while (await receive())["type"] != "http.disconnect":
            pass
        running -= 1
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%d %d" % (began, most)})
"""

SLOW = b"\x82\x86\x04\x05/slow\x01\x01a"
"""GET http://a/slow, which leaves the table as it is."""
ATTACKERS, CONNECTIONS, RESETS, MOST = 4, 8, 100, 3000


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def attack(port: int, at_once: int) -> int:
    """Requests and their resets, as fast as the server reads them, until it has had enough; the code that it gives."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as wire:
        wire.sendall(PREFACE + settings())
        received, stream = bytearray(), 1
        for _ in range(MOST // at_once):
            numbers = range(stream, stream + 2 * at_once, 2)
            stream = numbers.stop
            wire.sendall(b"".join(headers(number, SLOW) + reset(number) for number in numbers))
            if select.select((wire,), (), (), 0)[0] and (code := goaway(wire, received)) is not None:
                return code
        while (code := goaway(wire, received)) is None:
            pass
        return code


def goaway(wire: socket.socket, received: bytearray) -> int | None:
    """What comes next: the code of a GOAWAY, if there is one in it."""
    more = wire.recv(65536)
    assert more, "the connection ended without a word"
    received += more
    return next((frame.code for frame in split(received) if frame.kind == Kind.GOAWAY), None)


async def bystander(port: int, served: list[bytes], until: list[bool]) -> None:
    """Asks and asks over one connection of HTTP/2."""
    client = Client(await SocketLink.connect(("127.0.0.1", port)))
    await client.begin()
    while not until:
        answer = await client.response(await client.request())
        assert answer.status == 200
        served.append(answer.body)
    client.link.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_rapid_reset_is_cut_and_others_are_served(serve: Start, loop: str) -> None:
    server = serve("--http", "h2", "--http2-max-resets", str(RESETS), "--no-access-log", "--loop", loop, workers=1)
    worker = server.workers()
    served: list[bytes] = []
    over: list[bool] = []
    with ThreadPoolExecutor(ATTACKERS + 1) as pool, others(server) as served_by_http1:
        beside = pool.submit(asyncio.run, bystander(server.port, served, over))
        try:
            attacks = [
                pool.submit(attack, server.port, 1 + 20 * (number % 3)) for number in range(ATTACKERS * CONNECTIONS)
            ]
            codes = [each.result(PATIENCE) for each in attacks]
        finally:
            over.append(True)
        beside.result(PATIENCE)
    assert set(codes) == {ErrorCode.ENHANCE_YOUR_CALM}
    assert served
    assert served_by_http1
    assert server.workers() == worker
    began, most = map(int, server.get())
    assert began <= len(codes) * (RESETS + 1)
    assert most <= ATTACKERS * 2 * 100, "twice http2_max_concurrent_streams for each of those that were there at once"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert len(re.findall(r"^WARNING.*too many streams that were reset", server.output, re.MULTILINE)) == len(codes)
    assert not re.search(r"^(ERROR|CRITICAL)|Traceback", server.output, re.MULTILINE), server.output
