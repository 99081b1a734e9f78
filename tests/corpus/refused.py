"""Requests that are to be refused, by the rule that refuses them; at least four to a rule. See the package.

A rule is a title, the section of the RFC that gives it, and cases: a few words and the raw request. The helpers put
what matters in a case into a request that is otherwise good, so that nothing else can be the reason of its refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One request; `status` is the answer. `begins`: the application has begun when the fault is seen (in chunks)."""

    rule: str
    name: str
    section: str
    raw: bytes
    status: int = 400
    begins: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those that the verdict depends upon."""


Case = tuple[str, bytes]


def rule(title: str, section: str, *cases: Case, status: int = 400, begins: bool = False, **settings: Any) -> None:
    """Adds the cases of one rule to REFUSED."""
    for name, raw in cases:
        REFUSED.append(
            Refused(
                rule=title,
                name=f"{title}: {name}",
                section=section,
                raw=raw,
                status=status,
                begins=begins,
                settings=settings,
            )
        )


def line(name: str, request_line: bytes) -> Case:
    return name, request_line + b"\r\nHost: a\r\n\r\n"


def target(name: str, text: bytes) -> Case:
    return line(name, b"GET " + text + b" HTTP/1.1")


def version(name: str, text: bytes) -> Case:
    return line(name, b"GET / " + text)


def lines(name: str, *field_lines: bytes) -> Case:
    """Whole field lines behind a Host."""
    return name, b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *field_lines, b"", b""])


def host(name: str, *field_lines: bytes) -> Case:
    """Field lines in the place of the Host."""
    return name, b"\r\n".join([b"GET / HTTP/1.1", *field_lines, b"", b""])


def framed(name: str, *field_lines: bytes, content: bytes = b"5\r\nhello\r\n0\r\n\r\n") -> Case:
    return name, b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *field_lines, b"", content])


def length(name: str, value: bytes, content: bytes = b"hello") -> Case:
    return framed(name, b"Content-Length: " + value, content=content)


def coding(name: str, value: bytes) -> Case:
    return framed(name, b"Transfer-Encoding: " + value)


def chunks(name: str, content: bytes) -> Case:
    return framed(name, b"Transfer-Encoding: chunked", content=content)


def size(name: str, text: bytes) -> Case:
    """A chunk's size, up to its CRLF, of five bytes."""
    return chunks(name, text + b"\r\nhello\r\n0\r\n\r\n")


def trailers(name: str, text: bytes) -> Case:
    return chunks(name, b"5\r\nhello\r\n0\r\n" + text + b"\r\n")


REFUSED: list[Refused] = []

# Request line ---------------------------------------------------------------------------------------------------------

rule(
    "a request line has three parts and two spaces",
    "9112 3",
    line("two spaces behind the method", b"GET  / HTTP/1.1"),
    line("two spaces before the version", b"GET /  HTTP/1.1"),
    line("a space at the start", b" GET / HTTP/1.1"),
    line("a space at the end", b"GET / HTTP/1.1 "),
    line("a tab for the first space", b"GET\t/ HTTP/1.1"),
    line("a tab for the second space", b"GET /\tHTTP/1.1"),
    line("a tab at the end", b"GET / HTTP/1.1\t"),
    line("vertical tab for a space", b"GET\x0b/ HTTP/1.1"),
    line("non-breaking space for a space", b"GET\xa0/ HTTP/1.1"),
    line("a space in the target", b"GET /a b HTTP/1.1"),
    line("no target", b"GET HTTP/1.1"),
    line("empty target", b"GET  HTTP/1.1"),
    line("no version, as in HTTP/0.9", b"GET /"),
    line("only a method", b"GET"),
    line("a fourth part", b"GET / HTTP/1.1 GET"),
    line("a field line in its place", b"X: y"),
    line("a status line in its place", b"HTTP/1.1 200 OK"),
)

