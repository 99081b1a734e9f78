"""send_by_kernel on a pair of sockets, with a kernel that does as the test says."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest

from palfrey.asgi.stream import ClientDisconnected
from palfrey.protocols.http1 import sendfile
from palfrey.protocols.http1.sendfile import PIECE, send_by_kernel
from tests.support.inprocess import looped

pytestmark = pytest.mark.skipif(not hasattr(os, "sendfile"), reason="this system has no os.sendfile")


class Transport(asyncio.Transport):
    """A socket's, with as much in its buffer as the test says."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.limits: list[int | None] = []
        self.buffered = 0
        self.writer: Writer
        self.aborted = False

    def set_write_buffer_limits(self, high=None, low=None):
        self.limits.append(high)
        if self.buffered and high == 0:
            self.writer.pause_writing()

    def flush(self) -> None:
        self.buffered = 0
        self.writer.resume_writing()

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True
        asyncio.get_running_loop().call_soon(self.writer.leave)


class Writer:
    """A connection's side of it, which notes what it is told."""

    def __init__(self) -> None:
        self.writable = True
        self.gone = False
        self.pauses = 0
        self.sent: list[int] = []
        self._changed = asyncio.Event()

    def pause_writing(self) -> None:
        self.writable = False
        self.pauses += 1
        self._changed.clear()

    def resume_writing(self) -> None:
        self.writable = True
        self._changed.set()

    def leave(self) -> None:
        self.gone = True
        self._changed.set()

    async def drain(self) -> None:
        if not (self.writable or self.gone):
            await self._changed.wait()

    def check_open(self) -> None:
        if self.gone:
            raise ClientDisconnected


class Scene:
    """A file of 5 * PIECE bytes, the two ends of a connection, and the sending of the file."""

    def __init__(self, tmp_path) -> None:
        path = tmp_path / "file"
        path.touch()
        os.truncate(path, 5 * PIECE)
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.transport = Transport(self.ours)
        self.writer = self.transport.writer = Writer()
        self.file = path.open("rb")

    async def send(self, offset: int, count: int) -> int:
        return await send_by_kernel(
            self.writer, self.transport, self.file.fileno(), offset, count, self.writer.sent.append
        )

    def fill(self) -> None:
        """Their side is full: nothing more can be sent until they read."""
        try:
            while self.ours.send(bytes(65536)):
                pass
        except BlockingIOError:
            pass

    def read(self) -> None:
        try:
            while self.theirs.recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ours.close()
        self.theirs.close()
        self.file.close()


@pytest.fixture
def scene(tmp_path, monkeypatch):
    copies = []
    dup = os.dup
    monkeypatch.setattr(os, "dup", lambda fd: copies.append(dup(fd)) or copies[-1])
    with Scene(tmp_path) as made:
        yield made
    for fd in copies:
        with pytest.raises(OSError):
            os.fstat(fd)


@pytest.fixture
def kernel(monkeypatch):
    """What os.sendfile is to answer, in order: a number of bytes or an errno's name. It notes what it was asked."""

    class Kernel:
        def __init__(self) -> None:
            self.answers: list[int | str] = []
            self.asked: list[tuple[int, int]] = []

        def __call__(self, target, source, offset, count):
            self.asked.append((offset, count))
            answer = self.answers.pop(0)
            if isinstance(answer, str):
                number = getattr(errno, answer)
                raise OSError(number, os.strerror(number))
            return answer

    made = Kernel()
    monkeypatch.setattr(os, "sendfile", made)
    return made


@looped
async def test_what_was_not_taken_is_sent_from_where_it_broke_off(scene, kernel):
    kernel.answers = [10, 1, 89]
    assert await scene.send(1000, 100) == 100
    assert kernel.asked == [(1000, 100), (1010, 90), (1011, 89)]
    assert scene.writer.sent == [10, 1, 89]
    assert scene.transport.limits == [0, None]


