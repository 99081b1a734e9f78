"""Requests that are to be refused, and how. See the package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """One request; `status` is the answer. `begins`: the application has begun when the fault is seen (in chunks)."""

    name: str
    section: str
    raw: bytes
    status: int = 400
    begins: bool = False


def _line(name: str, line: bytes, status: int = 400, section: str = "9112 3") -> Refused:
    return Refused(f"request line {name}", section, line + b"\r\nHost: a\r\n\r\n", status)


def _field(name: str, line: bytes, section: str = "9112 5", status: int = 400) -> Refused:
    return Refused(f"field {name}", section, b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n", status)


def _framed(
    name: str, fields: bytes, section: str, status: int = 400, content: bytes = b"5\r\nhello\r\n0\r\n\r\n"
) -> Refused:
    return Refused(name, section, b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n" + content, status)


def _length(name: str, value: bytes) -> Refused:
    return _framed(f"length {name}", b"Content-Length: " + value, "9112 6.3", content=b"hello")


def _coding(name: str, value: bytes, status: int = 400) -> Refused:
    return _framed(f"coding {name}", b"Transfer-Encoding: " + value, "9112 6.1", status)


def _chunks(name: str, content: bytes, section: str = "9112 7.1") -> Refused:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Refused(f"chunks {name}", section, head + content, begins=True)


REFUSED = [
    # Request line
    _line("two spaces", b"GET  / HTTP/1.1"),
    _line("two spaces before the version", b"GET /  HTTP/1.1"),
    _line("a space at the start", b" GET / HTTP/1.1"),
    _line("a space at the end", b"GET / HTTP/1.1 "),
    _line("tab for a space", b"GET\t/ HTTP/1.1"),
    _line("a space in the target", b"GET /a b HTTP/1.1"),
    _line("no target", b"GET HTTP/1.1"),
    _line("no version", b"GET /"),
    _line("only a method", b"GET"),
    _line("method not a token", b"G@T / HTTP/1.1", section="9110 9.1"),
    _line("method in parentheses", b"(GET) / HTTP/1.1", section="9110 9.1"),
    _line("method with a NUL", b"GE\x00T / HTTP/1.1", section="9110 9.1"),
    _line("method in UTF-8", b"G\xc3\x89T / HTTP/1.1", section="9110 9.1"),
    _line("method in lower case", b"get / HTTP/1.1", 501, "9110 9.1"),
    _line("method that is not known", b"FROBNICATE / HTTP/1.1", 501, "9110 9.1"),
    _line("method of RTSP", b"DESCRIBE / HTTP/1.1", 501, "9110 9.1"),
    _line("method of HTTP/2's preface", b"PRI / HTTP/1.1", 501, "9113 3.4"),
    _line("a very long method", b"A" * 100 + b" / HTTP/1.1", 501, "9110 9.1"),
    # Version
    _line("version 0.9", b"GET / HTTP/0.9", 505, "9112 2.3"),
    _line("version 1.2", b"GET / HTTP/1.2", 505, "9112 2.3"),
    _line("version 2.0", b"GET / HTTP/2.0", 505, "9112 2.3"),
    Refused("the preface of HTTP/2", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    _line("version in lower case", b"GET / http/1.1", section="9112 2.3"),
    _line("version with three digits", b"GET / HTTP/1.10", section="9112 2.3"),
    _line("version without a minor", b"GET / HTTP/1", section="9112 2.3"),
    _line("version with a comma", b"GET / HTTP/1,1", section="9112 2.3"),
    _line("version of RTSP", b"GET / RTSP/1.0", section="9112 2.3"),
    _line("version of ICE", b"SOURCE / ICE/1.0", section="9112 2.3"),
    _line("version with a space", b"GET / HTTP/ 1.1", section="9112 2.3"),
    # Target
    _line("fragment", b"GET /a#b HTTP/1.1", section="9112 3.2"),
    _line("raw non-ASCII", b"GET /\xc3\xa9 HTTP/1.1", section="9112 3.2"),
    _line("NUL in the target", b"GET /\x00 HTTP/1.1", section="9112 3.2"),
    _line("DEL in the target", b"GET /\x7f HTTP/1.1", section="9112 3.2"),
    _line("CR in the target", b"GET /\ra HTTP/1.1", section="9112 3.2"),
    _line("asterisk of a GET", b"GET * HTTP/1.1", section="9112 3.2.4"),
    _line("no slash", b"GET a/b HTTP/1.1", section="9112 3.2.1"),
    _line("authority of a GET", b"GET a:80 HTTP/1.1", section="9112 3.2.3"),
    _line("another scheme", b"GET ftp://a/ HTTP/1.1", section="9112 3.2.2"),
    _line("an absolute form without a host", b"GET http:///x HTTP/1.1", section="9110 4.2.1"),
    _line("an absolute form with userinfo alone", b"GET http://u@/x HTTP/1.1", section="9110 4.2.1"),
    _line("an absolute form with a port alone", b"GET http://:80/x HTTP/1.1", section="9110 4.2.1"),
    _line("an absolute form with a strange host", b"GET http://a<b/x HTTP/1.1", section="9110 4.2.1"),
    _line("CONNECT", b"CONNECT a:443 HTTP/1.1", 501, "9110 9.3.6"),
    _line("CONNECT with a path", b"CONNECT / HTTP/1.1", section="9112 3.2.3"),
    # Line ends
    Refused("bare LF after the request line", "9112 2.2", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    Refused("bare LF after a field", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    Refused("bare LF for the empty line", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    Refused("bare LF everywhere", "9112 2.2", b"GET / HTTP/1.1\nHost: a\n\n"),
    Refused("bare LF before the request line", "9112 2.2", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("bare CR before the request line", "9112 2.2", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("bare CR after the request line", "9112 2.2", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    Refused("two CR after a field", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\r\nX: b\r\n\r\n"),
    Refused("white space before the first field", "9112 2.2", b"GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n"),
    # Fields
    _field("obs-fold with a space", b"X: a\r\n b", "9112 5.2"),
    _field("obs-fold with a tab", b"X: a\r\n\tb", "9112 5.2"),
    _field("folded framing", b"Content-Length:\r\n 5", "9112 5.2"),
    _field("space before the colon", b"X : a", "9112 5.1"),
    _field("tab before the colon", b"X\t: a", "9112 5.1"),
    _field("space before the colon of framing", b"Transfer-Encoding : chunked", "9112 5.1"),
    _field("space in the name", b"X Y: a", "9110 5.1"),
    _field("no colon", b"X", "9112 5"),
    _field("empty name", b": a", "9110 5.1"),
    _field("NUL in the name", b"X\x00: a", "9110 5.1"),
    _field("slash in the name", b"X/Y: a", "9110 5.1"),
    _field("non-ASCII name", b"X\xe9: a", "9110 5.1"),
    _field("NUL in the value", b"X: a\x00b", "9110 5.5"),
    _field("CR in the value", b"X: a\rb", "9110 5.5"),
    _field("escape in the value", b"X: a\x1bb", "9110 5.5"),
    _field("DEL in the value", b"X: a\x7f", "9110 5.5"),
    _field("vertical tab in the value", b"X: \x0bchunked", "9110 5.5"),
    # Host
    Refused("host missing", "9112 3.2", b"GET / HTTP/1.1\r\n\r\n"),
    Refused("host missing among others", "9112 3.2", b"GET / HTTP/1.1\r\nX: y\r\nConnection: close\r\n\r\n"),
    _field("second host", b"Host: b", "9112 3.2"),
    _field("second host, the same", b"Host: a", "9112 3.2"),
    Refused("two hosts in 1.0", "9112 3.2", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    Refused("host with a space", "9112 3.2", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    Refused("host with a slash", "9112 3.2", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    Refused("host with userinfo", "9112 3.2", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    Refused("host in non-ASCII", "9112 3.2", b"GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"),
    # Content-Length
    _length("signed", b"+5"),
    _length("negative", b"-1"),
    _length("hex", b"0x5"),
    _length("underscore", b"1_0"),
    _length("empty", b""),
    _length("list of two", b"5, 6"),
    _length("list of the same", b"5, 5"),
    _length("decimal point", b"5.0"),
    _length("text", b"five"),
    _length("space within", b"5 0"),
    _length("too large for 64 bits", b"99999999999999999999"),
    _length("digits of another script", b"\xd9\xa5"),
    _framed("lengths that differ", b"Content-Length: 5\r\nContent-Length: 6", "9112 6.3", content=b"hello!"),
    _framed("lengths that agree", b"Content-Length: 5\r\nContent-Length: 5", "9112 6.3", content=b"hello"),
    # Transfer-Encoding
    _framed("chunked beside a length", b"Content-Length: 5\r\nTransfer-Encoding: chunked", "9112 6.1"),
    _framed("a length beside chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5", "9112 6.1"),
    _coding("empty", b""),
    _coding("not known", b"xchunked", 501),
    _coding("gzip", b"gzip", 501),
    _coding("gzip, chunked", b"gzip, chunked", 501),
    _coding("identity", b"identity", 501),
    _coding("chunked not last", b"chunked, gzip"),
    _coding("chunked twice", b"chunked, chunked"),
    _coding("trailing comma", b"chunked,"),
    _coding("leading comma", b",chunked"),
    _coding("in quotes", b'"chunked"'),
    _coding("with a parameter", b"chunked;a=b"),
    _coding("with a control before", b"\x0bchunked"),
    _framed("chunked in two fields", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "9112 6.1"),
    _framed("identity, then chunked", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "9112 6.1", 501),
    Refused(
        "chunked in HTTP/1.0",
        "9112 6.1",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ),
    # Chunks
    _chunks("sign", b"+5\r\nhello\r\n0\r\n\r\n"),
    _chunks("minus", b"-1\r\nhello\r\n0\r\n\r\n"),
    _chunks("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunks("underscore", b"1_0\r\nhello\r\n0\r\n\r\n"),
    _chunks("not hex", b"g\r\nhello\r\n0\r\n\r\n"),
    _chunks("empty size", b"\r\nhello\r\n0\r\n\r\n"),
    _chunks("space before the size", b" 5\r\nhello\r\n0\r\n\r\n"),
    _chunks("overflow", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _chunks("bare LF after the size", b"5\nhello\r\n0\r\n\r\n", "9112 2.2"),
    _chunks("bare CR after the size", b"5\rhello\r\n0\r\n\r\n", "9112 2.2"),
    _chunks("bare LF after the data", b"5\r\nhello\n0\r\n\r\n", "9112 2.2"),
    _chunks("bare LF at the end", b"5\r\nhello\r\n0\r\n\n", "9112 2.2"),
    _chunks("no end of the data", b"5\r\nhello0\r\n\r\n0\r\n\r\n"),
    _chunks("more data than said", b"4\r\nhello\r\n0\r\n\r\n"),
    _chunks("a bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", "9112 7.1.1"),
    _chunks("a NUL in an extension", b"5;\x00\r\nhello\r\n0\r\n\r\n", "9112 7.1.1"),
    _chunks("a long extension", b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n", "9112 7.1.1"),
    _chunks("an extension without a semicolon", b"5 a=b\r\nhello\r\n0\r\n\r\n", "9112 7.1.1"),
    _chunks("a trailer without a colon", b"0\r\nX\r\n\r\n", "9112 7.1.2"),
    _chunks("a folded trailer", b"0\r\nX: a\r\n b\r\n\r\n", "9112 5.2"),
    _chunks("a space before a trailer's colon", b"0\r\nX : a\r\n\r\n", "9112 5.1"),
    _chunks("a bare LF in the trailers", b"0\r\nX: a\nY: b\r\n\r\n", "9112 2.2"),
    _chunks("a NUL in a trailer", b"0\r\nX: \x00\r\n\r\n", "9110 5.5"),
    _chunks("long trailers", b"0\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 20 + b"\r\n", "9110 5.4"),
]
