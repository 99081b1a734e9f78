"""A request named, as the log does."""

from __future__ import annotations

import pytest

from palfrey.asgi.request import Request


def request(**scope) -> Request:
    made = Request()
    made.id_field = None
    made.scope = {
        "method": "GET",
        "http_version": "1.1",
        "raw_path": b"/a",
        "query_string": b"",
        "headers": [(b"host", b"a")],
        "client": ("192.0.2.1", 5),
        **scope,
    }
    return made


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ({}, '"GET /a" from 192.0.2.1:5'),
        ({"query_string": b"b=c"}, '"GET /a?b=c" from 192.0.2.1:5'),
        ({"raw_path": b"/\xe9\n\x1b["}, r'"GET /\xe9\n\x1b[" from 192.0.2.1:5'),
        ({"client": None, "method": "PUT"}, '"PUT /a" from an unnamed client'),
        ({"client": ("/run/s", None)}, '"GET /a" from /run/s'),
    ],
)
def test_in_a_few_words(scope, said):
    assert request(**scope).describe() == said


def test_facts():
    one = request(query_string=b"q")
    assert (one.method, one.target, one.http_version) == ("GET", b"/a?q", "1.1")
    assert one.client == ("192.0.2.1", 5)
    assert one.request_headers == [(b"host", b"a")]
