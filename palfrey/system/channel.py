"""The line between the arbiter and one worker: a socketpair that carries one JSON object a line, both ways.

Either end is non-blocking and close-on-exec. What is said over it is in `palfrey/workers/worker.py` (what a worker
hears and reports) and `palfrey/arbiter.py`; this file only frames. Two properties carry weight:

- **EOF is news.** The kernel closes a dead process's end, so `closed` after `receive()` means that the peer is gone,
  whatever killed it. That holds only while nobody else has a copy of the peer's end: whoever forks has to close, in
  the child, every end that is not the child's own (`palfrey/master/spawn.py` does).
- **Nobody waits for the peer.** `send` gives up on a full buffer instead of blocking. Only a message of which the
  kernel took a part is finished under a short deadline, since half a line would spoil all that follow.

A message may take descriptors along (SCM_RIGHTS): a mold is lent a new worker's channel and the listeners. They
arrive no later than the line that they were sent with, which counts them in its field `fds`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

MAX_LINE = 1 << 20
"""Bytes of one message; a peer that sends more without a line end is out of its mind and is treated as gone."""
BUFFER = 1 << 18
"""Bytes asked of the kernel for each direction: macOS gives 8 KiB, less than many a traceback."""
MAX_FDS = 253
"""Descriptors of one message: Linux's SCM_MAX_FD."""
FINISH_WITHIN = 1.0
"""Seconds to get the rest of a partly taken message out."""


class Channel:
    """One end. `sock` becomes the channel's own and is closed with it."""

    __slots__ = ("_fds", "_received", "_sock", "closed")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._sock = sock
        self._received = bytearray()
        self._fds: list[int] = []
        self.closed = False
        """True once the peer is known to be gone or this end was closed. Nothing more will be received or sent."""

    def fileno(self) -> int:
        """The descriptor to watch for reading, or -1 after `close()`."""
        return self._sock.fileno()

    def send(self, kind: str, *, fds: Sequence[int] = (), **fields: Any) -> bool:
        """Send one message. False when it did not go: the peer is gone, or does not read and its buffer is full.

        Copies of `fds` (at most MAX_FDS) go along, for `receive_with_fds`. Raises TypeError for fields that JSON cannot
        carry.
        """
        if self.closed:
            return False
        if fds:
            fields["fds"] = len(fds)
        line = json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode() + b"\n"
        try:
            sent = socket.send_fds(self._sock, [line], fds) if fds else self._sock.send(line)
        except BlockingIOError:
            return False
        except OSError:  # EPIPE, ECONNRESET. What the peer said before it went can still be received.
            return False
        return sent == len(line) or self._finish(line[sent:])

    def receive(self) -> list[dict[str, Any]]:
        """All messages that have arrived in full, oldest first. Never waits; sets `closed` at the end of the stream.

        A line that is not a JSON object with a text `kind` is dropped: the worker's process runs the user's code,
        and nothing that this code writes by accident may upset the arbiter.
        """
        while not self.closed:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._take_in(data)
        return self._messages()

    def receive_with_fds(self) -> list[tuple[dict[str, Any], list[int]]]:
        """`receive`, with the descriptors that came with each message: the caller's to close, and close-on-exec."""
        while not self.closed:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, 65536, MAX_FDS)
            except BlockingIOError:
                break
            except OSError:
                data, fds = b"", []
            for fd in fds:
                os.set_inheritable(fd, False)
            self._fds += fds
            self._take_in(data)
        return [(message, self._take_fds(message.get("fds", 0))) for message in self._messages()]

    def _take_fds(self, count: int) -> list[int]:
        taken, self._fds = self._fds[:count], self._fds[count:]
        return taken

    def _take_in(self, data: bytes) -> None:
        self._received += data
        if not data or len(self._received) > MAX_LINE:
            self.closed = True

    def _messages(self) -> list[dict[str, Any]]:
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        return [message for line in lines if (message := _decode(line)) is not None]

    def close(self) -> None:
        """Close this end; the peer sees the end of the stream. May be called twice."""
        self.closed = True
        self._sock.close()

    def _finish(self, rest: bytes) -> bool:
        deadline = time.monotonic() + FINISH_WITHIN
        writable = select.poll()
        writable.register(self._sock, select.POLLOUT)
        while rest:
            left = deadline - time.monotonic()
            if left <= 0 or not writable.poll(left * 1000):
                self.closed = True
                return False
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True


def channel_pair() -> tuple[Channel, Channel]:
    """Two connected ends. Raises OSError when descriptors have run out."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return Channel(ends[0]), Channel(ends[1])


def _decode(line: bytes | bytearray) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    if isinstance(message, dict) and isinstance(message.get("kind"), str):
        return message
    return None
