"""Requests that are to be served, and what the application is to see of them. See the package."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    *map(_method, ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "PUT", "PATCH", "PROPFIND", "REPORT", "PURGE")),
    *map(_method, ("MKCOL", "LOCK", "UNLOCK", "COPY", "MOVE", "SEARCH", "M-SEARCH", "LINK", "UNLINK", "SUBSCRIBE")),
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
    _absolute("plain", b"http://b.example/x?y", b"b.example", b"/x", b"y"),
    _absolute("with a port", b"http://b:81/", b"b:81"),
    _absolute("without a path", b"http://b", b"b"),
    _absolute("query without a path", b"http://b?q", b"b", b"/", b"q"),
    _absolute("upper-case scheme", b"HTTP://b/", b"b"),
    _absolute("https", b"https://b/", b"b"),
    _absolute("IPv6", b"http://[::1]:80/", b"[::1]:80"),
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
        name="chunked content of a DELETE",
        section="9112 6.1",
        raw=_get(b"DELETE / HTTP/1.1", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
        method="DELETE",
        headers=CHUNKED,
        body=b"x",
    ),
]
