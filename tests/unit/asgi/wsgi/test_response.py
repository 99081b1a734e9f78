"""What start_response is told, as a head: remembered, and never another's."""

from __future__ import annotations

import pytest

from palfrey.asgi.messages import ApplicationError
from palfrey.asgi.stream import REASON, InvalidHeader
from palfrey.asgi.wsgi import response as module
from palfrey.asgi.wsgi.response import ResponseHeads


def test_a_head_as_bytes() -> None:
    head = ResponseHeads().read("418 I'm a Teapot", [("X-Name", "caf\xe9"), ("Content-Length", "12")])
    assert head == (418, ((b"x-name", b"caf\xe9"), (b"content-length", b"12")), 12, True)
    assert ResponseHeads().read("200", []) == (200, (), -1, True)


def test_what_is_remembered_is_bounded_and_without_cookies() -> None:
    heads = ResponseHeads()
    for number in range(3000):
        heads.read(f"200 {number}", [("X-Number", str(number))])
    assert not heads.read("404 Not Found", [("Set-Cookie", "secret=1")])[3]
    assert not heads.read("404 Not Found", [("X-Long", "x" * 1000)])[3]
    assert len(heads) <= module.REMEMBERED
    assert len(heads.before) <= module.REMEMBERED
    assert "secret" not in repr(heads) + repr(heads.before)
    assert "404 Not Found" not in heads.before


def test_a_list_that_is_changed_afterwards_is_another() -> None:
    heads = ResponseHeads()
    headers = [("X-A", "1")]
    heads.read("200 OK", headers)
    headers[0] = ("X-A", "2")
    known, _ = heads.before["200 OK"]
    assert known != headers


@pytest.mark.parametrize("lengths", [["1", "1"], ["1", "2"], ["-1"], ["1 "], [""], ["9" * 19]])
def test_a_length_that_is_none(lengths: list[str]) -> None:
    with pytest.raises(InvalidHeader):
        ResponseHeads().read("200 OK", [("Content-Length", length) for length in lengths])


@pytest.mark.parametrize(
    "status",
    [
        "",
        "2",
        "20",
        "200OK",
        "abc OK",
        "199 No",
        None,
        200,
        ["200 OK"],
        "\u0662\u0660\u0660 OK",
        "200 O\nK",
        "200 OK\r\n",
        "200 OK\n",
        "200 O\tK",
        "200 O\x7fK",
        "200 \u20ac",
    ],
)
def test_a_status_that_is_none(status: object) -> None:
    with pytest.raises(ApplicationError):
        ResponseHeads().read(status, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "phrase"),
    [("404 Gone Fishing", b"Gone Fishing"), ("404 NOT FOUND", b"NOT FOUND"), ("599 caf\xe9 ", b"caf\xe9")],
)
def test_a_phrase_of_its_own_is_a_field_of_a_name_that_none_has(status: str, phrase: bytes) -> None:
    heads = ResponseHeads()
    _, (first, second), *_ = heads.read(status, [("X-A", "1")])
    assert first[0] is REASON
    assert (first[1], second) == (phrase, (b"x-a", b"1"))
    assert heads.before[status][1][1] == (first, second)


@pytest.mark.parametrize("status", ["404 Not Found", "404", "404 ", "404 Not Found ", "299"])
def test_the_usual_phrase_or_none_is_no_field(status: str) -> None:
    assert ResponseHeads().read(status, []) == (int(status[:3]), (), -1, True)
