"""Scopes become environs, and what is remembered of them never shows."""

from __future__ import annotations

from typing import Any

import pytest

from palfrey.asgi.wsgi import environ as module
from palfrey.asgi.wsgi.environ import EnvironMaker, path_info
from palfrey.asgi.wsgi.errors import ErrorLog


def scope(headers: list[tuple[bytes, bytes]] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "http_version": "1.1",
        "server": ("192.0.2.1", 8000),
        "client": ("198.51.100.1", 40000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/",
        "raw_path": b"/",
        "palfrey.target": b"/",
        "headers": [(b"host", b"example.org")] if headers is None else headers,
        **more,
    }


@pytest.fixture
def maker() -> EnvironMaker:
    return EnvironMaker(ErrorLog(frozenset()), multithread=True, multiprocess=False)


def make(maker: EnvironMaker, facts: dict[str, Any], size: int = 0) -> dict[str, Any]:
    return maker.make(facts, None, size, lambda: False)


CHANGES: list[dict[str, Any]] = [
    {"method": "POST"},
    {"palfrey.target": b"/?a=1"},
    {"palfrey.target": b"/?"},
    {"palfrey.target": b"http://example.net/"},
    {"root_path": "/r", "raw_path": b"/r/", "path": "/r/"},
    {"headers": [(b"host", b"example.com")]},
    {"headers": [(b"host", b"example.org"), (b"accept", b"a")]},
    {"headers": []},
    {"scheme": "https"},
    {"server": ("192.0.2.2", 8000)},
    {"server": None},
    {"http_version": "1.0"},
    {"client": ("198.51.100.2", 40000)},
    {"client": ("198.51.100.1", 40001)},
    {"client": None},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_what_is_remembered_is_of_the_same_request_only(maker: EnvironMaker, change: dict[str, Any]) -> None:
    alone = without_functions(make(EnvironMaker(ErrorLog(frozenset()), True, False), scope(**change)))
    first = without_functions(make(maker, scope()))
    for _ in range(2):
        assert without_functions(make(maker, scope(**change))) == alone
        assert without_functions(make(maker, scope())) == first
    assert alone != first


def without_functions(environ: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))}


def test_what_an_application_changes_is_not_remembered(maker: EnvironMaker) -> None:
    for _ in range(3):
        environ = make(maker, scope())
        assert environ["HTTP_HOST"] == "example.org"
        assert "left" not in environ
        environ.clear()
        environ["left"] = 1


def test_requests_that_share_a_scope_have_environs_of_their_own(maker: EnvironMaker) -> None:
    facts = scope()
    expected = make(maker, scope())
    for size in (0, 5, 0, 0):
        environ = make(maker, facts, size)
        assert environ.pop("CONTENT_LENGTH", "0") == str(size)
        for key in ("palfrey.client_disconnected", "waitress.client_disconnected"):
            assert environ.pop(key) is not expected[key]
        assert environ == {key: value for key, value in expected.items() if not key.endswith("client_disconnected")}
        environ.clear()


def test_a_list_of_headers_that_is_changed_afterwards(maker: EnvironMaker) -> None:
    headers = [(b"host", b"example.org")]
    make(maker, scope(headers))
    headers.append((b"x-forged", b"1"))
    assert "HTTP_X_FORGED" not in make(maker, scope())


@pytest.mark.parametrize("name", [b"cookie", b"authorization", b"proxy-authorization"])
def test_credentials_are_not_remembered(maker: EnvironMaker, name: bytes) -> None:
    make(maker, scope([(b"host", b"a"), (name, b"secret")]))
    assert "secret" not in repr(maker) + repr(maker._before)


def test_what_is_remembered_is_bounded(maker: EnvironMaker) -> None:
    for number in range(3000):
        path = b"/%d" % number
        make(maker, scope([(b"x-a", path)], raw_path=path, server=("192.0.2.1", number + 1)))
    make(maker, scope([(b"x-long", b"x" * 10000)]))
    assert len(maker) <= module.FIELDS
    assert len(maker._before) <= module.REQUESTS
    assert len(maker._bases) <= module.BASES
    assert b"/" not in maker._before


def test_fields_that_come_again_are_joined(maker: EnvironMaker) -> None:
    lines = [(b"accept", b"a"), (b"cookie", b"c=1"), (b"accept", b"b"), (b"cookie", b"d=2"), (b"x_y", b"z")]
    for _ in range(2):
        environ = make(maker, scope(lines))
        assert (environ["HTTP_ACCEPT"], environ["HTTP_COOKIE"]) == ("a,b", "c=1; d=2")
        assert not any("X_Y" in key for key in environ)
        assert environ["wsgi.version"] == (1, 0)


@pytest.mark.parametrize("names", [(b"x_a", b"x_b"), (b"x_a", b"x_a")])
def test_several_fields_with_underscores_are_dropped(maker: EnvironMaker, names: tuple[bytes, bytes]) -> None:
    for _ in range(2):
        environ = make(maker, scope([(names[0], b"1"), (b"accept", b"a"), (names[1], b"2")]))
        assert environ["HTTP_ACCEPT"] == "a"
        assert environ["wsgi.version"] == (1, 0)
        assert not any(key.startswith("HTTP_X") for key in environ)


@pytest.mark.parametrize("size", [0, 12])
def test_a_collected_content_has_a_length(maker: EnvironMaker, size: int) -> None:
    for _ in range(2):
        environ = make(maker, scope([(b"transfer-encoding", b"chunked")]), size)
        assert environ["CONTENT_LENGTH"] == str(size)
        assert "HTTP_TRANSFER_ENCODING" not in environ


def test_https(maker: EnvironMaker) -> None:
    environ = make(maker, scope(scheme="https", server=("/run/s", None)))
    assert (environ["HTTPS"], environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("on", "https", "443")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", "/"),
        (b"//a//", "//a//"),
        (b"/a%20b", "/a b"),
        (b"/%C3%BC/x", "/\xc3\xbc/x"),
        (b"/%ff", "/\xff"),
        (b"/a%2Fb", "/a/b"),
        (b"/http://a/b", "/http://a/b"),
        (b"http://example.org", "/"),
        (b"http://example.org/", "/"),
        (b"HTTPS://example.org:1//a%20b", "//a b"),
        (b"*", ""),
    ],
)
def test_path_info(path: bytes, expected: str) -> None:
    assert path_info(path) == expected
