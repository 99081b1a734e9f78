"""The `request_id` setting: whose word counts, and where the id turns up."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from palfrey.observe.access import AccessLog
from tests.support.driven import Driven
from tests.support.inprocess import http, logged, looped, respond

MADE = re.compile(r"[0-9a-f]{32}")
PROXY = ("127.0.0.1", 4000)
STRANGER = ("192.0.2.1", 4000)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


@http
async def tell(scope, receive, send):
    """Answers with the id that it was told."""
    await respond(send, scope["state"].get("request_id", "none").encode())


def ask(driven: Driven, *fields: bytes) -> None:
    driven.feed(GET + b"".join(field + b"\r\n" for field in fields) + b"\r\n")


@pytest.mark.parametrize(
    ("client", "fields", "taken"),
    [
        (PROXY, [b"X-Request-ID: abc-123"], "abc-123"),
        (PROXY, [b"x-request-id: 1-67891233-abcdef012345678912345678"], "1-67891233-abcdef012345678912345678"),
        (PROXY, [b"x-request-id: 105445aa7843bc8bf206b12000100000/1;o=1"], None),
        (PROXY, [b"x-request-id: " + b"a" * 128], "a" * 128),
        (PROXY, [b"x-request-id: " + b"a" * 129], None),
        (PROXY, [b"x-request-id:"], None),
        (PROXY, [b"x-request-id: a b"], None),
        (PROXY, [b'x-request-id: a"'], None),
        (PROXY, [b"x-request-id: \xe9"], None),
        (PROXY, [b"x-request-id: a", b"x-request-id: b"], None),
        (PROXY, [b"x-other-id: a"], None),
        (PROXY, [], None),
        (STRANGER, [b"X-Request-ID: abc-123"], None),
    ],
)
@looped
async def test_whose_word_counts(client, fields, taken):
    driven = Driven(tell, client=client, request_id="x-request-id")
    ask(driven, *fields)
    await driven.idle()
    (response,) = driven.responses()
    found = response.body.decode()
    assert found == taken if taken else MADE.fullmatch(found)
    assert response["x-request-id"] == found


@looped
async def test_each_request_has_its_own_and_the_state_is_not_shared():
    driven = Driven(tell, request_id="x-id")
    for _ in range(3):
        ask(driven)
        await driven.idle()
    ids = {response["x-id"] for response in driven.responses()}
    assert len(ids) == 3
    assert driven.service.state == {}
    assert not any(pair[0] == b"x-id" for pair in driven.service.renderer._lines)


@looped
async def test_off_by_default():
    driven = Driven(tell, client=PROXY)
    ask(driven, b"X-Request-ID: abc")
    await driven.idle()
    (response,) = driven.responses()
    assert response.body == b"none"
    assert "x-request-id" not in response


@looped
async def test_the_applications_own_header_wins():
    @http
    async def app(scope, receive, send):
        await respond(send, headers=[(b"X-Request-Id", b"mine")])

    driven = Driven(app, request_id="x-request-id")
    ask(driven)
    await driven.idle()
    assert driven.transport.data.lower().count(b"x-request-id") == 1
    assert b"X-Request-Id: mine\r\n" in driven.transport.data


@looped
async def test_the_error_log_and_the_500_have_it():
    @http
    async def app(scope, receive, send):
        raise RuntimeError("boom")

    driven = Driven(app, client=PROXY, request_id="x-request-id")
    with logged() as records:
        ask(driven, b"x-request-id: abc")
        await driven.idle()
    assert driven.responses()[0]["x-request-id"] == "abc"
    assert 'answering "GET /" from 127.0.0.1:4000, request_id abc\n' in records.errors[0]


@looped
async def test_the_access_log_has_it():
    seen = []
    access = AccessLog(enabled=True)
    access.log = lambda facts, ended: seen.append(facts.request_id)
    for options in ({"request_id": "x-request-id"}, {}):
        driven = Driven(tell, client=PROXY, access=access, **options)
        ask(driven, b"x-request-id: abc")
        await driven.idle()
    assert seen == ["abc", ""]


@looped
async def test_starlette_shows_it():
    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.request_id)

    driven = Driven(Starlette(routes=[Route("/", home)]), client=PROXY, request_id="x-request-id")
    ask(driven, b"x-request-id: abc")
    await driven.idle()
    assert driven.responses()[0].body == b"abc"