rule(
    "a method is a token",
    "9110 9.1",
    line("at sign", b"G@T / HTTP/1.1"),
    line("parentheses", b"(GET) / HTTP/1.1"),
    line("quotes", b'"GET" / HTTP/1.1'),
    line("a colon", b"GET: / HTTP/1.1"),
    line("a slash", b"GET/ / HTTP/1.1"),
    line("NUL", b"GE\x00T / HTTP/1.1"),
    line("escape", b"GE\x1bT / HTTP/1.1"),
    line("UTF-8", b"G\xc3\x89T / HTTP/1.1"),
    line("byte order mark", b"\xef\xbb\xbfGET / HTTP/1.1"),
)

rule(
    "a method that nobody knows is not implemented",
    "9110 9.1",
    line("in lower case", b"get / HTTP/1.1"),
    line("in mixed case", b"Get / HTTP/1.1"),
    line("made up", b"FROBNICATE / HTTP/1.1"),
    line("RTSP's", b"DESCRIBE / HTTP/1.1"),
    line("HTTP/2's preface", b"PRI / HTTP/1.1"),
    line("a prefix of one", b"GE / HTTP/1.1"),
    line("one and more", b"GETS / HTTP/1.1"),
    line("a number", b"1 / HTTP/1.1"),
    line("very long", b"A" * 300 + b" / HTTP/1.1"),
    status=501,
)

