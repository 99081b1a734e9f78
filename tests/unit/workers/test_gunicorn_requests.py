"""Gunicorn's hooks around requests of a WSGI application."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from palfrey.workers.gunicorn_requests import hooked_wsgi


class Worker:
    """Notes what its hooks are called with."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.log = None
        self.cfg = SimpleNamespace(pre_request=self._before, post_request=self._after)

    def _before(self, _worker: Any, _request: Any) -> None:
        self.told.append(("before", 0, 0))

    def _after(self, _worker: Any, _request: Any, _environ: Any, response: Any) -> None:
        self.told.append(("after", response.status_code, response.sent))


ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "RAW_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1"}


def start_response(_status, _headers, _exc_info=None):
    return lambda data: None


def test_an_application_that_raises_has_its_end_told():
    worker = Worker()

    def app(environ, start_response):
        raise KeyError("it")

    with pytest.raises(KeyError):
        hooked_wsgi(app, worker)(dict(ENVIRON), start_response)
    assert [what for what, _, _ in worker.told] == ["before", "after"]


def test_all_that_is_sent_is_counted_and_exc_info_has_a_name():
    worker = Worker()

    def app(environ, start_response):
        start_response("200 OK", [])
        write = start_response("500 Oops", [], exc_info=None)
        write(b"ab")
        return [b"cde"]

    result = hooked_wsgi(app, worker)(dict(ENVIRON), start_response)
    assert list(result) == [b"cde"]
    result.close()
    assert worker.told == [("before", 0, 0), ("after", 500, 5)]
