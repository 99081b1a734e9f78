"""WSGI and the wire: the request's target as it came, and the status line as the application says it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.inprocess import PATIENCE, logged, serving

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
PREFIX = ("x-forwarded-prefix",)


def said(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    keys = ("REQUEST_URI", "RAW_URI", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")
    return ["\n".join(environ[key] for key in keys).encode("latin-1")]


@pytest.fixture(params=[0, 2], ids=["on the loop", "in threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


TARGETS = [
    # root_path, X-Forwarded-Prefix, target -> SCRIPT_NAME, PATH_INFO, QUERY_STRING
    ("", "", "/", "", "/", ""),
    ("", "", "/?", "", "/", ""),
    ("", "", "/a%20b%2Fc/%FF;x=1?q=%20&r??", "", "/a b/c/\xff;x=1", "q=%20&r??"),
    ("", "", "//a//b?c", "", "//a//b", "c"),
    ("", "", "*", "", "", ""),
    ("", "", "http://other.example", "", "/", ""),
    ("", "", "http://other.example?a", "", "/", "a"),
    ("", "", "HTTP://other.example:80//a%20b?c=http://d/e", "", "//a b", "c=http://d/e"),
    ("/é", "", "/é%20".replace("é", "%C3%A9"), "/\xc3\xa9", "/\xc3\xa9 ", ""),
    ("/a%20b", "", "/x?y", "/a%20b", "/x", "y"),
    ("/r", "", "/r/a", "/r", "/r/a", ""),
    ("/r", "", "*", "/r", "", ""),
    ("/r", "", "http://other.example/a", "/r", "/a", ""),
    ("", "/shop%20", "/a?b", "/shop ", "/a", "b"),
    ("/r", "/shop", "/r/a?b", "/shop", "/r/a", "b"),
]


@pytest.mark.parametrize(("root_path", "prefix", "target", "script", "path", "query"), TARGETS)
def test_the_target_as_it_came(
    threads: int, root_path: str, prefix: str, target: str, script: str, path: str, query: str
) -> None:
    method = "OPTIONS" if target == "*" else "GET"
    field = f"X-Forwarded-Prefix: {prefix}\r\n" if prefix else ""
    request = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n".encode()
    settings: Any = {"interface": "wsgi", "threads": threads, "root_path": root_path, "forwarded_fields": PREFIX}
    with serving(said, **settings) as server, server.client() as client:
        for _ in range(3):
            answer = client.request(request, method)
            assert answer.body.decode("latin-1").split("\n") == [target, target, script, path, query]


@pytest.mark.parametrize("target", ["/", "/?", "/a%20b?c", "//a"])
def test_the_target_as_it_came_over_http2(threads: int, target: str) -> None:
    with serving(said, interface="wsgi", threads=threads, root_path="/r", http="h2") as server:
        host, port = server.address
        url = httpx.URL(scheme="http", host=str(host), port=int(port), raw_path=target.encode())
        with httpx.Client(http1=False, http2=True, trust_env=False, timeout=PATIENCE) as client:
            for _ in range(3):
                text = client.get(url).text.split("\n")
                assert text[:3] == [target, target, "/r"]


def saying(status: Any) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [("X-A", "b")])
        return [b"c"] if environ["PATH_INFO"] == "/" else iter([b"c", b"d"])

    return app


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("200 OK", "OK"),
        ("200", "OK"),
        ("200 ", "OK"),
        ("404 Not Found", "Not Found"),
        ("404 Gone Fishing", "Gone Fishing"),
        ("404 NOT FOUND", "NOT FOUND"),
        ("299 So So", "So So"),
        ("299", ""),
        ("999 [it's] <fine>", "[it's] <fine>"),
    ],
)
def test_the_reason_phrase_is_the_applications(threads: int, status: str, reason: str) -> None:
    with serving(saying(status), interface="wsgi", threads=threads) as server, server.client() as client:
        for request in (GET, GET, GET.replace(b"/ ", b"/parts ", 1), GET.replace(b"1.1", b"1.0")):
            answer = client.request(request)
            assert (answer.status, answer.reason, answer["x-a"]) == (int(status[:3]), reason, "b")
            assert answer.body in (b"c", b"cd")


def test_http2_has_no_reason_phrase(threads: int) -> None:
    with serving(saying("404 Gone Fishing"), interface="wsgi", threads=threads, http="h2") as server:
        host, port = server.address
        with httpx.Client(http1=False, http2=True, trust_env=False, timeout=PATIENCE) as client:
            for path in ("", "parts") * 2:
                answer = client.get(f"http://{host}:{port}/{path}")
                assert (answer.status_code, answer.headers["x-a"]) == (404, "b")
                assert not any(":" in name for name in answer.headers)


@pytest.mark.parametrize(
    "status", ["200 OK\r\nX-B: c", "200 OK\n", "200 O\x00K", "200 O\x7fK", "200 O\tK", "200 \u20ac"]
)
def test_a_status_line_of_more_than_one_line_is_a_500(threads: int, status: str) -> None:
    with (
        serving(saying(status), interface="wsgi", threads=threads) as server,
        server.client() as client,
        logged() as log,
    ):
        answer = client.request(GET)
    assert (answer.status, answer.reason, "x-b" in answer) == (500, "Internal Server Error", False)
    assert "is no status" in log.errors[0]


def test_a_failure_has_the_usual_phrase(threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("404 Gone Fishing", [])
        raise ValueError("as asked")

    with serving(app, interface="wsgi", threads=threads) as server, server.client() as client:
        assert client.request(GET).reason == "Internal Server Error"
