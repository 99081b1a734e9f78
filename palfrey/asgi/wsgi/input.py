"""`wsgi.input`: a request's content, as a file.

    io.BytesIO      all of it is here, and it is short
    a file on disk  all of it is here, and it is longer than SPOOL
    Arriving        more of it is still to come, and it is read by a thread while it arrives

Each ends where the content ends, whatever an application asks for. `receive()` of the exchange gives the content, so
that every protocol's backpressure holds: what is not read here stays with the client.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Any

from palfrey.asgi.stream import ClientDisconnected

if TYPE_CHECKING:
    from collections.abc import Callable

    from palfrey.types import Receive

SPOOL = 1 << 19
"""Bytes that are kept in memory; a longer content is spooled to disk (waitress's bound, too)."""
AHEAD = 1 << 18
"""Bytes that may have arrived and wait for the thread that reads."""


class SpoolError(OSError):
    """Content cannot be kept on disk, which is full for example."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"{error.strerror or error} (in {tempfile.gettempdir()}, for which TMPDIR may name another place)"
        )


class Spool:
    """Content as it is collected."""

    __slots__ = ("_file", "_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None

    def add(self, data: bytes) -> None:
        """Raises SpoolError."""
        self.size += len(data)
        try:
            if self._file is not None:
                self._file.write(data)
                return
            self._parts.append(data)
            if self.size > SPOOL:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the request
                self._file.writelines(self._parts)
                self._parts.clear()
        except OSError as error:
            raise SpoolError(error) from None

    def file(self) -> IO[bytes]:
        """What has been collected, to be read from its beginning. Raises SpoolError."""
        if self._file is None:
            return io.BytesIO(b"".join(self._parts))
        try:
            self._file.seek(0)
        except OSError as error:  # what was still to be written
            raise SpoolError(error) from None
        return self._file

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # likewise
                pass


async def collect(receive: Receive, spool: Spool, enough: int | None = None) -> bool:
    """Receives content up to its end, or until there is `enough` of it; whether that was the end.

    Raises ClientDisconnected when the client leaves before, and SpoolError.
    """
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("the client left before its request was whole")
        if message["body"]:
            spool.add(message["body"])
        if not message["more_body"]:
            return True
        if enough is not None and spool.size >= enough:
            return False


class Arriving(io.RawIOBase):
    """Content that is still arriving: the loop feeds it, one thread reads it, behind an io.BufferedReader."""

    def __init__(self, first: bytes, call_back: Callable[[Callable[[], None]], None]) -> None:
        """`call_back` has something called in the loop."""
        self._parts = [first] if first else []
        self._held = len(first)
        self._eof = self._gone = False
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        """There is room for more. Of the loop, which the thread asks to set it."""
        self._call_back = call_back

    # ---------------------------------------------------------------- for the loop

    async def receive_rest(self, receive: Receive) -> None:
        """Feeds it to its end, or until the client or the interest in it is gone."""
        while not self._gone:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            with self._changed:
                if message["body"]:
                    self._parts.append(message["body"])
                    self._held += len(message["body"])
                self._eof = not message["more_body"]
                self._room.clear()
                full = self._held > AHEAD
                self._changed.notify()
            if self._eof:
                return
            if full and not self._gone:  # it may have been cut while this was received
                await self._room.wait()

    def cut(self) -> None:
        """No more will come: who reads behind what is here gets ClientDisconnected, if that was not the end."""
        with self._changed:
            self._gone = True
            self._changed.notify()
        self._room.set()

    # ---------------------------------------------------------------- for the thread

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Waits for content. Raises ClientDisconnected when it will not come."""
        with self._changed:
            while not self._parts and not self._eof:
                if self._gone:
                    raise ClientDisconnected("the client left before its request was whole")
                self._changed.wait()
            if not self._parts:
                return 0
            part = self._parts[0]
            count = min(len(part), len(buffer))
            buffer[:count] = part[:count]
            if count < len(part):
                self._parts[0] = part[count:]
            else:
                del self._parts[0]
            before = self._held
            self._held = before - count
        if self._held <= AHEAD // 2 < before:
            self._call_back(self._room.set)
        return count
