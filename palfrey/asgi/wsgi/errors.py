"""`wsgi.errors` (PEP 3333, "Input and Error Streams"): what an application writes there goes to the error log.

One object serves all requests, so that one that writes nothing costs nothing. Whose text it is, the stack of the thread
that writes tells: a request's is under the method that runs its application, and any other thread's is its own. So each
record begins with the request, or with the thread's name.

A record is what a write() ends, up to its last newline: a traceback stays in one piece. What is begun waits for its
end, for flush(), for the end of its request or thread, or until there is LINE of it.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

log = logging.getLogger("palfrey.error")

LINE = 1 << 16
"""Characters of a line that are kept until it ends; what is longer is logged in pieces."""


class Request(Protocol):
    """The `self` of a method in which an application runs."""

    def describe(self) -> str:
        """It in a few words."""


Writer = Request | threading.Thread


class ErrorLog:
    """See the module. For all threads at once: a line has one writer, which is in one place at a time."""

    def __init__(self, callers: frozenset[CodeType]) -> None:
        """`callers`: the methods in which applications run."""
        self.begun: dict[Writer, Line] = {}
        """Lines that are not ended. Where there is any, `end` is to be called at the end of each request."""
        self._callers = callers
        self._own = _Own()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes text, not {type(text).__name__}")
        if self._own.logging:
            sys.stderr.write(text)  # a handler of the log's own writes here: the log must not feed itself
            return len(text)
        writer = self._writer()
        ended, newline, rest = text.rpartition("\n")
        if newline:
            self._log(writer, self.begun.pop(writer, None), ended)
        if rest:
            line = self.begun.setdefault(writer, Line())
            line.add(rest)
            if line.size >= LINE:
                self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Ends the line that the caller has begun."""
        writer = self._writer()
        self._log(writer, self.begun.pop(writer, None))

    def end(self, writer: Writer) -> None:
        """Ends what this request has begun, as it is over, and with it what threads have that are over."""
        self._log(writer, self.begun.pop(writer, None))
        for other in list(self.begun):
            if isinstance(other, threading.Thread) and not other.is_alive():
                self._log(other, self.begun.pop(other, None))

    def close(self) -> None:
        """Ends all that has been begun."""
        for writer in list(self.begun):
            self._log(writer, self.begun.pop(writer, None))

    def _writer(self) -> Writer:
        """The request that the calling thread works on, or that thread."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code in self._callers:
                request: Request = frame.f_locals["self"]
                return request
            frame = frame.f_back
        return threading.current_thread()

    def _log(self, writer: Writer, begun: Line | None, rest: str = "") -> None:
        text = rest if begun is None else "".join([*begun, rest])
        if text.strip():
            self._own.logging = True
            try:
                name = writer.name if isinstance(writer, threading.Thread) else writer.describe()
                log.error("%s: %s", name, text)
            finally:
                self._own.logging = False


class Line(list[str]):
    """A line that is not ended yet, in pieces."""

    size = 0

    def add(self, text: str) -> None:
        self.append(text)
        self.size += len(text)


class _Own(threading.local):
    """What each thread has of its own."""

    logging = False
    """It is about to log what was written."""
