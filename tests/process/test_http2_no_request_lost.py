"""The first promise, over HTTP/2: whatever a worker ends for, each request is answered once, by one process.

tests/support/http2load.py asks as a client of RFC 9113 does, and accounts for it; h2load stays on its connections, and
all that it had in flight has to be answered.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.process.conftest import Start
from tests.process.test_upgrade import upgrade
from tests.support.http2load import APP, Http2Load
from tests.support.http2site import APP as SITE
from tests.support.http2site import NAME, SIZE, TRUST, flags, needs, origin, outcome
from tests.support.loadclient import Options
from tests.support.loadthread import BackgroundLoad
from tests.support.processes import PATIENCE, Server

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
WAYS = ["clear", "tls"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "counted.py").write_text(APP)
    (tmp_path / "begun").touch()
    return tmp_path


def serving(start: Start, site: Path, way: str, *arguments: str, workers: int = 2) -> Server:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    server = start(
        *("--workers", str(workers), "--no-access-log", *flags(site, way), *arguments),
        app="counted:app",
        env={"PYTHONPATH": path},
    )
    server.wait_for_ready(workers)
    return server


def loading(server: Server, way: str, **options: int) -> Http2Load:
    context = None
    if way == "tls":
        context = ssl.create_default_context()
        TRUST.configure_trust(context)
        context.set_alpn_protocols(["h2"])
    return Http2Load(server.port, tls=context, name=NAME if way == "tls" else "", **options)


def check(load: Http2Load, server: Server, site: Path) -> None:
    print(load)
    load.check((site / "begun").read_text())
    assert "Cut short" not in server.output
    assert "ERROR" not in server.output


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_reloads(start: Start, site: Path, way: str, loop: str) -> None:
    server = serving(start, site, way, "--loop", loop)
    with loading(server, way) as load:
        load.wait_for_answers(1)
        for generation in range(2, 8):
            server.signal(signal.SIGHUP)
            server.wait_for_ready(2, generation)
            load.wait_for_answers(generation)
        load.stop()
    check(load, server, site)
    assert set(load.generations) == {str(generation) for generation in range(1, 8)}
    assert load.goaways >= 6 * 8


def test_workers_come_and_go(start: Start, site: Path) -> None:
    server = serving(start, site, "clear")
    with loading(server, "clear") as load:
        load.wait_for_answers(1)
        for _ in range(3):
            server.signal(signal.SIGTTIN)
            server.wait_for(r"Worker 3 \(\d+\) is ready")
            load.wait_for_answers(1)
            server.signal(signal.SIGTTOU)
            server.wait_for(r"Worker 3 \(\d+\) .*retires")
            load.wait_for_answers(1)
        load.stop()
    check(load, server, site)


def test_recycling_by_requests(start: Start, site: Path) -> None:
    server = serving(start, site, "clear", "--max-requests", "150", "--max-requests-jitter", "50")
    with loading(server, "clear") as load:
        for _ in range(5):
            tired = server.wait_for(r"\((\d+)\) asks to be replaced: it has served (\d+)")[1]
            server.wait_for(rf"\({tired}\) has its successor: retires")
        load.stop()
    check(load, server, site)
    assert len(load.pids) >= 5


def test_connections_of_so_many_requests(start: Start, site: Path) -> None:
    server = serving(start, site, "clear", "--limit-connection-requests", "20")
    with loading(server, "clear") as load:
        load.wait_for_answers(1, 800)
        load.stop()
    check(load, server, site)
    assert load.made > 20


def test_idle_connections_end_in_order(start: Start, site: Path) -> None:
    """The users' thinking goes on for as long as `timeout_keep_alive`, or longer."""
    server = serving(start, site, "clear", "--timeout-keep-alive", "1")
    with loading(server, "clear", connections=30, users=1, late=10, pause=1.5) as load:
        load.wait_for(lambda: load.goaways > 60)
        load.stop()
    check(load, server, site)


def test_a_killed_worker_costs_what_it_held(start: Start, site: Path) -> None:
    server = serving(start, site, "clear")
    with loading(server, "clear") as load:
        for _ in range(3):
            load.wait_for_answers(1)
            victim = server.workers()[0]
            assert load.graves.bury(victim)
            os.kill(victim, signal.SIGKILL)
            server.wait_for(rf"\({victim}\) .*(killed|SIGKILL)")
            server.wait_for(r"Worker \d \(\d+\) is ready")
        load.wait_for_answers(1)
        load.stop()
    assert not load.failures, str(load)
    print(load)
    assert load.killed
    begun = (site / "begun").read_text().split()
    assert len(begun) == len(set(begun))


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_the_service(start: Start, site: Path, way: str) -> None:
    """What is in flight is answered; then the connection is refused."""
    server = serving(start, site, way)
    with loading(server, way) as load:
        load.wait_for_answers(1, 200)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        load.wait_for(lambda: load.refused > 0)
        load.stop()
    check(load, server, site)


