"""Requests and responses over HTTP/2, as an ASGI application and its client see them."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.driven import CLIENT, SERVER
from tests.support.http2driven import connected
from tests.support.http2frames import END_HEADERS, END_STREAM, Kind, Setting, data, headers, reset
from tests.support.inprocess import echo, http, logged, looped, read_body, respond, seen

START = {"type": "http.response.start", "status": 200}


def piece(content: bytes, more: bool = True):
    return {"type": "http.response.body", "body": content, "more_body": more}


def sends(*messages):
    """An application that sends these messages in answer to each request."""

    @http
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


async def ask(app, method: str = "GET", *fields, body: bytes = b"", **options):
    """One request on a connection of its own: its answer."""
    _, client = await connected(app, **options)
    return await client.response(await client.request(method, "/", *fields, body=body))


# The scope ----------------------------------------------------------------------------------------------------------


@looped
async def test_the_scope():
    scopes = []

    @http
    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    _, client = await connected(app)
    await client.response(await client.request("PATCH", "/a%20b/%C3%A4?q=1&r", ("x-one", "1"), ("accept", "a, b")))
    (scope,) = scopes
    assert scope["type"] == "http"
    assert scope["http_version"] == "2"
    assert (scope["method"], scope["scheme"]) == ("PATCH", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/ä", b"/a%20b/%C3%A4", b"q=1&r")
    assert list(scope["headers"]) == [(b"host", b"palfrey.test"), (b"x-one", b"1"), (b"accept", b"a, b")]
    assert (tuple(scope["client"]), tuple(scope["server"])) == (CLIENT, SERVER)
    assert {"http.response.trailers", "http.response.early_hint", "http.response.pathsend"} <= set(scope["extensions"])


@looped
async def test_each_request_has_headers_and_a_scope_of_its_own():
    scopes = []

    @http
    async def app(scope, receive, send):
        scopes.append(scope)
        scope["headers"].append((b"x-added", b"by the application"))
        scope["extensions"]["added"] = {}
        await respond(send)

    _, client = await connected(app)
    for _ in range(4):
        await client.response(await client.request("GET", "/", ("x-same", "1")))
    assert [list(scope["headers"]) for scope in scopes] == [
        [(b"host", b"palfrey.test"), (b"x-same", b"1"), (b"x-added", b"by the application")]
    ] * 4
    assert len({id(scope) for scope in scopes}) == 4


@looped
async def test_crumbs_of_a_cookie_are_one_field():
    found = []

    @http
    async def app(scope, receive, send):
        found.extend(value for name, value in scope["headers"] if name == b"cookie")
        await respond(send)

    await ask(app, "GET", ("cookie", "a=b"), ("x-between", "1"), ("cookie", "c=d"), ("cookie", "e=f"))
    assert found == [b"a=b; c=d; e=f"]


@looped
async def test_a_host_without_authority_names_it():
    hosts = []

    @http
    async def app(scope, receive, send):
        hosts.extend(value for name, value in scope["headers"] if name == b"host")
        await respond(send)

    _, client = await connected(app)
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "other.test")]
    await client.send(headers(1, client.block(fields)))
    await client.response(1)
    assert hosts == [b"other.test"]


@looped
async def test_a_host_that_is_not_the_authority_is_refused():
    _, client = await connected(echo)
    await client.send(headers(1, client.block(client.fields("GET", "/", ("host", "other.test")))))
    assert (await client.response(1)).status == 400
    await client.send(headers(3, client.block(client.fields("GET", "/", ("host", "palfrey.test")))))
    assert (await client.response(3)).status == 200


# Content, both ways -------------------------------------------------------------------------------------------------


@looped
async def test_a_request_arrives_as_it_is_sent():
    messages = []
    got = asyncio.Semaphore(0)

    @http
    async def app(scope, receive, send):
        while True:
            messages.append(await receive())
            got.release()
            if not messages[-1].get("more_body"):
                break
        await respond(send, b"done")

    _, client = await connected(app)
    stream = await client.request("POST", ends=False)
    for content in (b"one", b"two"):
        await client.send(data(stream, content))
        await got.acquire()
    await client.send(data(stream, b"", END_STREAM))
    assert (await client.response(stream)).body == b"done"
    assert seen(messages) == [
        ("http.request", b"one", True),
        ("http.request", b"two", True),
        ("http.request", b"", False),
    ]


@looped
async def test_a_response_leaves_as_it_is_sent():
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await send(START)
        await send(piece(b"one"))
        await go_on.wait()
        await send(piece(b"two", False))

    _, client = await connected(app)
    stream = await client.request()
    assert (await client.expect(Kind.DATA)).payload == b"one"
    go_on.set()
    assert (await client.response(stream)).pieces == [b"one", b"two"]


@looped
async def test_both_ways_at_once():
    @http
    async def app(scope, receive, send):
        await send(START)
        while True:
            message = await receive()
            await send(piece(message["body"].upper(), message["more_body"]))
            if not message["more_body"]:
                break

    _, client = await connected(app)
    stream = await client.request("POST", ends=False)
    for content in (b"a", b"b", b"c"):
        await client.send(data(stream, content))
        assert (await client.expect(Kind.DATA)).payload == content.upper()
    await client.send(data(stream, b"", END_STREAM))
    assert (await client.response(stream)).body == b"ABC"


@looped
async def test_a_large_response_comes_in_frames_of_the_size_that_is_allowed():
    body = bytes(range(256)) * 4096
    answer = await ask(sends(START, piece(body, False)))
    assert answer.body == body
    assert max(map(len, answer.pieces)) <= 16384


@looped
async def test_a_large_request():
    sizes = []

    @http
    async def app(scope, receive, send):
        sizes.append(len(await read_body(receive)))
        await respond(send)

    _, client = await connected(app)
    stream = await client.request("POST", ends=False)
    room, left = 65535, 1_000_000
    window = client.ledger.server.get(Setting.INITIAL_WINDOW_SIZE, 65535)
    while left:
        count = min(16384, left, room, window)
        if count:
            await client.send(data(stream, bytes(count), 0 if count < left else END_STREAM))
            room, window, left = room - count, window - count, left - count
        else:
            update = await client.expect(Kind.WINDOW_UPDATE)
            window, room = (window + update.number, room) if update.stream else (window, room + update.number)
    assert (await client.response(stream)).status == 200
    assert sizes == [1_000_000]


@pytest.mark.parametrize("status", [204, 304])
@looped
async def test_a_status_without_content_ends_with_its_head(status: int):
    answer = await ask(sends({"type": "http.response.start", "status": status}, piece(b"never", False)))
    assert (answer.status, answer.pieces) == (status, [])


@looped
async def test_head_says_the_length_and_has_no_content():
    app = sends({**START, "headers": [(b"content-length", b"5")]}, piece(b"hello", False))
    answer = await ask(app, "HEAD")
    assert (answer["content-length"], answer.pieces) == ("5", [])


@looped
async def test_a_whole_response_says_its_length():
    assert (await ask(sends(START, piece(b"hello", False))))["content-length"] == "5"
    assert "content-length" not in await ask(sends(START, piece(b"hello"), piece(b"", False)))


@looped
async def test_an_empty_response():
    answer = await ask(sends(START, piece(b"", False)))
    assert (answer.status, answer.body, answer["content-length"]) == (200, b"", "0")


@looped
async def test_a_hundred_requests_in_one_read():
    @http
    async def app(scope, receive, send):
        await respond(send, scope["path"].encode())

    link, client = await connected(app)
    blocks = [client.block(client.fields("GET", f"/{number}")) for number in range(100)]
    await client.send_together(*(headers(2 * number + 1, block) for number, block in enumerate(blocks)))
    for number in range(100):
        assert (await client.response(2 * number + 1)).body == b"/%d" % number
    assert link.service.requests == 100


# Fields of responses ------------------------------------------------------------------------------------------------


@looped
async def test_names_are_lowered_and_what_is_the_connections_is_left_out():
    fields = [
        (b"X-Mixed", b"1"),
        (b"Connection", b"close, x-hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Connection", b"close"),
    ]
    answer = await ask(sends({**START, "headers": fields}, piece(b"x", False)))
    assert answer.status == 200
    assert ("x-mixed", "1") in answer.fields
    # The ledger has seen to the rest.


@looped
async def test_repeated_fields_stay_apart_and_in_order():
    fields = [(b"set-cookie", b"a=1"), (b"vary", b"x"), (b"set-cookie", b"b=2")]
    answer = await ask(sends({**START, "headers": fields}, piece(b"x", False)))
    assert answer.all("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("field", [(b"x-bad", b"a\r\nb: c"), (b"x-bad", b"a\0b"), (b"x bad", b"1"), (b"", b"1")])
@looped
async def test_a_field_that_cannot_be_sent_is_a_500(field):
    with logged() as records:
        answer = await ask(sends({**START, "headers": [field]}, piece(b"x", False)))
    assert answer.status == 500
    assert len(records.errors) == 1


@looped
async def test_the_default_fields():
    answer = await ask(sends(START, piece(b"x", False)), server_header=True, date_header=True)
    assert "date" in answer
    assert "server" in answer


@looped
async def test_a_head_of_more_than_one_frame():
    fields = [(b"x-long-%d" % number, b"%d" % number * 4000) for number in range(10)]
    _, client = await connected(sends({**START, "headers": fields}, piece(b"x", False)))
    answer = await client.response(await client.request())
    assert [len(value) for name, value in answer.fields if name.startswith("x-long")] == [4000] * 10
    assert Kind.CONTINUATION in [frame.kind for frame in client.frames]


@looped
async def test_a_client_without_a_dynamic_table():
    _, client = await connected(
        sends({**START, "headers": [(b"x-same", b"1")]}, piece(b"x", False)), (Setting.HEADER_TABLE_SIZE, 0)
    )
    for _ in range(3):
        assert (await client.response(await client.request()))["x-same"] == "1"
    assert client.ledger.decoder.header_table_size == 0


@looped
async def test_a_request_id():
    ids = []

    @http
    async def app(scope, receive, send):
        ids.append(scope["state"]["request_id"])
        await respond(send)

    answer = await ask(app, request_id="x-request-id")
    assert [answer["x-request-id"]] == ids


# Interim responses --------------------------------------------------------------------------------------------------


@looped
async def test_early_hints():
    link = b"</style.css>; rel=preload; as=style"
    answer = await ask(sends({"type": "http.response.early_hint", "links": [link]}, START, piece(b"x", False)))
    assert answer.interim == [(103, [("link", link.decode())])]


@looped
async def test_100_continue_once_the_application_asks():
    asked = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await asked.wait()
        await respond(send, await read_body(receive))

    _, client = await connected(app)
    stream = await client.request("POST", "/", ("expect", "100-continue"), ends=False)
    await client.roundtrip()
    assert client.answer(stream).interim == []
    asked.set()
    await client.until(lambda: bool(client.answer(stream).interim), "100 Continue")
    await client.send(data(stream, b"hello", END_STREAM))
    answer = await client.response(stream)
    assert (answer.interim, answer.body) == ([(100, [])], b"hello")


@looped
async def test_no_100_continue_for_an_application_that_answers_first():
    _, client = await connected(sends({**START, "status": 403}, piece(b"no", False)))
    stream = await client.request("POST", "/", ("expect", "100-continue"), ends=False)
    answer = await client.response(stream)
    assert (answer.status, answer.interim) == (403, [])


# Trailers -----------------------------------------------------------------------------------------------------------


@looped
async def test_trailers_of_a_response():
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1"), (b"X-Other", b"2")]}
    answer = await ask(sends({**START, "trailers": True}, piece(b"x", False), trailers), "GET", ("te", "trailers"))
    assert (answer.body, answer.trailers) == (b"x", [("x-sum", "1"), ("x-other", "2")])


@looped
async def test_empty_trailers_end_the_response():
    """As one without trailers does: a header block of nothing is what a client may stumble over."""
    trailers = {"type": "http.response.trailers", "headers": []}
    _, client = await connected(sends({**START, "trailers": True}, piece(b"x", False), trailers))
    stream = await client.request()
    assert (await client.response(stream)).body == b"x"
    assert [frame.kind for frame in client.frames if frame.stream == stream].count(Kind.HEADERS) == 1


@looped
async def test_trailers_of_a_request_end_its_content():
    messages = []

    @http
    async def app(scope, receive, send):
        messages.append(await receive())
        messages.append(await receive())
        await respond(send)

    link, client = await connected(app)
    stream = await client.request("POST", body=b"content", ends=False)
    await link.until(lambda: len(messages) == 1)
    await client.send(headers(stream, client.block([("x-sum", "1")])))
    await client.response(stream)
    assert seen(messages) == [("http.request", b"content", True), ("http.request", b"", False)]


@looped
async def test_trailers_behind_less_content_than_was_announced():
    _, client = await connected(echo)
    stream = await client.request("POST", "/", ("content-length", "9"), body=b"content", ends=False)
    await client.send(headers(stream, client.block([("x-sum", "1")])))
    await client.stream_error(stream, ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "field", [("X-Sum", "1"), ("x sum", "1"), ("connection", "close"), (":path", "/"), ("x-sum", "a\nb")]
)
@looped
async def test_trailers_that_are_malformed(field):
    _, client = await connected(echo)
    stream = await client.request("POST", body=b"content", ends=False)
    await client.send(headers(stream, client.block([field])))
    await client.stream_error(stream, ErrorCode.PROTOCOL_ERROR)


# What goes wrong ----------------------------------------------------------------------------------------------------


@looped
async def test_an_application_that_fails_is_answered_for():
    @http
    async def app(scope, receive, send):
        raise RuntimeError("on purpose")

    with logged() as records:
        answer = await ask(app)
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert "on purpose" in records.errors[0]


@looped
async def test_an_application_that_returns_without_an_answer():
    with logged() as records:
        answer = await ask(sends())
    assert answer.status == 500
    assert len(records.errors) == 1


@pytest.mark.parametrize(
    ("start", "messages"),
    [
        ((b"x-any", b"1"), [piece(b"begun"), None]),
        ((b"x-any", b"1"), [piece(b"begun")]),
        ((b"content-length", b"9"), [piece(b"begun"), piece(b"", False)]),
        ((b"content-length", b"5"), [piece(b"begun"), piece(b"more", False)]),
    ],
    ids=["fails", "returns", "too short", "too long"],
)
@looped
async def test_a_response_that_cannot_be_completed_is_cut_and_no_other(start, messages):
    @http
    async def app(scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        await send({**START, "headers": [start]})
        for message in messages:
            if message is None:
                raise RuntimeError("on purpose")
            await send(message)

    _, client = await connected(app)
    with logged() as records:
        await client.request()
        await client.stream_error(1, ErrorCode.INTERNAL_ERROR)
    assert not client.answer(1).ended
    assert len(records.errors) == 1
    assert (await client.response(await client.request("GET", "/well"))).body == b"well"


@looped
async def test_a_cut_upload_is_cut_for_its_client_too():
    """The request was not complete when the application failed with its response begun."""

    @http
    async def app(scope, receive, send):
        await send(START)
        await send(piece(b"begun"))
        raise RuntimeError("on purpose")

    _, client = await connected(app)
    with logged():
        stream = await client.request("POST", ends=False)
        await client.stream_error(stream, ErrorCode.INTERNAL_ERROR)


# The log ------------------------------------------------------------------------------------------------------------


class Lines:
    """An access log that keeps what it is told."""

    enabled = True

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, int, int]] = []

    def log(self, facts, ended: float) -> None:
        assert facts.started <= ended <= monotonic()
        scope = facts.scope
        self.lines.append((scope["http_version"], scope["path"], facts.status, facts.body_bytes))

    def log_websocket(self, facts, ended: float) -> None:
        raise AssertionError


@looped
async def test_each_response_is_a_line_of_the_access_log():
    lines = Lines()
    _, client = await connected(echo, access=lines)
    await client.response(await client.request("GET", "/one"))
    await client.response(await client.request("POST", "/two", body=b"content"))
    assert lines.lines == [("2", "/one", 200, 4), ("2", "/two", 200, 7)]


@looped
async def test_a_request_that_was_cancelled_is_a_line_of_the_access_log():
    lines = Lines()
    link, client = await connected(echo, access=lines)
    stream = await client.request("POST", ends=False)
    await client.send(reset(stream))
    await link.until(lambda: bool(lines.lines))
    assert lines.lines == [("2", "/", 499, 0)]


# Uploads that nobody reads ------------------------------------------------------------------------------------------


@looped
async def test_an_answer_before_the_request_is_whole():
    """RFC 9113 section 8.1: the rest may come, and is dropped; it does not hold the connection's window."""
    _, client = await connected(sends({**START, "status": 413}, piece(b"enough", False)))
    for _ in range(8):
        stream = client.new_stream()
        await client.send(headers(stream, client.block(client.fields("POST")), END_HEADERS))
        assert (await client.response(stream)).status == 413
        await client.send(*(data(stream, bytes(16384)) for _ in range(3)), data(stream, b"", END_STREAM))
        await client.roundtrip()
    given = sum(frame.number for frame in client.frames if frame.kind == Kind.WINDOW_UPDATE and not frame.stream)
    assert 65535 + given >= 8 * 3 * 16384
