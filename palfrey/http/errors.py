"""What can be wrong with a request, by who is to learn what from it. `status` is the answer that the client deserves,
and str() the reason, for a log. After any of these the connection can carry no further request."""

from __future__ import annotations

from palfrey.errors import ProtocolError


class RequestError(ProtocolError):
    """A request that cannot be served."""

    def __reduce__(self) -> tuple[type[RequestError], tuple[int, str]]:
        return type(self), (self.status, str(self))


class ParseError(RequestError):
    """Malformed (400), too long (413 content, 414 request line, 431 head), or readable in two ways (400)."""


class Unsupported(RequestError):
    """A method or a transfer coding that is not implemented (501), or another version of HTTP (505)."""


class ClientGone(RequestError):
    """The client ended its side in the middle of a request. One that only did that may still read the answer: 400."""


def typed(error: ProtocolError) -> RequestError:
    """The reading code's own error, as one of these."""
    kind = Unsupported if error.status in (501, 505) else ParseError
    return kind(error.status, str(error))
