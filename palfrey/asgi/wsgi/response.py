"""What both ways of running a WSGI application have in common: `start_response`, heads, and how results are taken.

The application's side (`start_response`, `write`) only notes; what it said becomes a head with the first content, as
PEP 3333 has it: until then a second `start_response` with exc_info takes its place, and a failure becomes a 500.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from palfrey.asgi.exchange import DONE, HEADED, NEW, THERE, Exchange
from palfrey.asgi.messages import ApplicationError, content_length
from palfrey.asgi.stream import REASON
from palfrey.asgi.wsgi.files import FileWrapper, regular_file
from palfrey.asgi.wsgi.input import SpoolError

if TYPE_CHECKING:
    import asyncio
    from types import CodeType

    from palfrey.asgi.wsgi.app import WsgiApp
    from palfrey.types import Header

log = logging.getLogger("palfrey.error")

Write = Callable[[bytes], None]
StartResponse = Callable[..., Write]
WsgiCallable = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
Head = tuple[int, "tuple[Header, ...]", int, bool]
"""Status, fields with a REASON in front where the status has another than usual, the Content-Length that they declare,
or -1, and whether it is remembered."""

JOINED = 1 << 18
"""Bytes of a list that are joined to one content with a Content-Length; PEP 3333 has longer ones sent as they are."""
REMEMBERED, LENGTH = 1024, 128
"""Bounds of the response fields that are remembered."""


FEW = 16
"""Fields of a head that is remembered as a whole."""


_STATUS = re.compile(r"([0-9]{3})(?: ([\x20-\x7e\x80-\xff]*))?")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class ResponseHeads(dict["tuple[str, str]", "Header"]):
    """What applications give to start_response -> status and fields. As a dictionary: fields as text -> as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._statuses: dict[str, tuple[int, tuple[Header, ...]]] = {}
        """As text -> the number, and a phrase that is the application's own."""
        self.before: dict[str, tuple[list[tuple[str, str]], Head]] = {}
        """By status, the last head that is remembered: applications say the same over and over."""

    def read(self, status: str, headers: list[tuple[str, str]]) -> Head:
        """What is not in `before`. Raises ApplicationError for what is no status, or no list of pairs of text that
        latin-1 has, InvalidHeader for what is no Content-Length."""
        try:
            headers = list(headers)
            code, reason = self._statuses.get(status) or self._read_status(status)
            fields = reason + tuple(map(self.__getitem__, headers))
        except (TypeError, ValueError) as error:
            raise ApplicationError(f"start_response: headers are a list of (name, value), both str: {error}") from None
        declared = -1
        for name, value in fields:
            if name == b"content-length":
                declared = content_length(value, declared)
        lasting = len(headers) <= FEW and status in self._statuses and all(field in self for field in headers)
        head = code, fields, declared, lasting
        if lasting:
            self.before[status] = headers, head
        return head

    def _read_status(self, status: str) -> tuple[int, tuple[Header, ...]]:
        found = _STATUS.fullmatch(status) if isinstance(status, str) else None
        if found is None:
            raise ApplicationError(f"start_response: {status!r} is no status, such as '200 OK', in latin-1")
        code, phrase = int(found[1]), (found[2] or "").strip(" ")
        if code < 200:
            raise ApplicationError(f"start_response: {status!r} is not final: a final status is 200 to 999")
        own = phrase and phrase != _PHRASES.get(code)
        read = code, ((REASON, phrase.encode("latin-1")),) if own else ()
        if len(self._statuses) < REMEMBERED and len(status) <= LENGTH:
            self._statuses[status] = read
        return read

    def __missing__(self, field: tuple[str, str]) -> Header:
        if not isinstance(field, tuple):  # a text of two characters would pass for one
            raise TypeError(f"{field!r}")
        name, value = field
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"{field!r}")
        found = (name.lower().encode("latin-1"), value.encode("latin-1"))
        if len(value) <= LENGTH and found[0] != b"set-cookie":
            if len(self) >= REMEMBERED:
                self.clear()
            self[field] = found
        return found


