"""Handlers behind `palfrey.handler.HttpServer`, and clients of theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx

from palfrey.handler import HttpServer, Request, Response
from tests.support.inprocess import PATIENCE
from tests.support.rawhttp import Client

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def serving(handler: Callable[..., object], *args: Any, **settings: Any) -> HttpServer:
    return HttpServer(0, handler, args, block=False, **settings)


def ask(server: HttpServer, path: str = "/", method: str = "GET", **more: Any) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        return client.request(method, server.url + path, **more)


def raw(server: HttpServer, receive_buffer: int = 0) -> Client:
    return Client.connect(("127.0.0.1", server.port), receive_buffer)


def many(server: HttpServer, count: int, path: str = "/") -> list[str]:
    """The texts of as many answers, asked for at once."""
    found = []

    def one() -> None:
        found.append(ask(server, path).text)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def hello(request: Request, response: Response) -> None:
    response.data = "hello"
