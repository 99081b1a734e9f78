"""Whatever an application sends comes to the same over HTTP/2 as over HTTP/1.1, and never breaks the protocol.

The combinations are those of tests/conformance/test_responses.py; the second request, which has to be answered in
any case, is on the same connection here.
"""

from __future__ import annotations

import itertools

import pytest

from tests.conformance.test_responses import CONTENTS, FIELDS, METHODS, STATUSES, exchange, make_app
from tests.support.http2 import Client
from tests.support.http2driven import connected
from tests.support.inprocess import logged, looped


async def over_http2(client: Client, method: str) -> tuple[int, bytes] | None:
    """What the client gets; None where the response was cut."""
    stream = await client.request(method)
    answer = client.answer(stream)
    await client.until(lambda: answer.over, "the response")
    assert (await client.response(await client.request("GET", "/second"))).body == b"second"
    return (answer.status, answer.body) if answer.ended else None


@pytest.mark.parametrize("content", CONTENTS)
@looped
async def test_every_combination(content: str) -> None:
    for method, status, fields in itertools.product(METHODS, STATUSES, FIELDS):
        app = make_app(status, FIELDS[fields], CONTENTS[content])
        whole, _, _ = await exchange(method, "1.1", app)
        expected = (whole[0].status, whole[0].body) if whole else None
        with logged():
            _, client = await connected(app, http2_max_resets=0)
            got = await over_http2(client, method)
        # A response whose end the application did not say is whole over HTTP/1.1 if its length was announced.
        assert got == expected or (content == "no end" and got is None), (method, status, fields)


@pytest.mark.parametrize("status", [100, 101, 199, 0, 1000, "200"])
@looped
async def test_a_status_that_is_none(status) -> None:
    _, client = await connected(make_app(status, [], CONTENTS["whole"]))
    with logged() as records:
        assert await over_http2(client, "GET") == (500, b"Internal Server Error")
    assert len(records.errors) == 1