class WsgiExchange(Exchange):
    """See the module. The head and everything behind it goes through the phases of `Exchange`."""

    __slots__ = ("_begun", "_head", "app")

    kind = "WSGI"
    websockets = False
    shows_scope = False
    callers: frozenset[CodeType]
    """The methods in which the application runs, for `wsgi.errors`."""
    app: WsgiApp
    """Set by `run`, once it is sure that it is one."""
    _begun: bool
    """Whether the head is given away, and cannot be changed any more."""
    _head: Head | None
    """What start_response was told."""

    @staticmethod
    def starter(loop: asyncio.AbstractEventLoop) -> Any:
        """`run` has started it already, and given the task if there had to be one."""
        return _as_it_is

    def client_gone(self) -> bool:
        """`waitress.client_disconnected` and `palfrey.client_disconnected`: whether nobody waits for the response."""
        return self.peer is not THERE

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        """PEP 3333's. Raises what `exc_info` has when the head is out."""
        if exc_info is not None:
            try:
                if self._begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it refers to this frame
        elif self._head is not None:
            raise ApplicationError("start_response was called twice, the second time without exc_info")
        heads = self.app.heads
        before = heads.before.get(status)
        self._head = before[1] if before is not None and before[0] == headers else heads.read(status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """What start_response returned."""
        raise NotImplementedError

    def _put(self, body: bytes, more: bool) -> None:
        """A part of the response, in the loop. Raises what `send()` of an ASGI application would."""
        if self.phase is NEW:
            if self._head is None:
                raise ApplicationError("content was returned before start_response was called")
            self.status, self.response_headers, declared, _ = self._head
            self.phase = HEADED
            self._send_head(body, more, declared)
        elif self.phase is not DONE:
            self._send_more(body, more)

    def _not_collected(self, error: BaseException) -> None:
        """The content could not be received, or not be kept: the application is not to blame."""
        if isinstance(error, SpoolError):
            log.error("Answered 500, since the content cannot be kept: %s: %s", self.describe(), error)
            self._fail()
        else:
            self._failed(error)

    def _bodiless_head(self) -> bool:
        """Whether the response is its head alone, whatever content there is."""
        return self.scope["method"] == "HEAD" or (self._head is not None and self._head[0] in {204, 304})

    def _take_content(self) -> bytes:
        """The content of a request that has arrived whole."""
        content = self._content
        if content:
            self._content = b""
            self._stream.credit(len(content))
        self._content_eof = False
        return content if type(content) is bytes else bytes(content)


def _as_it_is(task: Any) -> Any:
    return task


def whole(result: Any) -> bytes | None:
    """The content, where `result`, a list or tuple, is short enough for one; None to have it iterated over."""
    if len(result) == 1:
        content: bytes = result[0]
        return content if type(content) is bytes else as_bytes(content)
    parts = [content if type(content) is bytes else as_bytes(content) for content in result]
    return b"".join(parts) if sum(map(len, parts)) <= JOINED else None


def as_bytes(content: Any) -> bytes:
    """For what is not plain bytes: a class of theirs. Raises ApplicationError."""
    if isinstance(content, bytes):
        return bytes(content)
    raise ApplicationError(f"a WSGI application's content is bytes, not {type(content).__name__}")


def parts_of(result: Any) -> Iterator[Any]:
    """What is in a result, one by one. Raises ApplicationError."""
    if not hasattr(type(result), "__iter__") and not hasattr(type(result), "__getitem__"):
        raise ApplicationError(f"a WSGI application returns an iterable of bytes, not {type(result).__name__}")
    return iter(result)


def close(result: Any) -> None:
    """Calls the result's close(), if it has one (PEP 3333: whatever became of the response)."""
    end = getattr(result, "close", None)
    if end is not None:
        end()


def zero_copy(result: Any, head: Head | None) -> dict[str, Any] | None:
    """The message that has a file sent, where `result` is a wrapped one that the kernel can send; else None."""
    if type(result) is not FileWrapper:
        return None
    file = regular_file(result.filelike)
    if file is None:
        return None
    message: dict[str, Any] = {"type": "http.response.zerocopysend", "file": file}
    if head is not None and head[2] >= 0:
        # PEP 3333: no more than was declared. Less than that is the application's error, which the exchange says.
        message["count"] = head[2]
    return message