def test_an_upgrade(start: Start, site: Path) -> None:
    server = serving(start, site, "clear")
    with loading(server, "clear") as load:
        load.wait_for_answers(1)
        upgrade(server)
        load.wait_for_answers(2)
        load.stop()
    check(load, server, site)
    assert set(load.generations) == {"1", "2"}


@needs("h2load", "nghttp2-client")
@pytest.mark.parametrize("way", WAYS)
def test_h2load_during_a_reload(start: Start, site: Path, way: str) -> None:
    """It makes no second connection, so it cannot ask on; what it has asked is answered."""
    server = serving(start, site, way)
    url = f"{'https' if way == 'tls' else 'http'}://127.0.0.1:{server.port}/id"
    load = subprocess.Popen(
        ["h2load", "-n1000000", "-c8", "-m16", "-H", "x-request-id: h2load", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=site,
    )
    try:
        begun = site / "begun"
        while begun.stat().st_size < 2000 * len("h2load\n"):
            assert load.poll() is None
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, 2)
        text = load.communicate(timeout=PATIENCE)[0].decode("latin-1")
    finally:
        load.kill()
        load.wait()
    counts = outcome(text)
    executed = len(begun.read_text().split())
    print(counts, executed)
    assert counts["succeeded"] == executed > 2000
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    assert codes is not None
    assert [int(each) for each in codes.groups()] == [executed, 0, 0, 0]
    # It counts as started what libnghttp2 does not send behind GOAWAY: one for each of the 16 that are answered.
    assert counts["started"] - executed <= 8 * 16


def test_clients_of_http1_beside_those_of_http2(start: Start, site: Path) -> None:
    server = serving(start, site, "clear", "--timeout-keep-alive", "1")
    with BackgroundLoad(Options(port=server.port, clients=16, keep_alive=1.0, brisk=0.8, seconds=120)) as others:
        with loading(server, "clear", connections=4) as load:
            for generation in range(1, 5):
                if generation > 1:
                    server.signal(signal.SIGHUP)
                    server.wait_for_ready(2, generation)
                load.wait_for_answers(generation)
                seen, name = others.result.generations, str(generation)
                assert others.result.wait_for(lambda seen=seen, name=name: name in seen, PATIENCE), str(others.result)
            load.stop()
        result = others.stop()
    assert result.clean, f"{result}\n{server.output}"
    assert not load.failures, str(load)
    assert "Cut short" not in server.output


@needs("curl")
@pytest.mark.parametrize("way", WAYS)
def test_a_reload_in_the_middle_of_large_transfers(start: Start, site: Path, way: str) -> None:
    """curl's, which take a few seconds."""
    (site / "main.py").write_text(SITE)
    (site / "large").write_bytes(bytes(range(256)) * (SIZE // 256))
    server = start("--workers", "2", *flags(site, way))
    server.wait_for_ready(2)
    how = ("--http2", "--cacert", "ca.pem", "--resolve", f"{NAME}:{server.port}:127.0.0.1")
    command = ["curl", "-sS", "--limit-rate", "4M", *(how if way == "tls" else ("--http2-prior-knowledge",))]
    transfers = [
        [*command, "--output", "down", "--write-out", "%{http_code}", f"{origin(server, way)}/download?{SIZE}"],
        [
            *command,
            "--upload-file",
            "large",
            "--output",
            "up",
            "--write-out",
            "%{http_code}",
            origin(server, way) + "/echo",
        ],
    ]
    running = [subprocess.Popen(each, cwd=site, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for each in transfers]
    try:
        for name in ("down", "up"):
            while not (site / name).exists() or not (site / name).stat().st_size:
                assert all(each.poll() is None for each in running)
        before = server.workers()
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, 2)
        for each in running:
            assert each.communicate(timeout=PATIENCE)[0] == b"200"
        server.wait_for_ends(before)
    finally:
        for each in running:
            each.kill()
            each.wait()
    for name in ("down", "up"):
        assert (site / name).read_bytes() == (site / "large").read_bytes()
    assert "Cut short" not in server.output
