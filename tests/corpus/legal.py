"""Requests that are to be served, and what the application is to see of them. See the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Fields = list[tuple[bytes, bytes]]

HOST: Fields = [(b"host", b"a")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Legal:
    """One request. `headers` are in the application's eyes, Host included."""

    name: str
    section: str
    raw: bytes
    method: str = "GET"
    version: str = "1.1"
    path: str = "/"
    raw_path: bytes = b"/"
    query: bytes = b""
    headers: Fields = field(default_factory=lambda: HOST)
    body: bytes = b""
    closes: bool = False
    """Whether the response is the connection's last."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those that the verdict depends upon."""


def _get(line: bytes, *fields: bytes, host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *fields, b"", b""])


def _post(fields: bytes, content: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n" + content


def _chunked(content: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", content)


CHUNKED: Fields = [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


def _method(name: str) -> Legal:
    return Legal(name=f"method {name}", section="9110 9.1", raw=_get(name.encode() + b" / HTTP/1.1"), method=name)


def _target(
    name: str, target: bytes, path: str, raw_path: bytes, query: bytes = b"", section: str = "9112 3.2.1"
) -> Legal:
    raw = _get(b"GET " + target + b" HTTP/1.1")
    return Legal(name=f"target {name}", section=section, raw=raw, path=path, raw_path=raw_path, query=query)


def _absolute(name: str, target: bytes, host: bytes, raw_path: bytes = b"/", query: bytes = b"") -> Legal:
    return Legal(
        name=f"absolute form {name}",
        section="9112 3.2.2",
        raw=_get(b"GET " + target + b" HTTP/1.1"),
        path=raw_path.decode(),
        raw_path=raw_path,
        query=query,
        headers=[(b"host", host)],
    )


def _field(name: str, line: bytes, *seen: tuple[bytes, bytes], section: str = "9112 5") -> Legal:
    return Legal(name=f"field {name}", section=section, raw=_get(b"GET / HTTP/1.1", line), headers=[*HOST, *seen])


def _host(name: str, host: bytes) -> Legal:
    raw = _get(b"GET / HTTP/1.1", host=b"Host: " + host)
    return Legal(name=f"host {name}", section="9112 3.2", raw=raw, headers=[(b"host", host)])


def _length(name: str, line: bytes, value: bytes, content: bytes) -> Legal:
    return Legal(
        name=f"length {name}",
        section="9112 6.2",
        raw=_post(line, content),
        method="POST",
        headers=[*HOST, (b"content-length", value)],
        body=content,
    )


def _chunks(name: str, content: bytes, body: bytes, section: str = "9112 7.1") -> Legal:
    return Legal(
        name=f"chunks {name}", section=section, raw=_chunked(content), method="POST", headers=CHUNKED, body=body
    )


def _connection(name: str, version: str, value: bytes, closes: bool) -> Legal:
    return Legal(
        name=f"connection {name}",
        section="9112 9.3",
        raw=_get(b"GET / HTTP/" + version.encode(), b"Connection: " + value),
        version=version,
        headers=[*HOST, (b"connection", value)],
        closes=closes,
    )


LEGAL = [
    *map(
        _method, ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "PUT", "PATCH", "PROPFIND", "REPORT", "PURGE", "QUERY")
    ),
    *map(_method, ("MKCOL", "LOCK", "UNLOCK", "COPY", "MOVE", "SEARCH", "M-SEARCH", "LINK", "UNLINK", "SUBSCRIBE")),
    # httptools knows none of these, and h11 takes any token for a method
    *map(_method, ("LABEL", "ORDERPATCH", "BASELINE-CONTROL", "VERSION-CONTROL", "MKREDIRECTREF", "UNCHECKOUT")),
    _target("plain", b"/a/b", "/a/b", b"/a/b"),
    _target("query", b"/a?b=c&d", "/a", b"/a", b"b=c&d"),
    _target("empty query", b"/a?", "/a", b"/a", b""),
    _target("two question marks", b"/a?b?c", "/a", b"/a", b"b?c"),
    _target("percent-encoded", b"/a%20b%2Fc", "/a b/c", b"/a%20b%2Fc", section="3986 2.1"),
    _target("percent-encoded UTF-8", b"/%E2%82%AC", "/\u20ac", b"/%E2%82%AC", section="3986 2.5"),
    _target("percent-encoded, not UTF-8", b"/%ff", "/\ufffd", b"/%ff", section="3986 2.5"),
    _target("percent-encoded NUL", b"/%00", "/\x00", b"/%00", section="3986 2.1"),
    _target("stray percent", b"/100%", "/100%", b"/100%", section="3986 2.1"),
    _target("percent-encoded question mark", b"/%3Fa?b", "/?a", b"/%3Fa", b"b", section="3986 2.1"),
    _target("percent in the query stays", b"/?%20", "/", b"/", b"%20", section="3986 2.1"),
    _target("two slashes", b"//a//b", "//a//b", b"//a//b"),
    _target("dots stay", b"/a/../b/.", "/a/../b/.", b"/a/../b/.", section="3986 5.2.4"),
    _target("sub-delims", b"/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~", b"/!$&'()*+,;=:@-._~", section="3986 3.3"),
    _target("characters that browsers send", b"/a|b{c}?[d]", "/a|b{c}", b"/a|b{c}", b"[d]"),
    _target("a URL in the path", b"/http://b/c", "/http://b/c", b"/http://b/c"),
    _target("path parameters", b"/a;b=c/d;e", "/a;b=c/d;e", b"/a;b=c/d;e", section="3986 3.3"),
    _target("a colon in the first segment", b"/a:b@c", "/a:b@c", b"/a:b@c", section="3986 3.3"),
    _target("encoded dots stay a path", b"/%2e%2E/a", "/../a", b"/%2e%2E/a", section="3986 6.2.2.2"),
    _target("encoded twice is decoded once", b"/%2541", "/%41", b"/%2541", section="3986 2.4"),
    _target("encoded CR and LF", b"/%0d%0aX:%20y", "/\r\nX: y", b"/%0d%0aX:%20y", section="3986 2.1"),
    _target("plus is a plus", b"/a+b?c+d", "/a+b", b"/a+b", b"c+d", section="3986 3.3"),
    _target("a percent sign at the end", b"/%", "/%", b"/%", section="3986 2.1"),
    _target("half a percent-encoding", b"/%4", "/%4", b"/%4", section="3986 2.1"),
    _target("overlong UTF-8", b"/%c0%af", "/\ufffd\ufffd", b"/%c0%af", section="3629 3"),
    _target("what curl users leave raw", b'/?q={"a":"<b>"}', "/", b"/", b'q={"a":"<b>"}'),
    _target("a backslash is no slash", b"/a\\..\\b", "/a\\..\\b", b"/a\\..\\b"),
    _target("only separators in the query", b"/?&=;?/", "/", b"/", b"&=;?/", section="3986 3.4"),
    _target("as long as it may be", b"/" + b"a" * 8175, "/" + "a" * 8175, b"/" + b"a" * 8175, section="9112 3"),
    _absolute("plain", b"http://b.example/x?y", b"b.example", b"/x", b"y"),
    _absolute("with a port", b"http://b:81/", b"b:81"),
    _absolute("without a path", b"http://b", b"b"),
    _absolute("query without a path", b"http://b?q", b"b", b"/", b"q"),
    _absolute("upper-case scheme", b"HTTP://b/", b"b"),
    _absolute("https", b"https://b/", b"b"),
    _absolute("IPv6", b"http://[::1]:80/", b"[::1]:80"),
    _absolute("an empty port", b"http://b:/", b"b:"),
    _absolute("at sign in the path", b"http://b/u@c", b"b", b"/u@c"),
    _absolute("another URL in the query", b"http://b/?http://c/", b"b", b"/", b"http://c/"),
    _absolute("two slashes in the path", b"http://b//c", b"b", b"//c"),
    Legal(
        name="asterisk form",
        section="9112 3.2.4",
        raw=_get(b"OPTIONS * HTTP/1.1"),
        method="OPTIONS",
        path="*",
        raw_path=b"*",
    ),
    _host("empty", b""),
    _host("with a port", b"a.example:8000"),
    _host("IPv6", b"[2001:db8::1]:80"),
    _host("upper case stays", b"A.Example"),
    _host("underscore", b"a_b"),
    _host("a dot at the end", b"a.example."),
    _host("an empty port", b"a:"),
    _host("IPv4", b"192.0.2.1:65535"),
    _host("IPv4 within IPv6", b"[::ffff:192.0.2.1]"),
    _host("percent-encoded", b"a%2Db"),
    _host("sub-delims", b"a!$&'()*+,;=~b"),
    Legal(
        name="host in another place and other letters",
        section="9112 3.2",
        raw=b"GET / HTTP/1.1\r\nX: y\r\nhOST:\ta \r\n\r\n",
        headers=[(b"x", b"y"), (b"host", b"a")],
    ),
    _field("empty value", b"X:", (b"x", b"")),
    _field("no space after the colon", b"X:b", (b"x", b"b")),
    _field("tab after the colon", b"X:\tb", (b"x", b"b"), section="9112 5.1"),
    _field("space before and after", b"X: \t b c \t ", (b"x", b"b c"), section="9112 5.1"),
    _field("only spaces", b"X:  \t ", (b"x", b""), section="9112 5.1"),
    _field("tab within", b"X: a\tb", (b"x", b"a\tb"), section="9110 5.5"),
    _field("obs-text", b"X: \xe9\xff", (b"x", b"\xe9\xff"), section="9110 5.5"),
    _field("colon in the value", b"X: a:b: c", (b"x", b"a:b: c")),
    _field("quotes", b'X: "a, b"', (b"x", b'"a, b"'), section="9110 5.6.4"),
    _field("token characters", b"!#$%&'*+-.^_`|~09: a", (b"!#$%&'*+-.^_`|~09", b"a"), section="9110 5.1"),
    _field("name in upper case", b"X-UPPER: A", (b"x-upper", b"A"), section="9110 5.1"),
    _field("underscore in the name", b"x_y: a", (b"x_y", b"a"), section="9110 5.1"),
    _field("repeated", b"X: 1\r\nx: 2\r\nX: 1", (b"x", b"1"), (b"x", b"2"), (b"x", b"1"), section="9110 5.3"),
    _field("cookies stay apart", b"Cookie: a=1\r\nCookie: b=2", (b"cookie", b"a=1"), (b"cookie", b"b=2")),
    _field("long value", b"X: " + b"v" * 8000, (b"x", b"v" * 8000), section="9110 5.4"),
    _field("an expectation that is not known", b"Expect: 42", (b"expect", b"42"), section="9110 10.1.1"),
    _field(
        "an expectation without content", b"Expect: 100-continue", (b"expect", b"100-continue"), section="9110 10.1.1"
    ),
    _field("upgrade without connection", b"Upgrade: h2c", (b"upgrade", b"h2c"), section="9110 7.8"),
    _field(
        "upgrade that is not taken",
        b"Connection: Upgrade\r\nUpgrade: foo/1",
        (b"connection", b"Upgrade"),
        (b"upgrade", b"foo/1"),
        section="9110 7.8",
    ),
    _field(
        "proxy-connection means nothing",
        b"Proxy-Connection: close",
        (b"proxy-connection", b"close"),
        section="9112 C.2.2",
    ),
    _field("te", b"TE: trailers", (b"te", b"trailers"), section="9110 10.1.4"),
    _field("a number for a name", b"1: a", (b"1", b"a"), section="9110 5.1"),
    _field("dots in the name", b"X.Y.Z: a", (b"x.y.z", b"a"), section="9110 5.1"),
    _field("dashes for a name", b"--: a", (b"--", b"a"), section="9110 5.1"),
    _field("a long name", b"X" * 1000 + b": a", (b"x" * 1000, b"a"), section="9110 5.4"),
    _field("as long as it may be", b"X: " + b"v" * 8187, (b"x", b"v" * 8187), section="9110 5.4"),
    _field("a quote that does not end", b'X: "a', (b"x", b'"a'), section="9110 5.5"),
    _field("comment", b"X: (a (b) c)", (b"x", b"(a (b) c)"), section="9110 5.6.5"),
    _field("commas alone", b"X: ,,", (b"x", b",,"), section="9110 5.6.1"),
    _field("bytes that are controls of latin-1", b"X: \x80\x9f", (b"x", b"\x80\x9f"), section="9110 5.5"),
    _field("UTF-8 in the value", b"X: \xe2\x82\xac", (b"x", b"\xe2\x82\xac"), section="9110 5.5"),
    _field("what looks like a request in the value", b"X: GET / HTTP/1.1", (b"x", b"GET / HTTP/1.1")),
    _field("what looks like framing in the value", b"X: Content-Length: 5", (b"x", b"Content-Length: 5")),
    _field("a name that is nearly framing", b"Content-Lengthy: 5", (b"content-lengthy", b"5")),
    _field("framing with underscores", b"Content_Length: 5", (b"content_length", b"5"), section="9110 5.1"),
    _field("a credential", b"Authorization: Basic YTpi", (b"authorization", b"Basic YTpi"), section="9110 11.6.2"),
    _field("keep-alive's parameters", b"Keep-Alive: timeout=5", (b"keep-alive", b"timeout=5"), section="9112 C.2.2"),
    _field("trailer", b"Trailer: X", (b"trailer", b"X"), section="9110 6.6.2"),
    _field("a proxy's word that nobody asked for", b"X-Forwarded-For: 1.2.3.4", (b"x-forwarded-for", b"1.2.3.4")),
    _field("spaces in front, many", b"X:" + b" " * 500 + b"a", (b"x", b"a"), section="9112 5.1"),
    _field("spaces behind, many", b"X: a" + b" \t" * 250, (b"x", b"a"), section="9112 5.1"),
    Legal(
        name="field: as many as there may be",
        section="9110 5.4",
        raw=_get(b"GET / HTTP/1.1", *[b"X: %d" % number for number in range(99)]),
        headers=[*HOST, *[(b"x", b"%d" % number) for number in range(99)]],
    ),
    Legal(
        name="field: underscores, where they are dropped",
        section="9110 17.10",
        raw=_get(b"GET / HTTP/1.1", b"X_Y: 1", b"X-Y: 2", b"_: 3", b"Z: 4"),
        headers=[*HOST, (b"x-y", b"2"), (b"z", b"4")],
        settings={"header_map": "drop"},
    ),
    Legal(
        name="field: framing with an underscore, where they are dropped",
        section="9110 17.10",
        raw=_get(b"GET / HTTP/1.1", b"Transfer_Encoding: chunked"),
        settings={"header_map": "drop"},
    ),
    Legal(
        name="upgrade that is not taken, with content",
        section="9110 7.8",
        raw=_post(b"Connection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 5", b"hello"),
        method="POST",
        headers=[*HOST, (b"connection", b"Upgrade"), (b"upgrade", b"foo"), (b"content-length", b"5")],
        body=b"hello",
    ),
    Legal(
        name="upgrade that is not taken, with chunks",
        section="9110 7.8",
        raw=_post(b"Connection: Upgrade\r\nUpgrade: foo\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        method="POST",
        headers=[*HOST, (b"connection", b"Upgrade"), (b"upgrade", b"foo"), (b"transfer-encoding", b"chunked")],
        body=b"hello",
    ),
    Legal(name="an empty line before", section="9112 2.2", raw=b"\r\n" + _get(b"GET / HTTP/1.1")),
    Legal(name="several empty lines before", section="9112 2.2", raw=b"\r\n" * 5 + _get(b"GET / HTTP/1.1")),
    Legal(
        name="HTTP/1.0 without Host",
        section="9112 3.2",
        raw=_get(b"GET / HTTP/1.0", host=b""),
        version="1.0",
        headers=[],
        closes=True,
    ),
    Legal(
        name="HTTP/1.0, absolute form without Host",
        section="9112 3.2.2",
        raw=_get(b"GET http://b/x HTTP/1.0", host=b""),
        version="1.0",
        path="/x",
        raw_path=b"/x",
        headers=[(b"host", b"b")],
        closes=True,
    ),
    Legal(
        name="HTTP/1.0 with content",
        section="9112 6.2",
        raw=b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
        method="POST",
        version="1.0",
        headers=[(b"content-length", b"2")],
        body=b"hi",
        closes=True,
    ),
    _connection("close", "1.1", b"close", True),
    _connection("Close", "1.1", b"Close", True),
    _connection("close in a list", "1.1", b"foo, close ,bar", True),
    _connection("keep-alive, of no meaning in 1.1", "1.1", b"keep-alive", False),
    _connection("close beside keep-alive", "1.1", b"close, keep-alive", True),
    _connection("not quite close", "1.1", b"closed", False),
    _connection("close behind a comma", "1.1", b",close", True),
    _connection("close before a comma", "1.1", b"close,", True),
    _connection("close in upper case, tabs", "1.1", b"a,\tCLOSE\t,b", True),
    _connection("close in quotes is something else", "1.1", b'"close"', False),
    _connection("keep-alive in a list in 1.0", "1.0", b"foo, Keep-Alive", False),
    _connection("empty", "1.1", b"", False),
    _connection("keep-alive in 1.0", "1.0", b"Keep-Alive", False),
    _connection("close in 1.0", "1.0", b"close", True),
    _connection("close beside keep-alive in 1.0", "1.0", b"keep-alive, close", True),
    _connection("something else in 1.0", "1.0", b"foo", True),
    Legal(
        name="connection close, then keep-alive in a second field",
        section="9112 9.3",
        raw=_get(b"GET / HTTP/1.1", b"Connection: close", b"Connection: keep-alive"),
        headers=[*HOST, (b"connection", b"close"), (b"connection", b"keep-alive")],
        closes=True,
    ),
    _length("zero", b"Content-Length: 0", b"0", b""),
    _length("zeros", b"Content-Length: 000", b"000", b""),
    _length("eighteen digits", b"Content-Length: " + b"0" * 17 + b"5", b"0" * 17 + b"5", b"hello"),
    _length("name in other letters", b"cONTENT-lENGTH:5", b"5", b"hello"),
    _length("empty lines as content", b"Content-Length: 4", b"4", b"\r\n\r\n"),
    _length("chunks as content", b"Content-Length: 15", b"15", b"5\r\nhello\r\n0\r\n\r\n"),
    _length("some", b"Content-Length: 5", b"5", b"hello"),
    _length("leading zeros", b"Content-Length: 005", b"005", b"hello"),
    _length("spaces around", b"Content-Length: \t5 \t", b"5", b"hello"),
    _length("content like a request", b"Content-Length: 27", b"27", b"GET /x HTTP/1.1\r\nHost: b\r\n\r\n"[:27]),
    _length("binary content", b"Content-Length: 6", b"6", b"\r\n\x00\xff\r\n"),
    Legal(
        name="content of a GET",
        section="9110 9.3.1",
        raw=_get(b"GET / HTTP/1.1", b"Content-Length: 3") + b"abc",
        headers=[*HOST, (b"content-length", b"3")],
        body=b"abc",
    ),
    _chunks("none", b"0\r\n\r\n", b""),
    _chunks("fifteen digits", b"000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
    _chunks("a byte each", b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + b"0\r\n\r\n", b"hello"),
    _chunks("many zeros for the last", b"1\r\nx\r\n000000000\r\n\r\n", b"x"),
    _chunks("a request within", b"12\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
    _chunks("binary", b"4\r\n\x00\xff\r\x80\r\n0\r\n\r\n", b"\x00\xff\r\x80"),
    _chunks("extensions, many", b'5;a;b=c;d="e"\r\nhello\r\n0\r\n\r\n', b"hello", section="9112 7.1.1"),
    _chunks("an extension of nothing", b"5;\r\nhello\r\n0;;\r\n\r\n", b"hello", section="9112 7.1.1"),
    _chunks("a quoted quote", b'5;a="\\";"\r\nhello\r\n0\r\n\r\n', b"hello", section="9112 7.1.1"),
    _chunks("obs-text in an extension", b'5;a="\xe9"\r\nhello\r\n0\r\n\r\n', b"hello", section="9112 7.1.1"),
    _chunks("a long extension", b"5;" + b"a" * 4000 + b"\r\nhello\r\n0\r\n\r\n", b"hello", section="9112 7.1.1"),
    _chunks("trailers, many", b"0\r\n" + b"X: y\r\n" * 100 + b"\r\n", b"", section="9112 7.1.2"),
    _chunks("odd trailers", b"0\r\nX:\r\n!:\t \xff \r\nx_y:a\r\n\r\n", b"", section="9112 7.1.2"),
    _chunks(
        "trailers that would frame a request",
        b"0\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nAuthorization: x\r\n\r\n",
        b"",
        section="9110 6.5.1",
    ),
    _chunks("one", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    _chunks("several", b"2\r\nhe\r\n1\r\nl\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    _chunks("upper and lower case hex", b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    _chunks("leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    _chunks("line ends within", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    _chunks("an end within", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    _chunks("an extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello", section="9112 7.1.1"),
    _chunks("an extension in quotes", b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', b"hello", section="9112 7.1.1"),
    _chunks("spaces around an extension", b"5 ; a = b\r\nhello\r\n0\r\n\r\n", b"hello", section="9112 7.1.1"),
    _chunks("a trailer", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello", section="9112 7.1.2"),
    _chunks("trailers of no effect", b"0\r\nContent-Length: 9\r\nHost: b\r\nX:\r\n\r\n", b"", section="9110 6.5.1"),
    Legal(
        name="chunked in upper case",
        section="9112 7",
        raw=_post(b"Transfer-Encoding: CHUNKED", b"1\r\nx\r\n0\r\n\r\n"),
        method="POST",
        headers=[*HOST, (b"transfer-encoding", b"CHUNKED")],
        body=b"x",
    ),
    Legal(
        name="chunked with spaces around",
        section="9112 5.1",
        raw=_post(b"Transfer-Encoding:\t chunked \t", b"1\r\nx\r\n0\r\n\r\n"),
        method="POST",
        headers=CHUNKED,
        body=b"x",
    ),
    Legal(
        name="an expectation with content that does not wait for it",
        section="9110 10.1.1",
        raw=_post(b"Expect: 100-Continue\r\nContent-Length: 5", b"hello"),
        method="POST",
        headers=[*HOST, (b"expect", b"100-Continue"), (b"content-length", b"5")],
        body=b"hello",
    ),
    Legal(
        name="an expectation of HTTP/1.0 is ignored",
        section="9110 10.1.1",
        raw=b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        method="POST",
        version="1.0",
        headers=[(b"expect", b"100-continue"), (b"content-length", b"5")],
        body=b"hello",
        closes=True,
    ),
    Legal(
        name="an upgrade that is not taken, of HTTP/1.0",
        section="9110 7.8",
        raw=b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
        version="1.0",
        headers=[(b"connection", b"upgrade"), (b"upgrade", b"foo")],
        closes=True,
    ),
    Legal(
        name="an upgrade to HTTP/2 that is not taken",
        section="9113 3.1",
        raw=_get(
            b"GET / HTTP/1.1", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"
        ),
        headers=[
            *HOST,
            (b"connection", b"Upgrade, HTTP2-Settings"),
            (b"upgrade", b"h2c"),
            (b"http2-settings", b"AAMAAABk"),
        ],
    ),
    Legal(
        name="the same line many times",
        section="9110 5.3",
        raw=_get(b"GET / HTTP/1.1", *[b"X: y"] * 50),
        headers=[*HOST, *[(b"x", b"y")] * 50],
    ),
    Legal(
        name="chunked content of a DELETE",
        section="9112 6.1",
        raw=_get(b"DELETE / HTTP/1.1", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
        method="DELETE",
        headers=CHUNKED,
        body=b"x",
    ),
]
