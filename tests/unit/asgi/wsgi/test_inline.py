"""What an application that runs on the loop has begun is ended, whatever becomes of its task."""

from __future__ import annotations

from typing import Any

import pytest

from palfrey.asgi.wsgi import WsgiApp
from tests.support.driven import Driven
from tests.support.inprocess import logged, looped

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Parts:
    """A result that notes its end."""

    def __init__(self, errors: Any) -> None:
        self.errors = errors
        self.closed = 0

    def __iter__(self) -> Parts:
        return self

    def __next__(self) -> bytes:
        return b"part"

    def close(self) -> None:
        self.closed += 1
        self.errors.write("closed")


@pytest.mark.parametrize("turns", [0, 1, 2])
@looped
async def test_a_result_is_closed_though_its_task_is_cancelled_before_it_begins(turns: int) -> None:
    made: list[Parts] = []

    def app(environ: dict[str, Any], start_response: Any) -> Parts:
        start_response("200 OK", [])(b"written")
        made.append(Parts(environ["wsgi.errors"]))
        return made[0]

    served = WsgiApp(app, 0, False)
    served.pool.open()
    driven = Driven(served)
    with logged() as log:
        driven.feed(GET)
        (exchange,) = driven.service.running
        assert exchange.task is not None
        await driven.settle(turns)
        exchange.disconnect()
        exchange.task.cancel()
        await driven.until(lambda: not driven.service.running)
        await driven.settle()
    assert made[0].closed == 1
    assert log.errors == [f"{exchange.describe()}: closed"]
