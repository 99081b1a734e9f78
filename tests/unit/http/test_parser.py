"""The toolkit's parser: the server's corpus with the server's verdicts, and what is the parser's own."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palfrey.http import ClientGone, Limits, Memory, ParseError, RequestError, RequestParser, Unsupported
from tests.corpus.legal import LEGAL, Legal
from tests.corpus.refused import REFUSED, Refused

SECOND = b"GET /second HTTP/1.1\r\nHost: second\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

SPLITS = 60
NAMES = {
    "limit_request_line": "request_line",
    "limit_request_fields": "fields",
    "limit_request_field_size": "field_size",
    "limit_request_head": "head",
    "limit_request_body": "body",
    "header_map": "header_map",
}


def splits(raw: bytes) -> Iterator[list[bytes]]:
    """Whole, then in two at each byte (of a long request, at a sample), then byte by byte."""
    yield [raw]
    for at in range(1, len(raw), max(1, len(raw) // SPLITS)):
        yield [raw[:at], raw[at:]]
    if len(raw) < 2000:
        yield [raw[at : at + 1] for at in range(len(raw))]


def limits_of(case: Legal | Refused) -> Limits:
    """The server's settings as the toolkit's limits."""
    return Limits(**{NAMES[name]: value for name, value in case.settings.items()})


def read(pieces: list[bytes], parser: RequestParser) -> tuple[list[tuple[Any, bytes]], bytes]:
    """All requests of a connection, and what is behind the last that may come on it."""
    found = []
    pieces = pieces.copy()
    rest = b""
    body = b""
    while rest or pieces:
        if not rest:
            rest = pieces.pop(0)
        used = parser.feed(rest)
        rest = rest[used:]
        if parser.request is not None:
            body += parser.request.body.read()
        if parser.completed:
            found.append((parser.request, body))
            body = b""
            if not parser.request.keep_alive:
                break
            parser.next()
        else:
            assert not rest
    return found, rest + b"".join(pieces)


@pytest.mark.parametrize("parser", ["httptools", "h11"])
@pytest.mark.parametrize("case", LEGAL, ids=lambda case: case.name)
def test_legal(case: Legal, parser: str) -> None:
    memory = Memory(limits_of(case), parser)
    for pieces in splits(case.raw + SECOND):
        found, rest = read(pieces, RequestParser(memory=memory))
        request, body = found[0]
        assert (request.method, request.version) == (case.method, case.version)
        assert (request.uri.path, request.uri.raw_path, request.uri.query) == (case.path, case.raw_path, case.query)
        assert request.headers == case.headers
        assert body == case.body
        assert request.body.complete
        assert request.keep_alive is not case.closes
        if case.closes:
            assert rest == SECOND
        else:
            assert [each.target for each, _ in found[1:]] == [b"/second"]


@pytest.mark.parametrize("parser", ["httptools", "h11"])
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(case: Refused, parser: str) -> None:
    memory = Memory(limits_of(case), parser)
    for pieces in splits(case.raw + SECOND):
        one = RequestParser(memory=memory)
        with pytest.raises(RequestError) as caught:
            read(pieces, one)
        assert caught.value.status == case.status, pieces
        assert isinstance(caught.value, Unsupported if case.status in (501, 505) else ParseError)
        assert not one.completed
        assert (type(one.error), str(one.error)) == (type(caught.value), str(caught.value))
        assert (one.request is None) or case.begins or case.status == 413
        with pytest.raises(RequestError):
            one.feed(GET)


def test_what_is_used_up() -> None:
    parser = RequestParser()
    assert parser.feed(GET + SECOND) == len(GET)
    assert parser.completed
    assert parser.feed(SECOND) == 0
    parser.next()
    assert parser.request is None
    assert parser.feed(SECOND[:7]) == 7
    assert not parser.completed
    assert parser.feed(SECOND[7:] + GET) == len(SECOND) - 7
    assert parser.request is not None
    assert parser.request.target == b"/second"
    assert repr(parser.request) == "<Request GET b'/second' HTTP/1.1>"


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_buffers_that_are_filled_anew(kind: type[bytearray | memoryview]) -> None:
    parser = RequestParser()
    buffer = bytearray(64)
    body = b""
    for piece in (POST[:30], POST[30:] + b"he", b"llo" + GET):
        buffer[: len(piece)] = piece
        used = parser.feed(kind(buffer)[: len(piece)])
        buffer[:] = bytes(64)
        if parser.request is not None:
            body += parser.request.body.read()
    assert (used, parser.completed, body) == (3, True, b"hello")
    assert isinstance(body, bytes)


def test_content_comes_as_it_comes() -> None:
    parser = RequestParser()
    parser.feed(POST + b"he")
    assert parser.request is not None
    body = parser.request.body
    assert (parser.request.length, body.waiting, body.complete) == (5, 2, False)
    assert body.read(1) == b"h"
    assert parser.feed(b"llo" + GET) == 3
    assert (body.received, body.waiting, body.complete, parser.completed) == (5, 4, True, True)
    assert body.read(2) + body.read() + body.read() == b"ello"


@pytest.mark.parametrize("sizes", [[-1], [0, -7], [1], [2, 0, 3], [7], [1, -1], [100]])
def test_content_is_read_as_it_is_asked_for(sizes: list[int]) -> None:
    content = bytes(range(100))
    parser = RequestParser()
    parser.feed(POST.replace(b"5", b"100"))
    assert parser.request is not None
    body, read, asked = parser.request.body, b"", itertools.cycle(sizes)
    for piece in (content[:10], content[10:11], content[11:60], content[60:]):
        parser.feed(piece)
        for size in itertools.islice(asked, 4):
            before, part = body.waiting, body.read(size)
            assert len(part) == (before if size < 0 else min(size, before)) == before - body.waiting
            read += part
        assert body.received - body.waiting == len(read)
    assert read + body.read() == content
    assert body.read() == body.read(5) == b""


def test_content_is_not_copied_whole_for_each_part_of_it() -> None:
    parser = RequestParser()
    parser.feed(POST.replace(b"5", b"10000000") + bytes(10_000_000))
    assert parser.request is not None
    body = parser.request.body
    tracemalloc.start()
    try:
        for _ in range(10):
            assert body.read(10) == bytes(10)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert repr(body) == "<Body 10000000 bytes, 9999900 to be read, complete>"


def test_content_in_crumbs_takes_little_more_than_its_size() -> None:
    parser = RequestParser()
    parser.feed(POST.replace(b"5", b"200000"))
    tracemalloc.start()
    try:
        for number in range(50_000):
            parser.feed(number.to_bytes(4))
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()
    assert parser.request is not None
    body = parser.request.body
    assert body.read(10_001) + body.read() == b"".join(number.to_bytes(4) for number in range(50_000))


def test_chunks_have_no_length() -> None:
    parser = RequestParser()
    parser.feed(CHUNKED + b"5\r\nhello\r\n0\r\n")
    assert parser.request is not None
    assert parser.request.length is None
    assert parser.request.body.read() == b"hello"
    assert not parser.completed
    parser.feed(b"\r\n")
    assert parser.completed


@pytest.mark.parametrize("start", [CHUNKED + b"9\r\nmore than\r\n", POST.replace(b"5", b"9") + b"more than"])
def test_limit_of_content(start: bytes) -> None:
    parser = RequestParser(Limits(body=8))
    with pytest.raises(ParseError) as caught:
        parser.feed(start)
    assert caught.value.status == 413
    parser = RequestParser(Limits(body=9))
    parser.feed(start)


@pytest.mark.parametrize(
    "odd", [{"head": 0}, {"head": -1}, {"request_line": -1}, {"fields": -1}, {"field_size": 1.5}, {"body": "9"}]
)
def test_what_is_no_limit(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(odd))):
        Limits(**odd)


def test_a_header_map_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="keep, drop, refuse"):
        Limits(header_map="dorp")


def test_no_limits_but_the_heads() -> None:
    limits = Limits(request_line=0, fields=0, field_size=0, body=0, head=70000)
    fields = b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(2000))
    head = b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\nX: " + b"b" * 20000 + b"\r\n" + fields + b"\r\n"
    parser = RequestParser(limits)
    parser.feed(head)
    assert parser.completed
    parser.next()
    with pytest.raises(ParseError) as caught:
        parser.feed(b"GET / HTTP/1.1\r\nX: " + b"b" * 70000)
    assert caught.value.status == 431


def test_a_parser_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="httptools and h11"):
        Memory(parser="http-tools")


@pytest.mark.parametrize("cut", [GET[:-1], GET[:3], POST, POST + b"hell", CHUNKED + b"0\r\n"])
def test_a_client_that_left(cut: bytes) -> None:
    parser = RequestParser()
    parser.feed(cut)
    with pytest.raises(ClientGone) as caught:
        parser.feed_eof()
    assert caught.value.status == 400
    with pytest.raises(ClientGone):
        parser.feed_eof()
    with pytest.raises(ClientGone):
        parser.feed(GET)


@pytest.mark.parametrize("whole", [b"", b"\r", b"\r\n", GET, POST + b"hello"])
def test_a_client_that_ended_in_time(whole: bytes) -> None:
    parser = RequestParser()
    parser.feed(whole)
    parser.feed_eof()
    if parser.completed:
        parser.next()
        parser.feed_eof()


@pytest.mark.parametrize(
    ("fed", "why"),
    [
        (b"", "not completed"),
        (GET[:9], "not completed"),
        (POST, "not completed"),
        (GET[:-2] + b"Connection: close\r\n\r\n", "to be closed"),
        (GET.replace(b"1.1", b"1.0"), "to be closed"),
    ],
)
def test_when_no_request_may_follow(fed: bytes, why: str) -> None:
    parser = RequestParser()
    parser.feed(fed)
    with pytest.raises(RuntimeError, match=why):
        parser.next()


def test_no_request_follows_an_error() -> None:
    parser = RequestParser()
    with pytest.raises(ParseError):
        parser.feed(b"\x00")
    with pytest.raises(RuntimeError, match="no request can follow: no method begins so"):
        parser.next()


def test_an_error_keeps_nothing_alive_and_does_not_grow() -> None:
    parser = RequestParser()
    depths = []
    for _ in range(3):
        with pytest.raises(ParseError) as caught:
            parser.feed(b"\x00")
        depths.append(len(caught.traceback))
    assert depths[1] == depths[2]
    assert parser.error is not None
    assert parser.error.__traceback__ is None


@pytest.mark.parametrize("kind", [ParseError, Unsupported, ClientGone])
def test_errors_pass_between_processes(kind: type[RequestError]) -> None:
    error = pickle.loads(pickle.dumps(kind(418, "short and stout")))
    assert (type(error), error.status, str(error)) == (kind, 418, "short and stout")


def test_what_the_head_says() -> None:
    parser = RequestParser()
    parser.feed(
        b"POST http://b:1/c?d HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n"
        b"Connection: upgrade, close\r\nUpgrade: Tea\r\n\r\n"
    )
    request = parser.request
    assert request is not None
    assert request.target == b"http://b:1/c?d"
    assert request.uri == ("/c", b"/c", b"d", b"b:1")
    assert request.headers[0] == (b"host", b"b:1")
    assert (request.expects_continue, request.keep_alive, request.upgrade) == (True, False, (b"tea",))


def test_memory_is_shared_and_no_request_is() -> None:
    memory = Memory()
    one, other = RequestParser(memory=memory), RequestParser(memory=memory)
    one.feed(GET)
    assert one.request is not None
    one.request.headers.clear()
    other.feed(GET)
    assert other.request is not None
    assert other.request.headers == [(b"host", b"a")]
    RequestParser(Limits(), memory)
    with pytest.raises(ValueError, match="other limits"):
        RequestParser(Limits(head=300), memory)


@given(
    st.lists(st.sampled_from([GET, POST + b"hello", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", SECOND, b"\r\n"])), st.data()
)
def test_any_split_of_any_requests(requests: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))) | {0, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(cuts)]
    whole, _ = read([stream] if stream else [], RequestParser())
    cut, rest = read(pieces, RequestParser())
    assert [(each.target, each.headers, body) for each, body in cut] == [
        (each.target, each.headers, body) for each, body in whole
    ]
    assert rest == b""


def test_a_memory_is_bounded() -> None:
    def flood(number: int) -> bytes:
        if number % 3 == 0:
            return b"GET /%b%08d HTTP/1.1\r\nHost: a\r\n\r\n" % (b"%F0%9F%98%80" * 9, number)
        if number % 3 == 1:
            fields = b"".join(b"%x-%x:%x\r\n" % (number, each, each) for each in range(90))
            return b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields
        fields = b"".join(b"%x-%b%d: %b\r\n" % (number, b"n" * 50, each, b"v" * 190) for each in range(4))
        return b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields

    memory = Memory()
    tracemalloc.start()
    try:
        for number in range(1500):
            RequestParser(memory=memory).feed(flood(number))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_no_loop_is_loaded() -> None:
    check = "import sys; from palfrey.http import *; ResponseHeads().render(200); assert 'asyncio' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_names() -> None:
    import palfrey.http

    for name in palfrey.http.__all__:
        assert getattr(palfrey.http, name) is not None
    assert dir(palfrey.http) == sorted(palfrey.http.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        palfrey.http.nothing  # noqa: B018


def test_a_name_is_looked_for_once() -> None:
    import palfrey.http

    assert palfrey.http.chunk is vars(palfrey.http)["chunk"]


def head(*lines: bytes) -> Any:
    parser = RequestParser()
    parser.feed(b"\r\n".join(lines) + b"\r\n\r\n")
    return parser.request


def test_what_a_proxy_passes_on() -> None:
    request = head(
        *(b"GET / HTTP/1.1", b"Host: a", b"Connection: Keep-Alive, X-Hop ,host", b"Connection: content-length"),
        *(b"Content-Length: 0", b"X-Hop: 1", b"Keep-Alive: 5", b"TE: trailers", b"Trailer: x", b"Upgrade: h2c"),
        *(b"Proxy-Connection: close", b"Expect: 100-continue", b"X-Other: 2", b"Authorization: b"),
    )
    assert request.end_to_end == [
        *((b"host", b"a"), (b"content-length", b"0"), (b"x-other", b"2"), (b"authorization", b"b"))
    ]
    assert head(b"GET / HTTP/1.1", b"Host: a").end_to_end == [(b"host", b"a")]


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET /a?b", b"/a?b"),
        (b"GET /a?", b"/a?"),
        (b"OPTIONS *", b"*"),
        (b"OPTIONS /", b"/"),
        (b"OPTIONS http://example.org", b"*"),
        (b"OPTIONS http://example.org/", b"/"),
        (b"OPTIONS http://example.org?", b"/?"),
        (b"GET http://example.org", b"/"),
        (b"GET HTTP://example.org:80/a%2Fb?c?d", b"/a%2Fb?c?d"),
        (b"GET http://example.org?q", b"/?q"),
    ],
)
def test_what_an_origin_is_asked_for(line: bytes, target: bytes) -> None:
    assert head(line + b" HTTP/1.1", b"Host: a").origin_form == target
