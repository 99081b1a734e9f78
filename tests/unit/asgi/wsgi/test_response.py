"""What start_response is told, as a head: remembered, and never another's."""

from __future__ import annotations

import pytest

from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.stream import InvalidHeader
from palfrey.asgi.wsgi import response as module
from palfrey.asgi.wsgi.response import HeadReader


def test_a_head_as_bytes() -> None:
    head = HeadReader().read("418 I'm a teapot", [("X-Name", "caf\xe9"), ("Content-Length", "12")])
    assert head == (418, ((b"x-name", b"caf\xe9"), (b"content-length", b"12")), 12)
    assert HeadReader().read("200", []) == (200, (), -1)


def test_what_is_remembered_is_bounded_and_without_cookies() -> None:
    heads = HeadReader()
    for number in range(3000):
        heads.read(f"200 {number}", [("X-Number", str(number))])
    heads.read("404 Not Found", [("Set-Cookie", "secret=1")])
    heads.read("404 Not Found", [("X-Long", "x" * 1000)])
    assert len(heads) <= module.REMEMBERED
    assert len(heads.before) <= module.REMEMBERED
    assert "secret" not in repr(heads) + repr(heads.before)
    assert "404 Not Found" not in heads.before


def test_a_list_that_is_changed_afterwards_is_another() -> None:
    heads = HeadReader()
    headers = [("X-A", "1")]
    heads.read("200 OK", headers)
    headers[0] = ("X-A", "2")
    known, _ = heads.before["200 OK"]
    assert known != headers


@pytest.mark.parametrize("lengths", [["1", "1"], ["1", "2"], ["-1"], ["1 "], [""], ["9" * 19]])
def test_a_length_that_is_none(lengths: list[str]) -> None:
    with pytest.raises(InvalidHeader):
        HeadReader().read("200 OK", [("Content-Length", length) for length in lengths])


@pytest.mark.parametrize(
    "status", ["", "2", "20", "200OK", "abc OK", "199 No", None, 200, ["200 OK"], "\u0662\u0660\u0660 OK"]
)
def test_a_status_that_is_none(status: object) -> None:
    with pytest.raises(ApplicationError):
        HeadReader().read(status, [])  # type: ignore[arg-type]
