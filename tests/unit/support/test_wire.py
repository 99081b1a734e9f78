"""The strict response reader, on bytes whole and one at a time."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.wire import Ended, Head, Malformed, ResponseReader, Wire

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def read(data: bytes, size: int, *, to_head: bool = False, then: str = "EOF") -> tuple[Head, bytes, bytes]:
    """One response out of `data` that comes `size` bytes at a time: its head, its body, and what is left over."""
    wire = Wire()
    reader = ResponseReader(wire)

    async def answer() -> tuple[Head, bytes]:
        head = await reader.head(to_head=to_head)
        return head, b"".join([piece async for piece in reader.body(head)])

    task = asyncio.ensure_future(answer())
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        wire.data_received(data[start : start + size])
    await asyncio.sleep(0)
    if then == "EOF":
        wire.eof_received()
    else:
        wire.connection_lost(ConnectionResetError(then))
    head, body = await task
    return head, body, bytes(wire.buffer)


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
class TestReader:
    @pytest.mark.parametrize(
        ("data", "status", "body", "closes"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False),
            (b"HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", 200, b"", True),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end", True),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", False),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", False),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x", False),
            (CHUNKED + b"2\r\nab\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n", 200, b"ab0123456789", False),
        ],
    )  # fmt: skip
    def test_responses(self, size: int, data: bytes, status: int, body: bytes, closes: bool) -> None:
        head, found, left = asyncio.run(read(data, size))
        assert (head.status, found, head.closes, left) == (status, body, closes, b"")

    def test_what_follows_is_left(self, size: int) -> None:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 20"
        assert asyncio.run(read(data, size))[1:] == (b"ok", b"HTTP/1.1 20")

    def test_an_answer_to_head(self, size: int) -> None:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        assert asyncio.run(read(data, size, to_head=True))[1] == b""

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nName : v\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
            CHUNKED + b"1\r\nxy\r\n0\r\n\r\n",
            CHUNKED + b"\r\n\r\n",
        ],
    )
    def test_what_is_no_response(self, size: int, data: bytes) -> None:
        with pytest.raises(Malformed):
            asyncio.run(read(data, size))

    @pytest.mark.parametrize(
        "cut",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            CHUNKED + b"5\r\nhell",
            CHUNKED + b"5\r\nhello\r\n0\r\n",
        ],
    )
    def test_what_was_cut(self, size: int, cut: bytes) -> None:
        with pytest.raises(Ended, match="EOF"):
            asyncio.run(read(cut, size))

    def test_a_reset_is_no_end_of_a_body(self, size: int) -> None:
        with pytest.raises(Ended, match="ConnectionResetError: by peer"):
            asyncio.run(read(b"HTTP/1.1 200 OK\r\n\r\nuntil the", size, then="by peer"))


def test_a_head_is_bounded() -> None:
    with pytest.raises(Malformed, match="without end"):
        asyncio.run(read(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, 1 << 16))


def test_a_closed_wire_takes_writes_silently() -> None:
    wire = Wire()
    wire.write(b"x")
    wire.write_eof()
    wire.close()


def test_everybody_who_waits_is_woken() -> None:
    async def run() -> None:
        wire = Wire()
        waiting = [asyncio.ensure_future(wire.change()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        wire.data_received(b"x")
        await waiting[0]

    asyncio.run(run())
