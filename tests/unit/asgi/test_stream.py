"""One suite for every Stream: what an exchange may rely on, whatever the protocol below. HTTP/1.1 is its first row.

A new protocol adds a row to STREAMS: how to make a stream with its client, and how its client reads.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest

from palfrey.asgi.stream import Framing, InvalidHeader, Stream
from tests.support.driven import Driven
from tests.support.inprocess import http, looped
from tests.support.rawhttp import Response


class Http1:
    """An HTTP/1.1 connection with a request in hand whose application leaves the response to the test."""

    def __init__(self, method: str = "GET") -> None:
        self._method = method
        self._driven = Driven(http(self._hold))
        self._driven.feed(method.encode() + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.stream: Stream = self._driven.connection

    async def _hold(self, scope, receive, send):
        await self._driven.loop.create_future()

    @property
    def written(self) -> int:
        return len(self._driven.transport.writes)

    def response(self) -> Response:
        (response,) = self._driven.responses(self._method)
        return response

    def stop_reading(self) -> None:
        self._driven.connection.pause_writing()

    def go_on_reading(self) -> None:
        self._driven.connection.resume_writing()

    def leave(self) -> None:
        self._driven.connection.connection_lost(None)

    @property
    def closed(self) -> bool:
        return self._driven.over

    async def settle(self) -> None:
        await self._driven.settle()


STREAMS: dict[str, Callable[..., Http1]] = {"http/1.1": Http1}


@pytest.fixture(params=STREAMS)
def make(request) -> Callable[..., Http1]:
    return STREAMS[request.param]


def test_every_method_of_the_port_is_there(make):
    names = {name for name, _ in inspect.getmembers(Stream, inspect.isfunction) if not name.startswith("_")}
    assert names >= {"send_head", "send_body", "send_file", "send_informational", "send_trailers", "drain", "credit"}

    @looped
    async def check():
        stream = make().stream
        for name in names:
            wanted = inspect.signature(getattr(Stream, name)).parameters
            have = inspect.signature(getattr(stream, name)).parameters
            assert list(have) == [parameter for parameter in wanted if parameter != "self"]

    check()


@looped
async def test_head_and_content_leave_in_one_write(make):
    side = make()
    side.stream.send_head(200, [(b"x", b"y")], b"12345", False, Framing.WHOLE)
    assert side.written == 1
    assert (side.response().body, side.response()["x"]) == (b"12345", "y")


@looped
async def test_open_content_in_parts(make):
    side = make()
    side.stream.send_head(200, [], b"", True, Framing.OPEN)
    side.stream.send_body(b"12", True)
    side.stream.send_body(b"", True)
    side.stream.send_body(b"345", False)
    assert side.response().body == b"12345"


@looped
async def test_open_content_with_trailers(make):
    side = make()
    side.stream.send_head(200, [], b"12345", True, Framing.OPEN)
    side.stream.send_trailers([(b"a", b"b")])
    assert (side.response().body, side.response().trailers) == (b"12345", [("a", "b")])


@looped
async def test_content_of_a_declared_length(make):
    side = make()
    side.stream.send_head(200, [(b"content-length", b"5")], b"12", True, Framing.DECLARED)
    side.stream.send_body(b"345", False)
    assert side.response().body == b"12345"


@looped
async def test_no_content(make):
    side = make("HEAD")
    side.stream.send_head(200, [(b"content-length", b"5")], b"", False, Framing.NONE)
    assert side.response()["content-length"] == "5"


@looped
async def test_a_header_that_cannot_be_sent_leaves_nothing_behind(make):
    side = make()
    for pairs in ([(b"a", b"b"), (b"c", b"d\r\ne")], [(b"a b", b"")]):
        with pytest.raises(InvalidHeader):
            side.stream.send_head(200, pairs, b"12345", False, Framing.WHOLE)
        with pytest.raises(InvalidHeader):
            side.stream.send_informational(103, pairs)
    assert side.written == 0
    side.stream.send_head(500, [], b"12345", False, Framing.WHOLE)
    assert side.response().status == 500


@looped
async def test_interim_responses(make):
    side = make()
    side.stream.send_informational(103, [(b"link", b"</a>")])
    side.stream.send_head(200, [], b"", False, Framing.WHOLE)
    assert [interim.status for interim in side.response().interim] == [103]


@looped
async def test_writable_and_drain(make):
    side = make()
    assert side.stream.writable
    await side.stream.drain()
    side.stop_reading()
    assert not side.stream.writable
    drained = []

    async def drain():
        await side.stream.drain()
        drained.append(1)

    tasks = [asyncio.ensure_future(drain()) for _ in range(2)]
    await side.settle()
    assert drained == []
    side.go_on_reading()
    await asyncio.gather(*tasks)
    assert side.stream.writable
    side.stop_reading()
    task = asyncio.ensure_future(drain())
    await side.settle()
    side.leave()
    await task


@looped
async def test_a_file(make, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100000)
    side = make()
    side.stream.send_head(200, [(b"content-length", b"600000")], b"", True, Framing.DECLARED)
    with path.open("rb") as file:
        await side.stream.send_file(file.fileno(), 10, 600000, False)
    assert side.response().body == b"0123456789" * 60000


@looped
async def test_a_file_that_is_shorter_than_promised(make, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    side = make()
    side.stream.send_head(200, [(b"content-length", b"10")], b"", True, Framing.DECLARED)
    with path.open("rb") as file, pytest.raises(OSError, match="shorter"):
        await side.stream.send_file(file.fileno(), 0, 10, False)


@looped
async def test_a_file_for_a_client_that_left(make, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    side = make()
    side.stream.send_head(200, [(b"content-length", b"5")], b"", True, Framing.DECLARED)
    before = side.written
    side.leave()
    with path.open("rb") as file, pytest.raises(OSError, match="gone"):
        await side.stream.send_file(file.fileno(), 0, 5, False)
    assert side.written == before


@pytest.mark.parametrize("end", ["reset", "abort"])
@looped
async def test_the_end_of_a_response_that_is_not_whole(make, end):
    side = make()
    side.stream.send_head(200, [], b"12", True, Framing.OPEN)
    getattr(side.stream, end)()
    assert side.closed
