"""The fixture `palfrey_server`, for every pytest where Palfrey is installed. It costs nothing until it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from palfrey.testing import LiveServer


@pytest.fixture
def palfrey_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., LiveServer]]:
    """`palfrey_server(app, **settings)` serves an application until the test ends; see `palfrey.testing`."""
    from palfrey.testing import serve

    failed = request.session.testsfailed

    def stop(server: LiveServer) -> None:
        server.stop(at_once=request.session.testsfailed > failed)

    with ExitStack() as stack:

        def start(app: Any, **settings: Any) -> LiveServer:
            server = serve(app, **settings).start()
            stack.callback(stop, server)
            return server

        yield start
