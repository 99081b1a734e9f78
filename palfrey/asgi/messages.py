"""What an application's messages may say, where no state is needed to judge it.

`exchange.py` knows the order of messages; here are the rules for what is in one: lengths, trailer fields, and the files
that `http.response.zerocopysend` and `http.response.pathsend` name. All raise before a byte of the message is out.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from palfrey.asgi.stream import InvalidHeader

if TYPE_CHECKING:
    from palfrey.types import Header, Headers, Message

# RFC 9110 section 6.5.1: fields for framing, routing and the content's form mean something only before the content.
_NO_TRAILERS = {
    *(b"connection", b"content-encoding", b"content-length", b"content-range", b"content-type", b"host"),
    *(b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
}


class ApplicationError(RuntimeError):
    """The application broke the order of ASGI messages or the lengths that it promised."""


class Span(NamedTuple):
    """A part of an open file, which was there when it was looked at."""

    fd: int
    offset: int
    length: int

    def read(self) -> bytes:
        """All of it. Raises OSError when the file has shrunk meanwhile."""
        data = os.pread(self.fd, self.length, self.offset)
        if len(data) < self.length:
            raise shrunk()
        return data


def shrunk() -> OSError:
    """For a file that ends before the bytes that were promised of it."""
    return OSError("the file is shorter than it was when its sending began")


def content_length(value: bytes, seen: int) -> int:
    """An application's Content-Length, said once and well formed (RFC 9110 section 8.6). `seen`: an earlier one, or -1.

    Raises InvalidHeader.
    """
    if not value.isdigit() or len(value) > 18:
        raise InvalidHeader(f"Content-Length {value!r} is not a length")
    if seen >= 0:
        raise InvalidHeader("Content-Length is given more than once")
    return int(value)


def asks_for_trailers(headers: Headers) -> bool:
    """Whether a request says `TE: trailers` (RFC 9110 section 10.1.4); ASGI has trailers dropped for others."""
    return any(
        coding.partition(b";")[0].strip(b" \t").lower() == b"trailers"
        for name, value in headers
        if name == b"te"
        for coding in value.split(b",")
    )


def check_trailers(fields: list[Header]) -> None:
    """Raises InvalidHeader for a field that must not come after the content."""
    for name, _ in fields:
        if name.lower() in _NO_TRAILERS:
            raise InvalidHeader(f"{name!r} cannot be a trailer field (RFC 9110 section 6.5.1)")


def open_whole(path: str) -> Span:
    """http.response.pathsend: the file, opened. The caller closes its descriptor. Raises ApplicationError, OSError."""
    # O_NONBLOCK: a path that turns out to be a FIFO must not stop the loop before it is refused.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return Span(fd, 0, _size(fd, f"http.response.pathsend: {path}"))
    except BaseException:
        os.close(fd)
        raise


def named_span(message: Message) -> Span:
    """http.response.zerocopysend: what is to be sent of a file that is the application's, and stays it.

    `file` is a descriptor or has a fileno(). Without an `offset` the span begins where the file is read next, and the
    file moves on behind it, as with read(). Raises ApplicationError, OSError.
    """
    file, offset, count = message["file"], message.get("offset"), message.get("count")
    fd: int = file if isinstance(file, int) else file.fileno()
    size = _size(fd, "http.response.zerocopysend: the file")
    # What an object has read ahead into its buffer is not sent yet; only the object itself knows.
    buffered = file if isinstance(file, io.IOBase) else None
    at = offset
    if at is None:
        at = buffered.tell() if buffered is not None else os.lseek(fd, 0, os.SEEK_CUR)
    have = max(0, size - at)
    wanted = have if count is None else count
    if at < 0 or not 0 <= wanted <= have:
        raise ApplicationError(f"http.response.zerocopysend: {wanted} bytes from {at} on, of a file of {size}")
    if offset is None:
        if buffered is not None:
            buffered.seek(at + wanted)
        else:
            os.lseek(fd, at + wanted, os.SEEK_SET)
    return Span(fd, at, wanted)


def _size(fd: int, name: str) -> int:
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        raise ApplicationError(f"{name} is not a regular file")
    return facts.st_size
