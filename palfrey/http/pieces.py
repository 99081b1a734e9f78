"""The parts of a request's head by themselves, for those who have cut it up already. Each reads with the same code as
`RequestParser` and refuses what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from palfrey.errors import ProtocolError
from palfrey.http.errors import Unsupported, typed
from palfrey.protocols.http1.fields import FieldReader, make_parser
from palfrey.protocols.http1.head import METHODS, REQUEST_LINE, why_no_request
from palfrey.protocols.http1.target import split_target

if TYPE_CHECKING:
    from palfrey.types import Header


class Uri(NamedTuple):
    """A request target's parts."""

    path: str
    """Percent-decoded, as UTF-8; U+FFFD stands for what is not. `*` in the asterisk form."""
    raw_path: bytes
    """As it came."""
    query: bytes
    """Behind the first `?`, as it came; b"" without one."""
    host: bytes | None
    """With its port, where the target has the absolute form."""


class RequestLine(NamedTuple):
    """A request line's parts."""

    method: str
    target: bytes
    version: str
    """`1.1` or `1.0`."""


def split_uri(target: bytes, method: str = "GET") -> Uri:
    """A request target of any form that RFC 9112 section 3.2 knows -> its parts. Raises ParseError or Unsupported."""
    if REQUEST_LINE.fullmatch(b"GET %b HTTP/1.1\r\n" % target) is None:
        raise typed(why_no_request(b"GET %b HTTP/1.1\r\n" % target))
    try:
        return Uri(*split_target(target, method))
    except ProtocolError as error:
        raise typed(error) from None


def parse_request_line(line: bytes) -> RequestLine:
    """One line, without its CRLF (RFC 9112 section 3). Raises ParseError, or Unsupported for a method or a version.

    The target is of a form that goes with the method: `split_uri` takes it apart.
    """
    match = REQUEST_LINE.fullmatch(line + b"\r\n")
    if match is None:
        raise typed(why_no_request(line + b"\r\n"))
    method = METHODS.get(match[1])
    if method is None:
        raise Unsupported(501, "the method is not known")
    split_uri(match[2], method)
    return RequestLine(method, match[2], "1.1" if match[3] == b"1" else "1.0")


def split_header_lines(lines: bytes) -> list[Header]:
    """The field lines of a head, each with its CRLF or the last without -> fields, their names in lower case.

    Obsolete folding is refused, like every line that could be read in two ways. What the fields say together (a length
    beside chunks, two lengths, no Host) is for who has the whole head: RequestParser sees to it. Raises ParseError.
    """
    text = lines.removesuffix(b"\r\n")
    try:
        return FieldReader(make_parser("auto")).read(text.split(b"\r\n") if text else [])
    except ProtocolError as error:
        raise typed(error) from None


def unquote_to_wsgi(raw_path: bytes) -> str:
    """Percent-decoded, each byte as the character of its number: what PEP 3333 has in PATH_INFO ("latin-1 strings")."""
    return unquote_to_bytes(raw_path).decode("latin-1")