rule(
    "a method that nobody knows is not implemented, whatever else it has",
    "9110 9.1",
    ("with content", b"FOO / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
    ("with chunks", b"FOO / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("asking to upgrade", b"FOO / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("in HTTP/1.0", b"FOO / HTTP/1.0\r\n\r\n"),
    status=501,
)

# Version --------------------------------------------------------------------------------------------------------------

rule(
    "versions other than 1.0 and 1.1 are not supported",
    "9110 15.6.6",
    version("0.9", b"HTTP/0.9"),
    version("1.2", b"HTTP/1.2"),
    version("1.9", b"HTTP/1.9"),
    version("2.0", b"HTTP/2.0"),
    version("3.0", b"HTTP/3.0"),
    version("0.0", b"HTTP/0.0"),
    status=505,
)

rule(
    "the preface of HTTP/2 where it is not spoken",
    "9113 3.4",
    ("whole", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("with SETTINGS behind", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    ("without its second half", b"PRI * HTTP/2.0\r\n\r\n"),
    ("with a Host", b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("behind an empty line", b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    status=505,
)

rule(
    "a version has a name and two digits",
    "9112 2.3",
    version("in lower case", b"http/1.1"),
    version("a minor of two digits", b"HTTP/1.10"),
    version("a major of two digits", b"HTTP/11.1"),
    version("a leading zero", b"HTTP/01.1"),
    version("no minor", b"HTTP/1"),
    version("no minor behind the point", b"HTTP/1."),
    version("a comma", b"HTTP/1,1"),
    version("a sign", b"HTTP/+1.1"),
    version("a letter behind", b"HTTP/1.1a"),
    version("digits of another script", b"HTTP/1.\xd9\xa1"),
    version("spaces within", b"HTTP/ 1.1"),
    version("no slash", b"HTTP1.1"),
    version("HTTPS", b"HTTPS/1.1"),
    version("of RTSP", b"RTSP/1.0"),
    line("of ICE", b"SOURCE / ICE/1.0"),
)

# Target ---------------------------------------------------------------------------------------------------------------

rule(
    "a target has no fragment",
    "9112 3.2",
    target("behind a path", b"/a#b"),
    target("behind a query", b"/a?b#c"),
    target("empty", b"/a#"),
    target("alone", b"#a"),
    target("in the absolute form", b"http://a/#b"),
    target("in the place of the host", b"http://#a/"),
)

rule(
    "a target is ASCII",
    "3986 2",
    target("UTF-8 in the path", b"/\xc3\xa9"),
    target("UTF-8 in the query", b"/?q=\xe2\x82\xac"),
    target("latin-1", b"/\xe9"),
    target("UTF-8 in the host", b"http://\xc3\xa9/"),
    target("the last byte", b"/\xff"),
)

rule(
    "a target has no controls",
    "3986 2",
    target("NUL", b"/\x00"),
    target("DEL", b"/\x7f"),
    target("CR", b"/\ra"),
    target("LF", b"/\na"),
    target("tab", b"/\ta"),
    target("escape in the query", b"/?\x1b[0m"),
)

rule(
    "the asterisk form is for OPTIONS",
    "9112 3.2.4",
    line("GET", b"GET * HTTP/1.1"),
    line("HEAD", b"HEAD * HTTP/1.1"),
    line("POST", b"POST * HTTP/1.1"),
    line("M-SEARCH", b"M-SEARCH * HTTP/1.1"),
    line("OPTIONS and more", b"OPTIONS *a HTTP/1.1"),
    line("OPTIONS with a query", b"OPTIONS *?a HTTP/1.1"),
)

rule(
    "the authority form is for CONNECT",
    "9112 3.2.3",
    target("host and port", b"a:80"),
    target("host", b"a"),
    target("IPv6", b"[::1]:80"),
    target("user and host", b"u@a:80"),
    line("POST", b"POST a:443 HTTP/1.1"),
)

rule(
    "the origin form begins with a slash",
    "9112 3.2.1",
    target("a relative path", b"a/b"),
    target("dots", b"../a"),
    target("only a query", b"?a"),
    target("a backslash", b"\\a"),
    target("a percent sign", b"%2Fa"),
)

rule(
    "the absolute form is of http or https, with a host",
    "9110 4.2",
    target("another scheme", b"ftp://a/"),
    target("the scheme of WebSocket", b"ws://a/"),
    target("a scheme and no more", b"http:"),
    target("one slash", b"http:/a"),
    target("no host", b"http:///x"),
    target("no host, nor path", b"http://"),
    target("a query in the host's place", b"http://?a"),
    target("a port alone", b"http://:80/x"),
    target("a port of letters", b"http://a:b/"),
    target("brackets that do not close", b"http://[::1/"),
    target("a strange host", b"http://a<b/x"),
    target("a backslash in the host", b"http://a\\b/"),
)

rule(
    "the absolute form has no userinfo",
    "9110 4.2.4",
    target("user and password", b"http://u:p@b/"),
    target("user", b"http://u@b/"),
    target("user alone", b"http://u@/x"),
    target("empty", b"http://@b/"),
    target("what looks like another host", b"http://good.example:80@bad.example/"),
)

rule(
    "CONNECT is not implemented",
    "9110 9.3.6",
    line("host and port", b"CONNECT a:443 HTTP/1.1"),
    line("IPv6", b"CONNECT [::1]:443 HTTP/1.1"),
    line("host alone", b"CONNECT a HTTP/1.1"),
    ("with content", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello"),
    status=501,
)

rule(
    "CONNECT takes an authority",
    "9112 3.2.3",
    line("a path", b"CONNECT / HTTP/1.1"),
    line("a path and a query", b"CONNECT /a?b HTTP/1.1"),
    line("an asterisk", b"CONNECT * HTTP/1.1"),
    line("two slashes", b"CONNECT //a:80 HTTP/1.1"),
)

# Line ends ------------------------------------------------------------------------------------------------------------

rule(
    "a line of the head ends with CRLF, not with LF",
    "9112 2.2",
    ("behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    ("behind an empty value", b"GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n"),
    ("for the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("everywhere", b"GET / HTTP/1.1\nHost: a\n\n"),
    ("before the request line", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("hiding a field", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("hiding a request", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\n\nGET /evil HTTP/1.1\r\nHost: b\r\n\r\n"),
)

rule(
    "a line of the head ends with CRLF, not with CR",
    "9112 2.2",
    ("behind the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    ("behind a field", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
    ("before the request line", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two behind the request line", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    ("two behind a field", b"GET / HTTP/1.1\r\nHost: a\r\r\nX: b\r\n\r\n"),
    ("two behind the last field", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    ("hiding a field", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n"),
)

rule(
    "nothing but empty lines stands before a request",
    "9112 2.2",
    ("NUL", b"\x00GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a space and an empty line", b" \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an empty line and a space", b"\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("CR, CR, LF", b"\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03GET\r\n\r\n"),
    ("PROXY, version 1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("PROXY, version 2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\r\n\r\n"),
)

# Fields ---------------------------------------------------------------------------------------------------------------

rule(
    "no obsolete line folding",
    "9112 5.2",
    lines("with a space", b"X: a", b" b"),
    lines("with a tab", b"X: a", b"\tb"),
    lines("with several", b"X: a", b" \t b"),
    lines("of an empty line", b"X: a", b" "),
    lines("of what looks like a field", b"X: a", b" Transfer-Encoding: chunked"),
    lines("of Content-Length", b"Content-Length:", b" 5"),
    lines("of Transfer-Encoding", b"Transfer-Encoding:", b" chunked"),
    host("of Host", b"Host:", b" a"),
)

rule(
    "no white space before the first field",
    "9112 2.2",
    host("a space", b" Host: a", b"Host: b"),
    host("a tab", b"\tHost: a", b"Host: b"),
    host("a line of spaces", b"  ", b"Host: b"),
    host("several", b" \t \tHost: a", b"Host: b"),
)

rule(
    "no white space before the colon",
    "9112 5.1",
    lines("a space", b"X : a"),
    lines("a tab", b"X\t: a"),
    lines("several", b"X \t : a"),
    lines("Content-Length", b"Content-Length : 5"),
    lines("Transfer-Encoding", b"Transfer-Encoding : chunked"),
    lines("Transfer-Encoding, a tab", b"Transfer-Encoding\t: chunked"),
    host("Host", b"Host : a"),
)

rule(
    "a field name is a token",
    "9110 5.1",
    lines("a space within", b"X Y: a"),
    lines("a tab within", b"X\tY: a"),
    lines("a slash", b"X/Y: a"),
    lines("brackets", b"X[0]: a"),
    lines("quotes", b'"X": a'),
    lines("at sign", b"X@Y: a"),
    lines("a comma", b"X,Y: a"),
    lines("a semicolon", b"X;Y: a"),
    lines("an equals sign", b"X=Y: a"),
    lines("latin-1", b"X\xe9: a"),
    lines("UTF-8", b"X\xc3\xa9: a"),
    lines("soft hyphen in a name that matters", b"Content\xadLength: 5"),
)

rule(
    "a field name has no controls",
    "9110 5.1",
    lines("NUL", b"X\x00: a"),
    lines("NUL first", b"\x00X: a"),
    lines("NUL in a name that matters", b"Transfer-Encoding\x00: chunked"),
    lines("vertical tab", b"X\x0b: a"),
    lines("vertical tab first", b"\x0bTransfer-Encoding: chunked"),
    lines("DEL", b"X\x7f: a"),
    lines("backspace", b"Y\x08X: a"),
)

rule(
    "a field has a name and a colon",
    "9112 5",
    lines("no name", b": a"),
    lines("a colon", b":"),
    lines("two colons", b":: a"),
    lines("no colon", b"X"),
    lines("no colon, and spaces", b"X a"),
    lines("an equals sign for it", b"Content-Length=5"),
    lines("another request line", b"GET /evil HTTP/1.1"),
)

rule(
    "no CR in a value",
    "9110 5.5",
    lines("within", b"X: a\rb"),
    lines("first", b"X:\ra"),
    lines("last", b"X: a\r"),
    lines("before a space", b"X: a\r b"),
    lines("in Content-Length", b"Content-Length: 5\r"),
    lines("in Transfer-Encoding", b"Transfer-Encoding: \rchunked"),
)

rule(
    "no NUL in a value",
    "9110 5.5",
    lines("within", b"X: a\x00b"),
    lines("first", b"X: \x00a"),
    lines("last", b"X: a\x00"),
    lines("alone", b"X: \x00"),
    lines("in Content-Length", b"Content-Length: 5\x00"),
    lines("in Transfer-Encoding", b"Transfer-Encoding: chunked\x00"),
    host("in Host", b"Host: a\x00.example"),
)

rule(
    "no other controls in a value",
    "9110 5.5",
    lines("bell", b"X: \x07"),
    lines("backspace", b"X: a\x08"),
    lines("vertical tab", b"X: \x0bchunked"),
    lines("form feed", b"X: a\x0cb"),
    lines("escape", b"X: a\x1bb"),
    lines("unit separator", b"X: a\x1f"),
    lines("DEL", b"X: a\x7f"),
    lines("vertical tab before chunked", b"Transfer-Encoding: \x0bchunked"),
    lines("form feed behind a length", b"Content-Length: 5\x0c"),
)

rule(
    "underscores, where they are refused",
    "9110 17.10",
    lines("one", b"X_Y: a"),
    lines("beside a dash", b"X-Y: a", b"X_Y: b"),
    lines("alone", b"_: a"),
    lines("in a name that matters", b"Content_Length: 5"),
    lines("first", b"_X: a"),
    header_map="refuse",
)

# Host -----------------------------------------------------------------------------------------------------------------

rule(
    "an HTTP/1.1 request has a Host",
    "9112 3.2",
    host("no field"),
    host("other fields", b"X: y", b"Connection: close"),
    host("a name that is nearly it", b"Hosts: a"),
    host("X-Forwarded-Host is none", b"X-Forwarded-Host: a"),
    ("the absolute form does not replace it", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    ("nor does the asterisk form", b"OPTIONS * HTTP/1.1\r\n\r\n"),
)

rule(
    "a request has one Host",
    "9112 3.2",
    lines("another", b"Host: b"),
    lines("the same", b"Host: a"),
    lines("in other letters", b"HOST: a"),
    lines("an empty one", b"Host:"),
    lines("far apart", b"X: 1", b"Y: 2", b"host: b"),
    ("in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
)

rule(
    "a Host is a host, and perhaps a port",
    "9110 7.2",
    host("a space", b"Host: a b"),
    host("a tab", b"Host: a\tb"),
    host("a slash", b"Host: a/b"),
    host("a backslash", b"Host: a\\b"),
    host("a URI", b"Host: http://a/"),
    host("userinfo", b"Host: a@b"),
    host("a query", b"Host: a?b"),
    host("a fragment", b"Host: a#b"),
    host("angle brackets", b"Host: <a>"),
    host("quotes", b'Host: "a"'),
    host("UTF-8", b"Host: \xc3\xa9"),
    host("a port of letters", b"Host: a:b"),
    host("a port too long", b"Host: a:123456"),
    host("a sign in the port", b"Host: a:+80"),
    host("two ports", b"Host: a:80:90"),
    host("a port alone", b"Host: :80"),
    host("IPv6 without brackets", b"Host: ::1"),
    host("brackets that do not close", b"Host: [::1"),
    host("brackets that do not open", b"Host: ::1]"),
    host("empty brackets", b"Host: []"),
    host("no address in the brackets", b"Host: [a]"),
    host("more behind the brackets", b"Host: [::1]a"),
    host("a broken percent-encoding", b"Host: a%2"),
    ("in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"),
)

# Content-Length -------------------------------------------------------------------------------------------------------

rule(
    "a Content-Length is made of digits",
    "9110 8.6",
    length("a plus sign", b"+5"),
    length("a minus sign", b"-1"),
    length("minus zero", b"-0"),
    length("hexadecimal", b"0x5"),
    length("hexadecimal digits", b"a"),
    length("octal", b"0o5"),
    length("an underscore", b"1_0"),
    length("empty", b""),
    length("only space", b" \t "),
    length("a decimal point", b"5.0"),
    length("an exponent", b"5e0"),
    length("letters", b"five"),
    length("a letter behind", b"5a"),
    length("a space within", b"5 0"),
    length("a tab within", b"5\t0"),
    length("in quotes", b'"5"'),
    length("a semicolon", b"5;"),
    length("digits of another script", b"\xd9\xa5"),
    length("superscript", b"\xb2"),
)

rule(
    "a Content-Length that nobody can count to",
    "9110 8.6",
    length("2**64", b"18446744073709551616"),
    length("2**63", b"9223372036854775808"),
    length("twenty nines", b"9" * 20),
    length("a thousand nines", b"9" * 1000),
    length("a thousand zeros before", b"0" * 1000 + b"5"),
)

rule(
    "one Content-Length, and one value",
    "9112 6.3",
    length("a list of two", b"5, 6"),
    length("a list of the same", b"5, 5"),
    length("a list with an empty place", b"5,"),
    framed("two that differ", b"Content-Length: 5", b"Content-Length: 6", content=b"hello!"),
    framed("two that agree", b"Content-Length: 5", b"Content-Length: 5", content=b"hello"),
    framed("two that agree as numbers", b"Content-Length: 5", b"Content-Length: 05", content=b"hello"),
    framed("in other letters", b"Content-Length: 5", b"CONTENT-LENGTH: 0", content=b"hello"),
    framed("an empty one", b"Content-Length: 5", b"Content-Length:", content=b"hello"),
    framed("zero, twice", b"Content-Length: 0", b"Content-Length: 0", content=b""),
)

# Transfer-Encoding ----------------------------------------------------------------------------------------------------

rule(
    "Content-Length and Transfer-Encoding exclude each other",
    "9112 6.1",
    framed("a length first", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    framed("a length last", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    framed("a length of zero", b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    framed("the length of what is there", b"Content-Length: 15", b"Transfer-Encoding: chunked"),
    framed("in other letters", b"content-length: 5", b"TRANSFER-ENCODING: Chunked"),
    framed("far apart", b"Content-Length: 5", b"X: y", b"Z: " + b"z" * 300, b"Transfer-Encoding: chunked"),
)

rule(
    "chunked is the one and final transfer coding",
    "9112 6.1",
    coding("empty", b""),
    coding("only space", b" \t "),
    coding("not last", b"chunked, gzip"),
    coding("before identity", b"chunked, identity"),
    coding("twice", b"chunked, chunked"),
    coding("a comma behind", b"chunked,"),
    coding("a comma before", b",chunked"),
    coding("only a comma", b","),
    coding("in quotes", b'"chunked"'),
    coding("with a parameter", b"chunked;a=b"),
    coding("with a parameter's start", b"chunked;"),
    coding("two words", b"chunked chunked"),
    coding("latin-1 behind", b"chunked\xa0"),
    framed("in two fields", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    framed("identity in a second field", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    framed("an empty second field", b"Transfer-Encoding: chunked", b"Transfer-Encoding:"),
)

rule(
    "other transfer codings are not implemented",
    "9112 6.1",
    coding("nearly chunked", b"xchunked"),
    coding("chunked and more", b"chunkedx"),
    coding("gzip", b"gzip"),
    coding("gzip before chunked", b"gzip, chunked"),
    coding("deflate", b"deflate"),
    coding("compress, gzip", b"compress, gzip"),
    coding("identity", b"identity"),
    coding("identity before chunked", b"identity, chunked"),
    framed("identity in a first field", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
    framed("beside a length", b"Content-Length: 5", b"Transfer-Encoding: gzip"),
    status=501,
)

_OLD = b"POST / HTTP/1.0\r\nHost: a\r\n"
rule(
    "no Transfer-Encoding in HTTP/1.0",
    "9112 6.1",
    ("chunked", _OLD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    ("beside a length", _OLD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"),
    ("identity", _OLD + b"Transfer-Encoding: identity\r\n\r\n"),
    ("a coding that is not implemented", _OLD + b"Transfer-Encoding: gzip\r\n\r\n"),
    ("with keep-alive", _OLD + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
)

# Chunks ---------------------------------------------------------------------------------------------------------------

rule(
    "a chunk size has no sign",
    "9112 7.1",
    size("plus", b"+5"),
    size("minus", b"-5"),
    size("minus, last", b"-0"),
    size("plus behind", b"5+"),
    chunks("of the last chunk", b"5\r\nhello\r\n+0\r\n\r\n"),
    begins=True,
)

rule(
    "a chunk size has no 0x",
    "9112 7.1",
    size("0x", b"0x5"),
    size("0X", b"0X5"),
    size("x", b"x5"),
    size("h behind", b"5h"),
    chunks("of the last chunk", b"5\r\nhello\r\n0x0\r\n\r\n"),
    begins=True,
)

rule(
    "a chunk size has no underscore",
    "9112 7.1",
    size("within", b"0_5"),
    size("first", b"_5"),
    size("last", b"5_"),
    chunks("of the last chunk", b"5\r\nhello\r\n0_0\r\n\r\n"),
    begins=True,
)

rule(
    "a chunk size is made of hexadecimal digits",
    "9112 7.1",
    size("another letter", b"g"),
    size("a letter behind", b"5g"),
    size("empty", b""),
    size("an extension alone", b";a=b"),
    size("in quotes", b'"5"'),
    size("a point", b"5.0"),
    size("NUL behind", b"5\x00"),
    size("digits of another script", b"\xd9\xa5"),
    chunks("the content itself", b"hello\r\n"),
    begins=True,
)

rule(
    "a chunk size has no white space around",
    "9112 7.1",
    size("a space before", b" 5"),
    size("a tab before", b"\t5"),
    size("a space behind", b"5 "),
    size("a tab behind", b"5\t"),
    size("several behind", b"5 \t "),
    size("within", b"0 5"),
    size("vertical tab behind", b"5\x0b"),
    chunks("behind the last chunk's", b"5\r\nhello\r\n0 \r\n\r\n"),
    begins=True,
)

rule(
    "a chunk size that nobody can count to",
    "9112 7.1",
    size("2**64 and 5", b"10000000000000005"),
    size("2**64 - 1", b"ffffffffffffffff"),
    size("2**63", b"8000000000000000"),
    size("a hundred digits", b"f" * 100),
    size("sixteen zeros before", b"0" * 16 + b"5"),
    begins=True,
)

rule(
    "chunked lines end with CRLF, not with LF",
    "9112 2.2",
    chunks("behind the size", b"5\nhello\r\n0\r\n\r\n"),
    chunks("behind an extension", b"5;a\nhello\r\n0\r\n\r\n"),
    chunks("behind the data", b"5\r\nhello\n0\r\n\r\n"),
    chunks("behind the last chunk", b"5\r\nhello\r\n0\n\r\n"),
    chunks("for the empty line", b"5\r\nhello\r\n0\r\n\n"),
    chunks("everywhere", b"5\nhello\n0\n\n"),
    trailers("behind a trailer", b"X: a\nY: b\r\n"),
    begins=True,
)

rule(
    "chunked lines end with CRLF, not with CR",
    "9112 2.2",
    chunks("behind the size", b"5\rhello\r\n0\r\n\r\n"),
    chunks("two behind the size", b"5\r\r\nhello\r\n0\r\n\r\n"),
    chunks("behind the data", b"5\r\nhello\r0\r\n\r\n"),
    chunks("two behind the data", b"5\r\nhello\r\r\n0\r\n\r\n"),
    chunks("behind the last chunk", b"5\r\nhello\r\n0\r\r\n\r\n"),
    trailers("behind a trailer", b"X: a\rY: b\r\n"),
    begins=True,
)

rule(
    "a chunk is as long as its size says",
    "9112 7.1",
    chunks("longer", b"4\r\nhello\r\n0\r\n\r\n"),
    chunks("shorter", b"6\r\nhello\r\n0\r\n\r\n"),
    chunks("nothing behind the data", b"5\r\nhello0\r\n\r\n0\r\n\r\n"),
    chunks("CRLF before the data", b"5\r\n\r\nhello\r\n0\r\n\r\n"),
    chunks("space behind the data", b"5\r\nhello \r\n0\r\n\r\n"),
    chunks("the second one", b"5\r\nhello\r\n4\r\nhello\r\n0\r\n\r\n"),
    begins=True,
)

rule(
    "no controls in chunk extensions",
    "9112 7.1.1",
    size("NUL", b"5;\x00"),
    size("bare CR", b"5;a\rb"),
    size("bare CR in quotes", b'5;a="\r"'),
    size("escape", b"5;\x1b"),
    size("DEL", b"5;a=\x7f"),
    chunks("of the last chunk", b"5\r\nhello\r\n0;\x01\r\n\r\n"),
    begins=True,
)

rule(
    "a chunk extension begins with a semicolon",
    "9112 7.1.1",
    size("a space", b"5 a=b"),
    size("a tab", b"5\ta"),
    size("a comma", b"5,a"),
    size("an equals sign", b"5=a"),
    size("a colon", b"5: a"),
    begins=True,
)

rule(
    "chunk extensions are bounded",
    "9112 7.1.1",
    size("a long one", b"5;" + b"a" * 5000),
    size("a long value", b"5;a=" + b"b" * 4096),
    size("spaces", b"5" + b" " * 5000 + b";a"),
    chunks("a long one of the last chunk", b"0;" + b"a" * 5000 + b"\r\n\r\n"),
    chunks("many together", (b"1;" + b"a" * 4000 + b"\r\nx\r\n") * 20 + b"0\r\n\r\n"),
    begins=True,
)

rule(
    "trailers are fields",
    "9112 7.1.2",
    trailers("no colon", b"X\r\n"),
    trailers("no name", b": a\r\n"),
    trailers("a space before the colon", b"X : a\r\n"),
    trailers("a space in the name", b"X Y: a\r\n"),
    trailers("folded", b"X: a\r\n b\r\n"),
    trailers("white space first", b" X: a\r\n"),
    trailers("NUL in a name", b"X\x00: a\r\n"),
    trailers("NUL in a value", b"X: \x00\r\n"),
    trailers("escape in a value", b"X: \x1b\r\n"),
    trailers("a request in their place", b"GET /evil HTTP/1.1\r\nHost: a\r\n"),
    trailers("a chunk in their place", b"5\r\nhello\r\n0\r\n"),
    begins=True,
)

rule(
    "trailers are bounded",
    "9110 5.4",
    trailers("a long value", b"X: " + b"y" * 20000 + b"\r\n"),
    trailers("a long name", b"X" * 20000 + b": y\r\n"),
    trailers("many", b"X: y\r\n" * 3000),
    trailers("many long ones", (b"X: " + b"y" * 1000 + b"\r\n") * 20),
    begins=True,
)

# Limits ---------------------------------------------------------------------------------------------------------------

rule(
    "the request line is bounded",
    "9112 3",
    target("a long path", b"/" + b"a" * 9000),
    target("a long query", b"/?" + b"a" * 9000),
    target("one byte too many", b"/" + b"a" * (8191 - len(b"GET / HTTP/1.1"))),
    target("a long host", b"http://" + b"a" * 9000 + b"/"),
    status=414,
)

rule(
    "fields are bounded in length and number",
    "9110 5.4",
    lines("a long value", b"X: " + b"a" * 9000),
    lines("a long name", b"X" * 9000 + b": a"),
    lines("one byte too many", b"X: " + b"a" * (8191 - 3)),
    lines("a hundred beside the Host", *[b"X: %d" % number for number in range(100)]),
    lines("a thousand", *[b"X:"] * 1000),
    lines("many long ones", *[b"X: " + b"a" * 8000] * 9),
    status=431,
)
