"""The access log of a whole service: every request has its one line, whatever becomes of files and workers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import APP, PATIENCE, Server, read_all

Start = Callable[..., Server]

FILTERING = (
    APP
    + """
import logging, logging.config

class NoHealth(logging.Filter):
    def filter(self, record):
        return record.args[2] != "/health"

class ToFile(logging.Handler):
    def emit(self, record):
        with open("theirs.log", "a") as file:
            file.write(f"{record.method} {record.target} {record.status} {record.request_id} {record.duration < 60}\\n")

def with_handler():
    logging.getLogger("palfrey.access").addHandler(ToFile())
    return app

def with_filter():
    logging.getLogger("palfrey.access").addFilter(NoHealth())
    return app

def with_dict_config():
    logging.config.dictConfig({"version": 1})
    return app
"""
)


class Askers:
    """Threads that ask for one path after another, each once, over connections of their own."""

    def __init__(self, port: int, threads: int = 4) -> None:
        self.asked: list[str] = []
        """Paths that were answered."""
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)) as client:
                for _ in range(50):
                    path = f"/{number}/{turn}"
                    turn += 1
                    client.request("GET", path)
                    response = client.getresponse()
                    response.read()
                    self.asked.append(path)
                    if response.will_close or self._over.is_set():
                        break

    def wait_for(self, count: int) -> None:
        """Until so many more requests are answered."""
        target = len(self.asked) + count
        deadline = time.monotonic() + PATIENCE
        while len(self.asked) < target:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def filtering(site: Path) -> Iterator[Path]:
    (site / "main.py").write_text(FILTERING)
    return site


def get(port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request("GET", path, headers=headers)
        response = client.getresponse()
        response.read()
        return response


def end(server: Server, number: int = signal.SIGTERM) -> None:
    server.signal(number)
    server.wait()


def test_rotation_and_reload_under_load_lose_no_line(serve: Start, site: Path) -> None:
    server = serve("--access-logfile", "access.log", "--access-logformat", "%(U)s")
    with Askers(server.port) as askers:
        for turn in range(1, 6):
            askers.wait_for(100)
            (site / "access.log").rename(site / f"access.log.{turn}")
            askers.wait_for(20)  # these are in the old file, under its new name
            server.signal(signal.SIGUSR1)
            server.wait_for("Log files opened anew")
            if turn == 3:
                server.signal(signal.SIGHUP)
                server.wait_for_ready(2, 2)
    end(server)
    files = sorted(site.glob("access.log*"))
    assert len(files) == 6
    lines = Counter(line for file in files for line in file.read_text().splitlines())
    assert lines == Counter(askers.asked)
    assert len(lines) > 500


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("destination", ["file", "pipe"])
def test_what_was_just_logged_survives_the_end(serve: Start, site: Path, number: int, destination: str) -> None:
    where = ("--access-logfile", "access.log") if destination == "file" else ()
    server = serve(*where, "--access-logformat", "line %(U)s")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as client:
        for turn in range(200):
            client.request("GET", f"/{turn}")
            client.getresponse().read()
    end(server, number)
    text = (site / "access.log").read_text() if destination == "file" else server.output
    assert re.findall(r"^line /(\d+)$", text, re.MULTILINE) == [str(turn) for turn in range(200)]


def test_json_is_valid_whatever_was_sent(serve: Start, site: Path) -> None:
    arguments = ("--access-logfile", "access.log", "--access-logformat", "json", "--request-id", "X-Request-ID")
    server = serve(*arguments, workers=1)
    head = (
        b'GET /a"\\%00{}?q=\'" HTTP/1.1\r\nHost: a\r\nUser-Agent: "},\x80\xff\t\xc3\xa9\\\r\nConnection: close\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(head)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    told = get(server.port, "/", **{"X-Request-ID": "from-a-proxy"}).getheader("x-request-id")
    assert told == "from-a-proxy"
    end(server)
    first, second = (json.loads(line) for line in (site / "access.log").read_text().splitlines())
    assert first["target"] == '/a"\\%00{}?q=\'"'
    assert first["user_agent"] == '"},\\x80\\xff\té\\'
    assert f"x-request-id: {first['request_id']}\r\n".encode() in answer
    assert second["request_id"] == "from-a-proxy"
    assert (second["status"], second["bytes"] > 0, 0 <= second["duration"] < PATIENCE) == (200, True, True)


class TestApplications:
    """What an application does to "palfrey.access" while it is imported."""

    def test_a_filter(self, serve: Start, filtering: Path) -> None:
        server = serve("--factory", "--access-logfile", "access.log", app="main:with_filter", workers=1)
        for path in ("/health", "/a", "/health", "/b"):
            get(server.port, path)
        end(server)
        text = (filtering / "access.log").read_text()
        assert re.findall(r'^INFO:     127\.0\.0\.1:\d+ - "GET (\S+) HTTP/1\.1" 200 OK$', text, re.MULTILINE) == [
            "/a",
            "/b",
        ]
        assert len(text.splitlines()) == 2

    def test_a_handler(self, serve: Start, filtering: Path) -> None:
        arguments = ("--factory", "--access-logfile", "access.log", "--request-id", "x-request-id")
        server = serve(*arguments, app="main:with_handler", workers=1)
        get(server.port, "/a", **{"x-request-id": "abc"})
        end(server)
        assert (filtering / "theirs.log").read_text() == "GET /a 200 abc True\n"
        assert (filtering / "access.log").read_text() == ""

    def test_a_dict_config_that_disables_every_logger(self, serve: Start, filtering: Path) -> None:
        server = serve("--factory", "--log-level", "debug", app="main:with_dict_config", workers=1)
        server.get("/a")
        server.wait_for('"GET /a HTTP/1.1" 200')
        for worker in server.workers():
            os.kill(worker, signal.SIGTERM)
        server.wait_for(r"\[worker 1 \d+\] SIGTERM received")


def test_a_format_that_is_none_is_refused_at_the_start_and_at_a_reload(start: Start, site: Path) -> None:
    (site / "palfrey.conf.py").write_text("access_log_format = 'combined'\n")
    server = start("--workers", "1")
    server.wait_for_ready(1)
    (site / "palfrey.conf.py").write_text("access_log_format = 'jason'\n")
    server.signal(signal.SIGHUP)
    server.wait_for("there is no format 'jason'; known are uvicorn, combined, json")
    server.get("/still")
    server.wait_for(r'^127\.0\.0\.1 - - \[.*\] "GET /still HTTP/1\.1" 200 \d+ "-" "-"$')
    end(server)
    server = start("--workers", "1")
    assert server.wait() == 1
    assert "access_log_format: there is no format 'jason'" in server.output
