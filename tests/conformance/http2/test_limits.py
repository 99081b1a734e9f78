"""What a client of HTTP/2 may ask for, and what it is told when that was too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2 import Client
from tests.support.http2driven import MemoryLink, connected
from tests.support.http2frames import (
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Kind,
    Setting,
    continuation,
    data,
    frame,
    headers,
    ping,
    priority,
    reset,
    settings,
    window_update,
)
from tests.support.inprocess import echo, http, logged, looped, read_body, respond


@http
async def hello(scope, receive, send):
    await respond(send, b"hello")


async def status(
    client: Client, method: str = "GET", path: str = "/", *more: tuple[str, str], body: bytes = b""
) -> int:
    return (await client.response(await client.request(method, path, *more, body=body))).status


# Requests that are answered -----------------------------------------------------------------------------------------


@looped
async def test_a_length_beyond_limit_request_body():
    _, client = await connected(echo, limit_request_body=10)
    stream = await client.request("POST", "/", ("content-length", "11"), ends=False)
    assert (await client.head(stream)).status == 413
    assert await status(client, "POST", body=b"0123456789") == 200


@looped
async def test_content_beyond_limit_request_body():
    _, client = await connected(echo, limit_request_body=10)
    stream = await client.request("POST", body=b"0123456789", ends=False)
    await client.send(data(stream, b"x", END_STREAM))
    assert (await client.head(stream)).status == 413
    assert await status(client, "POST", body=b"0123456789") == 200


@looped
async def test_content_beyond_limit_request_body_of_a_response_that_has_begun():
    @http
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await read_body(receive)

    link, client = await connected(app, limit_request_body=10)
    with logged():
        stream = await client.request("POST", body=b"0123456789", ends=False)
        await client.head(stream)
        await client.send(data(stream, b"x"))
        await client.until(lambda: client.answer(stream).code is not None, "RST_STREAM")
        await link.idle()
    assert client.answer(stream).code != ErrorCode.NO_ERROR


@looped
async def test_limit_concurrency():
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send)

    _, client = await connected(app, limit_concurrency=2)
    streams = [await client.request() for _ in range(3)]
    assert (await client.response(streams[2])).status == 503
    go_on.set()
    assert [(await client.response(stream)).status for stream in streams[:2]] == [200, 200]


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        ({"limit_request_fields": 5}, [(f"x-{number}", "1") for number in range(10)]),
        ({"limit_request_field_size": 100}, [("x-long", "x" * 200)]),
        ({"limit_request_head": 1000}, [(f"x-{number}", "x" * 90) for number in range(20)]),
    ],
    ids=["fields", "field", "head"],
)
@looped
async def test_a_head_that_is_too_large_is_431_and_the_next_one_is_understood(limits, fields):
    _, client = await connected(hello, **limits)
    assert await status(client, "GET", "/", *fields) == 431
    assert await status(client, "GET", "/", ("x-0", "1")) == 200
    assert await status(client, "GET", "/", *fields) == 431


@looped
async def test_a_path_that_is_too_long_is_414():
    _, client = await connected(hello, limit_request_line=100)
    assert await status(client, "GET", "/" + "x" * 200) == 414
    assert await status(client) == 200


@looped
async def test_an_ordinary_connect_is_refused():
    _, client = await connected(hello)
    await client.send(headers(1, client.block([(":method", "CONNECT"), (":authority", "a.test:443")]), END_HEADERS))
    answer = await client.head(1)
    assert 400 <= answer.status < 600
    assert await status_on(client, 3) == 200


async def status_on(client: Client, stream: int) -> int:
    await client.send(headers(stream, client.block(client.fields())))
    return (await client.response(stream)).status


# Streams ------------------------------------------------------------------------------------------------------------


@looped
async def test_streams_beyond_the_limit_are_refused_and_may_be_sent_again():
    go_on = asyncio.Event()
    began = []

    @http
    async def app(scope, receive, send):
        began.append(scope["path"])
        await go_on.wait()
        await respond(send)

    _, client = await connected(app, http2_max_concurrent_streams=3)
    assert client.ledger.server[Setting.MAX_CONCURRENT_STREAMS] == 3
    streams = [await client.request("GET", f"/{number}") for number in range(4)]
    await client.stream_error(streams[3], ErrorCode.REFUSED_STREAM)
    assert began == ["/0", "/1", "/2"]
    go_on.set()
    for stream in streams[:3]:
        await client.response(stream)
    assert await status(client) == 200


@looped
async def test_the_settings_are_announced():
    _, client = await connected(hello, http2_max_frame_size=20_000, limit_request_head=50_000)
    server = client.ledger.server
    assert server[Setting.MAX_FRAME_SIZE] == 20_000
    assert server[Setting.MAX_HEADER_LIST_SIZE] == 50_000
    assert server[Setting.MAX_CONCURRENT_STREAMS] == 100


@looped
async def test_larger_frames_where_they_are_allowed():
    _, client = await connected(echo, http2_max_frame_size=30_000)
    assert (await client.response(await client.request("POST", body=bytes(30_000)))).body == bytes(30_000)
    await client.request("POST", body=bytes(30_001))
    await client.connection_error(ErrorCode.FRAME_SIZE_ERROR)


# Floods -------------------------------------------------------------------------------------------------------------

FLOODS = {
    "ping": ping(),
    "settings": settings(),
    "priority": priority(1),
    "window_update": window_update(0, 1),
    "unknown": frame(0x77),
    "answered ping": ping(flags=1),
}


@pytest.mark.parametrize("flood", FLOODS)
@looped
async def test_frames_that_ask_for_nothing_are_counted(flood: str):
    link, client = await connected(hello, http2_max_control_frames=50)
    with logged():
        await client.send(*[FLOODS[flood]] * 60)
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)
    await link.settle()


@pytest.mark.parametrize("flood", FLOODS)
@looped
async def test_and_forgiven_with_time(flood: str):
    link, client = await connected(hello, http2_max_control_frames=60, timeout_keep_alive=1000)
    for _ in range(20):
        await client.send(*[FLOODS[flood]] * 20)
        link.pass_time(15)
    assert await status(client) == 200


@looped
async def test_empty_data_frames_are_counted():
    _, client = await connected(echo, http2_max_control_frames=50)
    with logged():
        stream = await client.request("POST", ends=False)
        await client.send(*[data(stream, b"")] * 60)
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)


@looped
async def test_rapid_reset():
    """CVE-2023-44487."""
    began = 0

    @http
    async def app(scope, receive, send):
        nonlocal began
        began += 1
        await asyncio.get_running_loop().create_future()

    _, client = await connected(app, http2_max_resets=20)
    with logged():
        for _ in range(60):
            stream = client.new_stream()
            await client.send_together(headers(stream, client.block(client.fields())), reset(stream))
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)
    assert began <= 22


MADE = {
    "window_update of 0": lambda stream: window_update(stream, 0),
    "window overflow": lambda stream: window_update(stream, 2**31 - 1),
    "priority of 4 bytes": lambda stream: frame(Kind.PRIORITY, 0, stream, bytes(4)),
    "data behind the end": lambda stream: data(stream, b"x"),
}


@pytest.mark.parametrize("way", MADE)
@looped
async def test_made_you_reset(way: str):
    """CVE-2025-8671: the client has the server reset its streams."""

    @http
    async def app(scope, receive, send):
        await asyncio.get_running_loop().create_future()

    _, client = await connected(app, http2_max_resets=20)
    with logged():
        for _ in range(60):
            stream = client.new_stream()
            await client.send_together(headers(stream, client.block(client.fields())), MADE[way](stream))
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)


@looped
async def test_resets_of_a_client_that_is_served_are_allowed():
    """A browser whose user moves on."""
    _, client = await connected(hello, http2_max_resets=20)
    for _ in range(100):
        for _ in range(4):
            await client.response(await client.request())
        stream = client.new_stream()
        await client.send(headers(stream, client.block(client.fields())), reset(stream))
    assert await status(client) == 200


@looped
async def test_continuation_flood():
    _, client = await connected(hello, http2_max_continuations=5)
    with logged():
        await client.send(headers(1, client.block(client.fields()), END_STREAM))
        await client.send(*[continuation(1, b"", 0)] * 10)
        await client.connection_error(ErrorCode.ENHANCE_YOUR_CALM)


@looped
async def test_a_header_bomb():
    """One long field, and then thousands of references to it."""
    _, client = await connected(hello)
    block = client.block(client.fields())
    bomb = block + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 10_000
    await client.send(headers(1, bomb))
    answer = await client.head(1)
    assert answer.status == 431


@looped
async def test_a_slow_preface():
    link = MemoryLink(hello, timeout_first_byte=3)
    client = Client(link)
    await link.write(PREFACE[:10])
    for _ in range(12):
        link.pass_time(1)
        await link.settle()
    assert link.over
    await client.wait_for_end()


@looped
async def test_a_header_block_that_never_ends():
    link, client = await connected(hello, timeout_request_header=5)
    with logged():
        await client.send(headers(1, client.block(client.fields()), END_STREAM))
        for _ in range(8):
            link.pass_time(1)
            await link.settle()
        await client.wait_for_end()


async def sweeps_until(link: MemoryLink, condition: Callable[[], bool]) -> int:
    """How many sweeps, a second each, it takes."""
    for count in range(1000):
        await link.settle()
        if condition():
            return count
        link.pass_time(1)
    raise AssertionError("it did not come to this")


@looped
async def test_an_upload_that_stops():
    link, client = await connected(echo, timeout_request_body=5)
    link.pass_time(3)
    stream = await client.request("POST", body=b"begun", ends=False)
    assert 5 <= await sweeps_until(link, lambda: b"408" in link.transport.data) <= 7
    assert (await client.head(stream)).status == 408


@looped
async def test_a_window_that_stays_shut():
    link, client = await connected(hello, (Setting.INITIAL_WINDOW_SIZE, 0), timeout_write=5, timeout_keep_alive=60)
    link.pass_time(3)
    with logged():
        stream = await client.request()
        await client.head(stream)
        frames = len(link.transport.writes)
        assert 5 <= await sweeps_until(link, lambda: len(link.transport.writes) > frames) <= 7
        await client.stream_error(stream, ErrorCode.CANCEL)


@looped
async def test_a_connection_window_that_stays_shut():
    @http
    async def app(scope, receive, send):
        await respond(send, bytes(100_000))

    link, client = await connected(app, (Setting.INITIAL_WINDOW_SIZE, 1 << 20), timeout_write=5, timeout_keep_alive=60)
    client.generous = False
    link.pass_time(30)
    with logged():
        stream = await client.request()
        await client.until(lambda: client.ledger.window == 0, "all of the window")
        assert 5 <= await sweeps_until(link, lambda: link.over) <= 7
    assert not client.answer(stream).ended


@looped
async def test_a_trickle_is_not_a_standstill_but_adds_up_to_one():
    """`min_data_rate` bytes win a second, fewer of them less."""
    link, client = await connected(echo, timeout_request_body=5, min_data_rate=100)
    stream = await client.request("POST", ends=False)
    for _ in range(60):
        await client.send(data(stream, bytes(100)))
        await link.settle()
        link.pass_time(1)
    assert client.answer(stream).status == 0
    count = 0
    while b"408" not in link.transport.data:
        await client.send(data(stream, bytes(50)))
        await link.settle()
        link.pass_time(1)
        count += 1
    assert 8 <= count <= 14
    assert (await client.head(stream)).status == 408


@looped
async def test_an_application_that_takes_its_time_is_waited_for():
    go_on = asyncio.Event()

    @http
    async def app(scope, receive, send):
        await go_on.wait()
        await respond(send, b"late")

    link, client = await connected(app)
    get, post = await client.request(), await client.request("POST", body=b"begun", ends=False)
    for _ in range(1000):
        link.pass_time(1)
    await client.roundtrip()
    go_on.set()
    assert (await client.response(get)).body == b"late"
    assert (await client.response(post)).body == b"late"


@looped
async def test_a_request_that_never_ends_is_let_go_of_after_its_answer():
    link, client = await connected(hello, timeout_linger=4, timeout_keep_alive=60)
    stream = await client.request("POST", ends=False)
    await client.response(stream)
    frames = len(link.transport.writes)
    assert 4 <= await sweeps_until(link, lambda: len(link.transport.writes) > frames) <= 6
    await client.until(lambda: client.answer(stream).code is not None, "RST_STREAM")
    assert client.answer(stream).code == ErrorCode.NO_ERROR
    assert await status(client) == 200
