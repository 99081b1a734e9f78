"""`drain_delay`: a service that was told to end says so, and serves new connections until its balancer has heard."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Server
from tests.support.servicemanager import ServiceManager

LONG = "600"


@pytest.mark.parametrize(
    ("again", "how"), [(signal.SIGTERM, "finish what they have begun"), (signal.SIGQUIT, "end at once")]
)
def test_new_connections_are_served_until_it_is_told_again(serve: Callable[..., Server], again: int, how: str) -> None:
    server = serve("--drain-delay", LONG)
    workers = server.workers()
    server.signal(signal.SIGTERM)
    server.wait_for(r"Stopping \(SIGTERM\) in 600 s \(drain_delay\): not ready any more")
    assert int(server.get()[0]) in workers
    for ignored in (signal.SIGHUP, signal.SIGTTIN):
        server.signal(ignored)
    assert int(server.get()[0]) in workers
    server.signal(again)
    server.wait_for(f"Stopping .*; they {how}")
    assert server.wait() == 0
    assert "Reloading" not in server.output
    assert "Workers: 3" not in server.output


def test_it_ends_by_itself_when_the_delay_is_over(serve: Callable[..., Server]) -> None:
    server = serve("--drain-delay", "0.5")
    server.signal(signal.SIGTERM)
    server.wait_for(r"Stopping \(SIGTERM\) in 0.5 s")
    server.wait_for(r"Stopping \(drain_delay is over\): 2 workers; they finish what they have begun")
    assert server.wait() == 0


def test_a_worker_that_dies_meanwhile_is_replaced(serve: Callable[..., Server]) -> None:
    server = serve("--drain-delay", LONG, workers=1)
    server.signal(signal.SIGTERM)
    server.wait_for("not ready any more")
    with pytest.raises(ConnectionError):
        server.get("/exit")
    server.wait_for("is ready, generation 1")
    assert server.get()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
def test_systemd_is_told_at_once_and_asked_for_time(site: Path) -> None:
    with ServiceManager(site) as systemd:
        arguments = ("main:app", "--port", "0", "--drain-delay", LONG)
        with Server(*arguments, cwd=site, env=systemd.environment) as server:
            systemd.wait_for_state("active")
            server.wait_for_ready(1)
            systemd.stop()
            systemd.wait_for_state("deactivating")
            systemd.wait_for("EXTEND_TIMEOUT_USEC=")
            assert systemd.status.startswith(
                "Not ready any more, stopping soon; Generation 1 serves with 1 of 1 worker"
            )
            assert server.get()
            systemd.stop()
            systemd.wait_for_status("Stopping: ")
            assert server.wait() == 0
        assert systemd.state == "deactivating"
