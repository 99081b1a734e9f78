"""Files by the kernel: `os.sendfile` from a file to a connection's socket, without a byte of it in Python.

uvloop has no `loop.sendfile`, and no loop lets others watch the descriptor of a transport. So a copy of the descriptor
is watched, and written to. Law: the transport itself has nothing to write from the first byte to the last (`_flush`
sees to the beginning, the exchange to the rest); two writers to one socket would mix.

A client that reads too slowly looks to the connection as it does otherwise: `pause_writing` while the socket is full,
`resume_writing` each time that it has taken something.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Protocol

from palfrey.asgi.messages import shrunk
from palfrey.asgi.stream import ClientDisconnected

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 1 << 20
"""Bytes in one call, after which the loop turns: other connections wait meanwhile, and longer where the file comes from
a disk (nginx's sendfile_max_chunk: 2 MB)."""

_UNABLE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSOCK, errno.EOVERFLOW}
"""The kernel cannot do it for this kind of file (some of FUSE) or socket; nothing has been sent by the call."""
_UNREACHABLE = {errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}


class Writer(Protocol):
    """What a connection that sends a file is asked for, besides its transport."""

    writable: bool

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    async def drain(self) -> None: ...

    def check_open(self) -> None:
        """Raises ClientDisconnected when nothing can be sent any more."""


async def send_by_kernel(
    writer: Writer, transport: asyncio.Transport, fd: int, offset: int, count: int, sent: Callable[[int], None]
) -> int:
    """Sends what the kernel can send of `count` bytes of the file, and tells `sent` as it goes.

    Returns how many those were: all, or less where the file or the transport (TLS) is none for this. Raises
    ClientDisconnected, and OSError when the file is at fault.
    """
    target = _copied_descriptor(transport)
    if target is None:
        return 0
    try:
        await _flush(writer, transport)
        return await _pump(writer, transport, target, fd, offset, count, sent)
    finally:
        os.close(target)


def _copied_descriptor(transport: asyncio.Transport) -> int | None:
    if not hasattr(os, "sendfile") or transport.get_extra_info("sslcontext") is not None:
        return None
    sock = transport.get_extra_info("socket")
    try:
        return None if sock is None else os.dup(sock.fileno())
    except OSError:  # the socket is closed, or the process has no descriptor left
        return None


async def _flush(writer: Writer, transport: asyncio.Transport) -> None:
    """Returns when the transport has written all that it was given."""
    transport.set_write_buffer_limits(0)  # pauses the writer unless nothing is buffered, and resumes it at zero
    try:
        while not writer.writable:
            await writer.drain()
            writer.check_open()
    finally:
        if not transport.is_closing():
            transport.set_write_buffer_limits()


async def _pump(
    writer: Writer,
    transport: asyncio.Transport,
    target: int,
    fd: int,
    offset: int,
    count: int,
    sent: Callable[[int], None],
) -> int:
    done = 0
    while done < count:
        writer.check_open()
        most = min(count - done, PIECE)
        try:
            taken = os.sendfile(target, fd, offset + done, most)
        except BlockingIOError:
            await _wait_until_writable(writer, target)
            continue
        except OSError as error:
            if error.errno in _UNABLE:
                break
            if isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _UNREACHABLE:
                await _lose(writer, transport)
                raise ClientDisconnected("the client left while a file was being sent") from error
            raise
        if not taken:
            raise shrunk()
        done += taken
        sent(taken)
        if taken == most and done < count:
            await asyncio.sleep(0)
    return done


async def _wait_until_writable(writer: Writer, target: int) -> None:
    loop = asyncio.get_running_loop()

    def ready() -> None:
        loop.remove_writer(target)
        writer.resume_writing()

    writer.pause_writing()
    loop.add_writer(target, ready)
    try:
        await writer.drain()
    finally:
        loop.remove_writer(target)
        if not writer.writable:  # cancelled, or the client is gone: nobody else would take back this pause
            writer.resume_writing()


async def _lose(writer: Writer, transport: asyncio.Transport) -> None:
    """Returns once the connection knows what only the copy of its socket has been told."""
    writer.pause_writing()
    transport.abort()
    await writer.drain()
