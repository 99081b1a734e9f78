"""Response heads: the default fields, whose word wins, framing and the connection's future, and the bounded cache."""

from __future__ import annotations

import re

import pytest

from palfrey.asgi.stream import REASON, Framing, InvalidHeader
from palfrey.protocols.http1.render import (
    CACHED_LENGTH,
    CACHED_LINES,
    HEADS,
    HeadRenderer,
    encode_line,
    render_informational,
    status_line,
)
from palfrey.protocols.response import DefaultFields

WHOLE, OPEN, DECLARED, NONE = Framing.WHOLE, Framing.OPEN, Framing.DECLARED, Framing.NONE


def bare() -> HeadRenderer:
    return HeadRenderer(DefaultFields(False, False, ()))


def render(
    renderer: HeadRenderer, headers=(), *, status=200, framing=WHOLE, length=5, keep_alive=True, old=False
) -> tuple[list[bytes], bool, bool]:
    head, chunked, keeps = renderer.render(status, headers, framing, length, keep_alive, old)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n"), chunked, keeps


def test_default_fields():
    lines, _, _ = render(HeadRenderer(DefaultFields(True, True, [("X-Own", "1"), ("X-Own", "2")])))
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[1] == b"server: palfrey"
    assert lines[2:4] == [b"x-own: 1", b"x-own: 2"]
    assert re.fullmatch(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", lines[4])
    assert lines[5:] == [b"content-length: 5"]


def test_defaults_that_are_switched_off():
    assert render(bare())[0] == [b"HTTP/1.1 200 OK", b"content-length: 5"]


@pytest.mark.parametrize("spelling", [b"server", b"Server", b"SERVER"])
def test_the_applications_word_wins_whatever_its_case(spelling):
    renderer = HeadRenderer(DefaultFields(True, True, [("X-A", "ours")]))
    lines, _, _ = render(renderer, [(spelling, b"mine"), (b"DATE", b"today"), (b"x-a", b"theirs"), (b"X-A", b"too")])
    assert lines == [
        b"HTTP/1.1 200 OK",
        spelling + b": mine",
        b"DATE: today",
        b"x-a: theirs",
        b"X-A: too",
        b"content-length: 5",
    ]


def test_the_users_server_and_date_take_the_place_of_ours():
    lines, _, _ = render(HeadRenderer(DefaultFields(True, True, [("Server", "mine"), ("Date", "never")])))
    assert lines == [b"HTTP/1.1 200 OK", b"server: mine", b"date: never", b"content-length: 5"]


def test_the_date_moves_with_the_tick(monkeypatch):
    defaults = DefaultFields(False, True, ())
    renderer = HeadRenderer(defaults)
    monkeypatch.setattr("palfrey.protocols.response.formatdate", lambda usegmt: "Fri, 01 Jan 2100 00:00:00 GMT")
    assert b"2100" not in b"".join(render(renderer)[0])
    defaults.tick()
    renderer.tick()
    assert b"date: Fri, 01 Jan 2100 00:00:00 GMT" in render(renderer)[0]


@pytest.mark.parametrize(
    ("framing", "keep_alive", "old", "tail", "chunked", "keeps"),
    [
        (WHOLE, True, False, [b"content-length: 5"], False, True),
        (WHOLE, False, False, [b"content-length: 5", b"connection: close"], False, False),
        (WHOLE, True, True, [b"content-length: 5", b"connection: keep-alive"], False, True),
        (WHOLE, False, True, [b"content-length: 5", b"connection: close"], False, False),
        (OPEN, True, False, [b"transfer-encoding: chunked"], True, True),
        (OPEN, False, False, [b"transfer-encoding: chunked", b"connection: close"], True, False),
        (OPEN, True, True, [b"connection: close"], False, False),
        (NONE, True, False, [], False, True),
        (DECLARED, True, False, [], False, True),
    ],
)
def test_framing(framing, keep_alive, old, tail, chunked, keeps):
    lines, is_chunked, stays = render(bare(), framing=framing, keep_alive=keep_alive, old=old)
    assert lines[1:] == tail
    assert (is_chunked, stays) == (chunked, keeps)


@pytest.mark.parametrize("value", [b"close", b"Close", b"keep-alive, close"])
def test_the_application_may_close(value):
    lines, _, keeps = render(bare(), [(b"Connection", value)])
    assert lines[1:] == [b"content-length: 5", b"connection: close"]
    assert not keeps


def test_hop_by_hop_fields_are_the_servers_business():
    fields = [(b"Transfer-Encoding", b"gzip"), (b"keep-alive", b"timeout=1"), (b"connection", b"keep-alive")]
    assert render(bare(), fields)[0] == [b"HTTP/1.1 200 OK", b"content-length: 5"]


def test_a_204_says_no_length_and_a_304_may():
    fields = [(b"Content-Length", b"9")]
    assert render(bare(), fields, status=204, framing=NONE)[0] == [b"HTTP/1.1 204 No Content"]
    assert render(bare(), fields, status=304, framing=NONE)[0] == [b"HTTP/1.1 304 Not Modified", b"Content-Length: 9"]


@pytest.mark.parametrize(
    "pair",
    [
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\x00"),
        (b"", b"a"),
        (b"a b", b"c"),
        (b"a:", b"c"),
        (b"a\r\n", b"c"),
        (b"\xe9", b"c"),
        ("x", b"a"),
        (b"x", "a"),
        (b"x", 1),
        (b"server", b"a\r\nb: c"),
        (b"date", "now"),
    ],
)
def test_what_cannot_be_a_field_is_refused_each_time(pair):
    renderer = HeadRenderer(DefaultFields(True, True, ()))
    for _ in range(2):
        with pytest.raises((InvalidHeader, TypeError)):
            render(renderer, [pair])
    with pytest.raises((InvalidHeader, TypeError)):
        render_informational(103, [pair])


def test_fields_may_be_lists():
    assert render(bare(), [[b"a", b"b"], [b"a", b"b"]])[0][1:3] == [b"a: b", b"a: b"]


def test_the_cache_is_bounded():
    renderer = bare()
    for number in range(3 * CACHED_LINES):
        render(renderer, [(b"x", b"%d" % number)])
        assert len(renderer._lines) <= CACHED_LINES
    renderer = bare()
    render(renderer, [(b"x", b"y" * (CACHED_LENGTH + 1))])
    assert renderer._lines == {}


def test_status_lines():
    assert status_line(404) == b"HTTP/1.1 404 Not Found\r\n"
    assert status_line(299) == b"HTTP/1.1 299 \r\n"
    assert render_informational(103, [(b"link", b"</a>")]) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    assert encode_line(b"a", b"") == b"a: \r\n"


def test_a_reason_phrase_of_its_own_takes_the_place_of_the_usual_one():
    renderer = HeadRenderer(DefaultFields(True, False, ()))
    for phrase in (b"Gone Fishing", b"caf\xe9"):
        lines, _, _ = render(renderer, ((REASON, phrase), (b"a", b"b")), status=404, framing=DECLARED)
        assert lines == [b"HTTP/1.1 404 " + phrase, b"a: b", b"server: palfrey"]
    assert render(renderer, ((b"a", b"b"),), status=404)[0][0] == b"HTTP/1.1 404 Not Found"
    assert render(renderer, ((REASON, b"Gone"),), status=204)[0][0] == b"HTTP/1.1 204 Gone"


def test_no_applications_field_is_a_reason_phrase():
    renderer = bare()
    render(renderer, ((REASON, b"OK"),))
    with pytest.raises(InvalidHeader):
        render(renderer, ((bytes(bytearray(REASON)), b"OK"),))


AGAIN = ((b"content-length", b"5"), (b"x-a", b"1"))


def test_a_head_that_comes_again_is_rendered_once_a_tick(monkeypatch):
    defaults = DefaultFields(True, True, ())
    renderer = HeadRenderer(defaults)
    first = renderer.render_again(200, AGAIN)
    assert first == renderer.render(200, AGAIN, DECLARED, 0, True, False)[0]
    assert renderer.render_again(200, AGAIN) is first
    monkeypatch.setattr("palfrey.protocols.response.formatdate", lambda usegmt: "Fri, 01 Jan 2100 00:00:00 GMT")
    defaults.tick()
    renderer.tick()
    second = renderer.render_again(200, AGAIN)
    assert second == renderer.render(200, AGAIN, DECLARED, 0, True, False)[0]
    assert b"2100" in second


def test_a_head_that_comes_again_is_known_by_its_fields_and_status():
    renderer = bare()
    first = renderer.render_again(200, AGAIN)
    assert renderer.render_again(404, AGAIN) == first.replace(b"200 OK", b"404 Not Found")
    assert renderer.render_again(200, AGAIN) == first
    assert renderer.render_again(200, ((b"content-length", b"6"),)) == b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n"
    assert renderer.render_again(200, ((b"connection", b"close"), *AGAIN)) is None
    for _ in range(2):
        with pytest.raises(InvalidHeader):
            renderer.render_again(200, ((b"x", b"\n"),))


def test_heads_that_come_again_are_bounded():
    renderer = bare()
    kept = [((b"content-length", b"%d" % number),) for number in range(3 * HEADS)]
    for each in kept:
        assert b": %b\r\n" % each[0][1] in renderer.render_again(200, each)
    assert len(renderer._again) <= HEADS
