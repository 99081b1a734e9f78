"""What handlers see, and what becomes of what they say."""

from __future__ import annotations

import copy
from http import HTTPStatus

import pytest

from palfrey.handler import Headers
from tests.support.handlers import GET, ask, raw, serving
from tests.support.inprocess import logged

# The request --------------------------------------------------------------------------------------------------------


def seen(send: bytes):
    """The request that a handler is given for these bytes."""
    found = []
    with serving(lambda request, response: found.append(request)) as server, raw(server) as client:
        assert client.request(send).status == 200
    return found[0]


def test_what_a_handler_sees():
    request = seen(
        b"POST /a/b%20c?name=J%C3%BCrgen&empty=&plus=1+1 HTTP/1.1\r\nHost: a\r\nX-Thing: one\r\n"
        b"Content-Length: 4\r\n\r\ndata"
    )
    assert request.method == "POST"
    assert request.path == ["a", "b c"]
    assert request.query == {"name": "Jürgen", "empty": "", "plus": "1 1"}
    assert request.query_string == "name=J%C3%BCrgen&empty=&plus=1+1"
    assert request.protocol == "HTTP/1.1"
    assert request.headers["x-thing"] == request.headers["X-THING"] == "one"
    assert request.data == b"data"
    assert request.client[0] == "127.0.0.1"
    assert repr(request) == "<Request POST /a/b c>"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", [""]),
        ("/a", ["a"]),
        ("/a/", ["a", ""]),
        ("//a", ["", "a"]),
        ("/a%2Fb/c", ["a/b", "c"]),
        ("/%E2%82%AC", ["€"]),
        ("/%FF", ["\N{REPLACEMENT CHARACTER}"]),
        ("/a?b/c", ["a"]),
        ("http://b/x/y", ["x", "y"]),
    ],
)
def test_the_path(target, path):
    assert seen(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).path == path


def test_a_request_for_the_server_itself():
    assert seen(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path == ["*"]


def test_repeated_names():
    request = seen(b"GET /?a=1&a=2 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nCookie: b=1\r\nx-a: 2\r\ncookie: c=2\r\n\r\n")
    assert request.query == {"a": "2"}
    assert request.headers["x-a"] == "1, 2"
    assert request.headers["cookie"] == "b=1; c=2"
    assert request.data == b""


def test_chunked_content_is_whole():
    request = seen(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert request.data == b"abcde"


# The response -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ("text ü", "text ü".encode()),
        (b"bytes", b"bytes"),
        (bytearray(b"more"), b"more"),
        (memoryview(b"view"), b"view"),
        ("", b""),
        (None, b""),
    ],
)
def test_content_and_its_length(data, body):
    def handler(request, response):
        response.data = data

    with serving(handler) as server:
        answer = ask(server)
        assert (answer.content, answer.headers["content-length"]) == (body, str(len(body)))
        assert answer.headers.get("content-type") == ("text/plain; charset=utf-8" if isinstance(data, str) else None)
        head = ask(server, method="HEAD")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(body)))


def test_status_and_headers():
    def handler(request, response):
        assert response.protocol == "HTTP/1.1"
        assert response.status == 200
        response.status = 404
        response.headers["Content-Type"] = "text/html"
        response.headers["content-type"] = "application/json"
        response.headers["Set-Cookie"] = ["a=1", "b=2"]
        response.headers["X-Number"] = 7
        response.data = "{}"

    with serving(handler) as server, raw(server) as client:
        answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 404
    assert answer.all("content-type") == ["application/json"]
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer["x-number"] == "7"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_content(status):
    def handler(request, response):
        response.status = status

    with serving(handler) as server, raw(server) as client:
        for _ in range(2):
            answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (answer.status, answer.framing) == (status, "none")
            assert "content-length" not in answer


@pytest.mark.parametrize("data", [3, {"a": 1}, [1, 2], object()], ids=["int", "dict", "list of int", "object"])
def test_what_cannot_be_sent(data):
    def handler(request, response):
        response.data = data

    with serving(handler) as server, logged() as records:
        assert ask(server).status_code == 500
    assert "response.data" in records.errors[0]


@pytest.mark.parametrize(("name", "value"), [("x-a", "1\r\nx-b: 2"), ("x-a", "€"), ("x a", "1")])
def test_headers_that_cannot_be_sent(name, value):
    def handler(request, response):
        response.headers[name] = value

    with serving(handler) as server, logged() as records:
        assert ask(server).status_code == 500
    assert len(records.errors) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("status", "200", "response.status is '200'"),
        ("status", 99, "response.status is 99"),
        ("status", True, "response.status is True"),
        ("status", None, "response.status is None"),
        ("headers", {"X-A": "€"}, "response.headers['X-A'] is '€'"),
        ("headers", {"X-A": None}, "response.headers['X-A'] is None"),
        ("headers", None, "NoneType"),
        ("body", b"", "'body'"),
    ],
)
def test_what_is_wrong_is_said(name, value, said):
    def handler(request, response):
        setattr(response, name, value)

    with serving(handler) as server, logged() as records:
        assert ask(server).status_code == 500
    (error,) = records.errors
    assert said in error


def test_kinds_of_status_and_headers():
    def handler(request, response):
        response.status = HTTPStatus.CREATED
        response.headers = {"Content-Type": "text/x", "X-Bytes": b"\xff", "X-Many": (1, "two")}
        response.data = "made"

    with serving(handler) as server, raw(server) as client:
        answer = client.request(GET)
        assert answer.status == 201
        assert answer.all("content-type") == ["text/x"]
        assert answer["x-bytes"] == "\xff"
        assert answer.all("x-many") == ["1", "two"]


@pytest.mark.parametrize("length", ["3", "5"])
def test_a_length_that_is_wrong(length):
    def handler(request, response):
        response.headers["Content-Length"] = length
        response.data = "four"

    with serving(handler) as server, logged() as records:
        assert ask(server).status_code == 500
    assert f"Content-Length is {length}" in records.errors[0]


def test_a_request_in_the_log_stays_in_its_line():
    assert repr(seen(b"GET /a%0AB/%C3%BC HTTP/1.1\r\nHost: a\r\n\r\n")) == r"<Request GET /a\nB/\xfc>"


def test_content_in_many_parts():
    parts = 5000
    with serving(lambda request, response: setattr(response, "data", request.data)) as server, raw(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(parts // 100):
            client.send(b"1\r\nx\r\n" * 100)
        client.send(b"0\r\n\r\n")
        assert client.response().body == b"x" * parts


# Headers ------------------------------------------------------------------------------------------------------------


def test_headers_are_a_dictionary_without_case():
    headers = Headers({"Content-Type": "a"})
    headers["content-type"] = "b"
    assert headers["CONTENT-TYPE"] == headers.get("Content-type") == "b"
    assert dict(headers) == {"Content-Type": "b"}
    assert "content-TYPE" in headers
    assert 3 not in headers
    assert headers == Headers([("Content-Type", "b")])
    assert repr(headers) == "Headers({'Content-Type': 'b'})"
    for other in (headers.copy(), copy.copy(headers)):
        other["Content-Type"] = "c"
        assert (other["content-type"], headers["content-type"]) == ("c", "b")
    del headers["content-type"]
    assert len(headers) == 0
    with pytest.raises(KeyError):
        headers["content-type"]