@pytest.mark.parametrize("count", [PIECE, PIECE + 1, 3 * PIECE])
@looped
async def test_the_loop_turns_between_pieces(scene, kernel, count):
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.ensure_future(turn())
    await asyncio.sleep(0)
    pieces = [PIECE] * (count // PIECE) + ([count % PIECE] if count % PIECE else [])
    kernel.answers = list(pieces)
    before = turns
    await scene.send(0, count)
    assert turns - before == len(pieces) - 1
    turning.cancel()


@looped
async def test_a_full_socket_is_waited_for(scene, monkeypatch):
    scene.fill()
    calls = []
    call = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *arguments: calls.append(1) or call(*arguments))
    sending = asyncio.ensure_future(scene.send(0, 1000))
    for _ in range(50):
        await asyncio.sleep(0)
    assert (len(calls), scene.writer.writable, scene.writer.pauses) == (1, False, 1)
    scene.read()
    assert await sending == 1000
    assert (len(calls), scene.writer.writable) == (2, True)


@looped
async def test_what_the_transport_holds_goes_first(scene, kernel):
    kernel.answers = [5]
    scene.transport.buffered = 100
    sending = asyncio.ensure_future(scene.send(0, 5))
    for _ in range(5):
        await asyncio.sleep(0)
    assert kernel.asked == []
    scene.transport.flush()
    assert await sending == 5


@pytest.mark.parametrize("name", ["EINVAL", "ENOSYS", "EOPNOTSUPP", "EOVERFLOW"])
@pytest.mark.parametrize("before", [0, 60])
@looped
async def test_what_the_kernel_cannot_send_is_left(scene, kernel, name, before):
    kernel.answers = [*([before] if before else []), name]
    assert await scene.send(0, 100) == before


@pytest.mark.parametrize("name", ["EPIPE", "ECONNRESET", "ETIMEDOUT", "ENOTCONN", "EHOSTUNREACH", "ECONNABORTED"])
@looped
async def test_a_client_that_left_is_one_to_the_connection_before_the_application_hears_of_it(scene, kernel, name):
    kernel.answers = [10, name]
    with pytest.raises(ClientDisconnected):
        await scene.send(0, 100)
    assert scene.writer.gone
    assert scene.transport.aborted


@pytest.mark.parametrize("name", ["EIO", "EBADF", "ENOMEM"])
@looped
async def test_a_file_that_cannot_be_read_is_no_matter_of_the_client(scene, kernel, name):
    kernel.answers = [10, name]
    with pytest.raises(OSError) as failure:
        await scene.send(0, 100)
    assert not isinstance(failure.value, ClientDisconnected)
    assert not scene.transport.aborted


@looped
async def test_a_file_that_ends_early(scene, kernel):
    kernel.answers = [10, 0]
    with pytest.raises(OSError, match="shorter"):
        await scene.send(0, 100)


@pytest.mark.parametrize("leaves", [False, True])
@looped
async def test_cancelled_or_left_while_the_socket_is_full(scene, leaves):
    scene.fill()
    sending = asyncio.ensure_future(scene.send(0, 1000))
    while scene.writer.writable:  # noqa: ASYNC110
        await asyncio.sleep(0)
    if leaves:
        scene.writer.leave()
        with pytest.raises(ClientDisconnected):
            await sending
    else:
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert scene.writer.writable
    # Nothing is watched any more.
    scene.read()
    pauses = scene.writer.pauses
    for _ in range(5):
        await asyncio.sleep(0)
    assert scene.writer.pauses == pauses


@looped
async def test_tls_is_no_socket_for_the_kernel(scene, kernel):
    scene.transport._extra["sslcontext"] = object()
    assert await scene.send(0, 100) == 0
    assert kernel.asked == []


@looped
async def test_pieces_are_bounded(scene, kernel, monkeypatch):
    monkeypatch.setattr(sendfile, "PIECE", 10)
    kernel.answers = [10, 10, 5]
    assert await scene.send(0, 25) == 25
    assert kernel.asked == [(0, 10), (10, 10), (20, 5)]
