"""A strict reader of HTTP/1.1 responses, and a blocking client that sends raw bytes and reads with it.

The reader forgives nothing (bare LF, two lengths, a length beside chunked coding, content after a 204), since a server
that is sloppy on the wire shows up nowhere else. It takes its bytes from any callable, so that what a fake transport
recorded and what a socket delivers are read by the same rules (RFC 9112 sections 2 to 7).
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

PATIENCE = 60.0
"""Seconds after which a read fails the test."""

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t\x20-\x7e]*)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_SIZE = re.compile(rb"[0-9a-f]{1,15}")


class Malformed(AssertionError):
    """The server sent what is not HTTP/1.1."""


class Cut(AssertionError):
    """The connection ended before the response did, by end of file."""


class Reset(Cut):
    """The connection ended before the response did, by a reset."""


@dataclass(frozen=True, slots=True)
class Response:
    """One final response and the interim ones before it."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    framing: str
    """`length`, `chunked`, `close` or `none`."""
    pieces: int
    """Chunks that the content came in; 0 without chunked coding."""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[Response] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The values of every field of that name."""
        return [value for key, value in self.fields if key == name]

    def __getitem__(self, name: str) -> str:
        """The value of a field that is there exactly once."""
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def closes(self) -> bool:
        """Whether the server said that this is the connection's last response."""
        return "close" in self.all("connection") or self.framing == "close"


class Reader:
    """Reads responses one after the other from `more`, which returns b"" at the end of file."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._buffer = b""

    def response(self, method: str = "GET") -> Response:
        """The next final response, to a request of that method. Raises Malformed, Cut or Reset."""
        interim: list[Response] = []
        while True:
            status, reason, fields = self._head()
            if status >= 200:
                break
            interim.append(Response(status, reason, fields, b"", "none", 0))
        lengths = [value for name, value in fields if name == "content-length"]
        codings = [value for name, value in fields if name == "transfer-encoding"]
        if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
            raise Malformed(f"two framings: {fields}")
        if method == "HEAD" or status in (204, 304):
            if status == 204 and (lengths or codings):
                raise Malformed("a 204 says a length")
            return Response(status, reason, fields, b"", "none", 0, [], interim)
        if codings:
            if codings != ["chunked"]:
                raise Malformed(f"transfer coding {codings}")
            body, pieces, trailers = self._chunks()
            return Response(status, reason, fields, body, "chunked", pieces, trailers, interim)
        if lengths:
            if not lengths[0].isdigit():
                raise Malformed(f"content-length {lengths[0]!r}")
            return Response(status, reason, fields, self.take(int(lengths[0])), "length", 0, [], interim)
        return Response(status, reason, fields, self.rest(), "close", 0, [], interim)

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        parts = [self._buffer]
        have = len(self._buffer)
        while have < count:
            data = self._more()
            if not data:
                raise Cut(f"{have} of {count} bytes: {b''.join(parts)[-200:]!r}")
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._buffer = whole[count:]
        return whole[:count]

    def line(self) -> bytes:
        """A line without its CRLF."""
        while (end := self._buffer.find(b"\n")) < 0:
            data = self._more()
            if not data:
                raise Cut(f"in the line {self._buffer[:200]!r}")
            self._buffer += data
        line, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise Malformed(f"line {line[:200]!r}")
        return line[:-2]

    def rest(self) -> bytes:
        """Everything up to the end of file."""
        parts = [self._buffer]
        while data := self._more():
            parts.append(data)
        self._buffer = b""
        return b"".join(parts)

    def _head(self) -> tuple[int, str, list[tuple[str, str]]]:
        line = self.line()
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"status line {line[:200]!r}")
        return int(match[1]), match[2].decode("ascii"), self._fields()

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self.line():
            match = _FIELD.fullmatch(line)
            if match is None:
                raise Malformed(f"field line {line[:200]!r}")
            fields.append((match[1].decode("ascii").lower(), match[2].decode("latin-1")))
        return fields

    def _chunks(self) -> tuple[bytes, int, list[tuple[str, str]]]:
        parts: list[bytes] = []
        while True:
            line = self.line()
            if _CHUNK_SIZE.fullmatch(line) is None:
                raise Malformed(f"chunk size {line[:200]!r}")
            size = int(line, 16)
            if not size:
                return b"".join(parts), len(parts), self._fields()
            parts.append(self.take(size))
            if self.take(2) != b"\r\n":
                raise Malformed("a chunk is longer than its size")


def read_all(data: bytes, methods: Iterable[str] = ()) -> list[Response]:
    """The responses that `data` holds, to requests of these methods (GET for those not given), and nothing else."""
    source = [data] if data else []
    reader = Reader(lambda: source.pop() if source else b"")
    wanted = list(methods)
    responses: list[Response] = []
    while source or reader._buffer:
        responses.append(reader.response(wanted[len(responses)] if len(responses) < len(wanted) else "GET"))
    return responses


class Client:
    """A raw connection. Closes itself at the end of a `with`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self._reader = Reader(self._receive)

    @classmethod
    def connect(cls, address: tuple[str, int] | str, receive_buffer: int = 0) -> Client:
        """To (host, port), or to a UNIX socket's path. `receive_buffer`: SO_RCVBUF, for clients that read slowly."""
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(PATIENCE)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def tls(self, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None) -> Client:
        """The same connection, under TLS from here on; with a session, resuming it."""
        return Client(context.wrap_socket(self.sock, server_hostname=name, session=session))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def response(self, method: str = "GET") -> Response:
        return self._reader.response(method)

    def request(self, data: bytes, method: str = "GET") -> Response:
        self.send(data)
        return self.response(method)

    def take(self, count: int) -> bytes:
        return self._reader.take(count)

    def rest(self) -> bytes:
        return self._reader.rest()

    def head(self) -> bytes:
        """The next response's head as it is, its empty line left out."""
        lines = []
        while line := self._reader.line():
            lines.append(line)
        return b"\r\n".join(lines)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def expect_end(self) -> None:
        """The server ends the connection, cleanly and without another byte."""
        rest = self._reader.rest()
        assert rest == b"", f"more than was asked for: {rest[:200]!r}"

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except ConnectionResetError:
            raise Reset("the server reset the connection") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()
