"""The code of docs/toolkit.md, run as it stands there: a server of its own, asked through a socket."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawhttp import Client

PAGE = Path(__file__).resolve().parents[3] / "docs" / "toolkit.md"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def server() -> dict[str, Any]:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.fixture
def client(server: dict[str, Any]) -> Iterator[Client]:
    ours, theirs = socket.socketpair()
    failed = []

    def serve() -> None:
        with theirs:
            try:
                server["serve"](theirs)
            except Exception as error:
                failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with Client(ours) as connected:
        yield connected
    thread.join()
    assert not failed


def test_one_request_after_the_other(client: Client) -> None:
    client.send(HEAD + b"Content-Length: 5\r\n\r\nhello" + HEAD + b"\r\n")
    answers = [client.response(), client.response()]
    assert [answer.body for answer in answers] == [b"You sent 5 bytes.\n", b"You sent 0 bytes.\n"]
    assert {answer.framing for answer in answers} == {"chunked"}
    assert answers[0]["server"] == "mine"
    client.half_close()
    client.expect_end()


def test_content_that_is_waited_for(client: Client) -> None:
    client.send(HEAD + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
    assert client.head() == b"HTTP/1.1 100 Continue"
    client.send(b"3\r\nabc\r\n")
    assert client.request(b"2\r\nde\r\n0\r\n\r\n").body == b"You sent 5 bytes.\n"


def test_head(client: Client) -> None:
    assert client.request(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD").body == b""
    assert client.request(HEAD + b"Connection: close\r\n\r\n").closes
    client.expect_end()


def test_old_clients(client: Client) -> None:
    answer = client.request(b"GET / HTTP/1.0\r\n\r\n")
    assert (answer.framing, answer.body) == ("close", b"You sent 0 bytes.\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD + b"Content-Length: 20000000\r\n\r\n" + b"a" * 100000, 413),
        (b"GET /" + b"a" * 4096, 414),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (HEAD + b"Content-Length: 5\r\n\r\nhell", 400),
    ],
)
def test_refusals(client: Client, sent: bytes, status: int) -> None:
    client.send(sent)
    client.half_close()
    answer = client.response()
    assert answer.status == status
    assert answer.closes
    client.expect_end()
