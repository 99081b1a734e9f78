"""The terms of HTTP/2, as the settings have them."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from palfrey.config.settings import ROWS, Settings
from palfrey.observe.access import AccessLog
from palfrey.protocols.http2.limits import Http2Limits, limits
from palfrey.protocols.service import Service
from tests.support.inprocess import echo, looped


@pytest.mark.parametrize("http", ["auto", "httptools", "h11"])
def test_none_where_http1_alone_is_spoken(http: str) -> None:
    assert limits(Settings(http=http)) is None


def test_defaults() -> None:
    assert limits(Settings(http="h2")) == Http2Limits(
        max_concurrent_streams=100,
        stream_window=262144,
        connection_window=1048576,
        max_frame_size=16384,
        max_resets=500,
        max_control_frames=2000,
        max_continuations=32,
    )


def test_each_setting_has_its_place() -> None:
    """Seven settings, seven values: none of them is read twice or left out."""
    names = [name for name in ROWS if name.startswith("http2_")]
    values = {name: 100_000 + number for number, name in enumerate(names)}
    found = limits(Settings(http="h2", **values))  # type: ignore[arg-type]
    assert found is not None
    assert list(dataclasses.astuple(found)) == list(values.values())


@looped
async def test_a_worker_has_them_once() -> None:
    for settings in (Settings(), Settings(http="h2")):
        service = Service(settings, echo, asyncio.get_running_loop(), AccessLog.off(), {}, None)
        assert service.http2 == limits(settings)
