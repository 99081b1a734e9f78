"""The settings as an engine's limits."""

from palfrey.config.settings import Settings
from palfrey.protocols.websocket.deflate import Terms
from palfrey.protocols.websocket.limits import limits

NEVER = float("inf")


def test_defaults():
    found = limits(Settings())
    assert found.offered
    assert (found.max_size, found.max_frames, found.max_queue) == (1 << 24, 131072, 32)
    assert (found.ping_interval, found.ping_timeout, found.idle, found.interval) == (20, 20, 0, 20)
    assert found.deflate == Terms(12, 12, True, True)


def test_everything_off():
    found = limits(
        Settings(ws="none", ws_ping_interval=0, ws_ping_timeout=0, ws_per_message_deflate=False, ws_max_size=0)
    )
    assert not found.offered
    assert found.deflate is None
    assert (found.ping_timeout, found.interval) == (NEVER, NEVER)
