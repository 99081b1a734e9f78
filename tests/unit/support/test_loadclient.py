"""The load client against a good server, uvicorn, and a server with one fault at a time: each must be noticed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.graves import Graves
from tests.support.loadapp import stream_lines
from tests.support.loadclient import DEFAULT_MIX, LoadClient, Options
from tests.support.loadresult import Behaviour, Outcome, Result
from tests.support.loadthread import BackgroundLoad

QUICK: dict[str, Any] = {
    "keep_alive": 0.02,
    "stream_seconds": 0.2,
    "trickle_seconds": 0.3,
    "timeout": 5.0,
    "clients": 4,
    "requests": 40,
}


@dataclass
class Asked:
    method: str
    path: str
    id: str
    body: bytes
    close: bool
    left: int
    """Pipelined requests already read behind it."""


class Server:
    """A small HTTP/1.1 server for the load client, with a fault of the named kind at every tenth request.

    A fault is a method `fault_<name>(asked, writer) -> bool`: whether the connection goes on.
    """

    def __init__(self, fault: str = "", every: int = 10) -> None:
        self.name = fault
        self.fault = getattr(self, f"fault_{fault}") if fault else None
        self.every = every
        self.count = 0
        self.faults = 0
        self.fifth = asyncio.Event()
        self.previous = "none"
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = True
        try:
            while (asked := await self.read(reader)) is not None:
                self.count += 1
                if self.count == 5:
                    self.fifth.set()
                faulty = self.fault is not None and self.count % self.every == 0
                if faulty and self.fault is not None and await self.applies(asked, first):
                    self.faults += 1
                    goes_on = await self.fault(asked, writer)
                else:
                    writer.write(self.answer(asked))
                    goes_on = not asked.close
                await writer.drain()
                self.previous, first = asked.id, False
                if not goes_on:
                    break
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def applies(self, asked: Asked, first: bool) -> bool:
        """Whether the fault makes sense here; else the next request gets it."""
        needs = {
            "late_drop": not first,
            "wrong_echo": asked.path == "/echo" and len(asked.body) > 0,
            "stream_line": asked.path.startswith("/stream"),
            "swap": asked.left > 0,
            "close_amid": asked.left > 0,
            "close_and_pass_over": asked.left > 0,
        }
        wanted = needs.get(self.name, True)
        if not wanted:
            self.count -= 1
        return wanted

    async def read(self, reader: asyncio.StreamReader) -> Asked | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        method, path, _ = head.split("\r\n")[0].split(" ")
        fields = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)}
        body = b""
        if fields.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            body = await reader.readexactly(int(fields.get("content-length", "0")))
        left = reader._buffer.count(b"\r\n\r\n")  # type: ignore[attr-defined]
        return Asked(method, path, fields["x-request-id"], body, fields.get("connection") == "close", left)

    def answer(self, asked: Asked, **changes: Any) -> bytes:
        """A right answer, or one with the id, body or further head lines changed."""
        name = changes.get("id", asked.id)
        facts = {"id": name, "pid": os.getpid(), "generation": "7"}
        if asked.path.startswith("/stream"):
            body = "".join(f"{name} {n}\n" for n in range(stream_lines(QUICK["stream_seconds"]))).encode()
        else:
            body = asked.body if asked.path == "/echo" else json.dumps(facts).encode()
        body = changes.get("body", body)
        lines = [
            f"HTTP/1.1 {changes.get('status', '200 OK')}",
            f"X-Request-Id: {name}",
            f"X-Pid: {changes.get('pid', os.getpid())}",
        ]
        lines += ["X-Generation: 7", f"Content-Length: {len(body)}", *changes.get("lines", [])]
        if asked.close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def fault_drop(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """Reads the request and closes, some time later."""
        await asyncio.sleep(0.1)
        return False

    fault_late_drop = fault_drop

    async def fault_cut(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked)[:-1])
        return False

    async def fault_cut_head(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked)[:20])
        return False

    async def fault_reset(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked)[:30])
        await writer.drain()
        writer.transport.abort()
        return False

    async def fault_duplicate(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked) * 2)
        return not asked.close

    async def fault_other_process(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """No fault behind a proxy."""
        writer.write(self.answer(asked, pid=1))
        return not asked.close

    async def fault_mix(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked, id=self.previous))
        return not asked.close

    async def fault_wrong_echo(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked, body=bytes([asked.body[0] ^ 1]) + asked.body[1:]))
        return not asked.close

    async def fault_stream_line(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked, body=f"{asked.id} 0\n{asked.id} 2\n".encode()))
        return not asked.close

    async def fault_swap(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """Leaves out one of several pipelined requests."""
        return True

    async def fault_status(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked, status="503 Service Unavailable"))
        return not asked.close

    async def fault_two_lengths(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked, lines=["Transfer-Encoding: chunked"]))
        return not asked.close

    async def fault_bare_lf(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked).replace(b"\r\n", b"\n", 1))
        return not asked.close

    async def fault_surplus(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(self.answer(asked, lines=["Connection: close"]) + b"HTTP/1.1 200 OK\r\n")
        return False

    async def fault_hang(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(3600)
        return False

    async def fault_close_after_answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """No fault: what a server does when its keep-alive timeout is over at once."""
        writer.write(self.answer(asked))
        return False

    fault_close_amid = fault_close_after_answer

    async def fault_close_and_pass_over(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """No fault: draining, with the close announced."""
        writer.write(self.answer(asked, lines=["Connection: close"]))
        await writer.drain()
        writer.write_eof()
        await asyncio.sleep(0.01)
        return False


def load(fault: str = "", mix: tuple[Behaviour, ...] = DEFAULT_MIX, **options: Any) -> tuple[Result, Server]:
    async def run() -> tuple[Result, Server]:
        async with Server(fault).running() as server:
            client = LoadClient(Options(port=server.port, mix=mix, **{**QUICK, **options}))
            return await client.run(), server

    return asyncio.run(run())


def test_a_good_server_is_clean() -> None:
    result, server = load(clients=16, requests=200)
    assert result.clean, str(result)
    assert result.issued >= 200
    assert result.count(Outcome.OK) == result.issued == server.count
    assert {behaviour for behaviour, _ in result.outcomes} == set(DEFAULT_MIX)
    assert set(result.generations) == {"7"}
    assert set(result.pids) == {os.getpid()}
    assert 0 < result.latency(50) <= result.latency(99) <= result.latency(100)
    assert "clean" in str(result)
    json.dumps(result.as_dict())


@pytest.mark.parametrize("behaviour", Behaviour)
def test_each_behaviour_alone(behaviour: Behaviour) -> None:
    result, _ = load(mix=(behaviour,))
    assert result.clean, str(result)
    assert result.count(Outcome.OK, behaviour) == result.issued >= 40


@pytest.mark.parametrize(
    ("fault", "behaviour", "outcome", "detail"),
    [
        ("drop", Behaviour.FRESH, Outcome.LOST, "on a new connection, not a byte"),
        ("late_drop", Behaviour.GET, Outcome.LOST, "of rest, not a byte"),
        ("cut", Behaviour.GET, Outcome.LOST, "a part"),
        ("cut_head", Behaviour.ECHO, Outcome.LOST, "a part"),
        ("reset", Behaviour.STREAM, Outcome.LOST, "a part"),
        ("mix", Behaviour.GET, Outcome.MIXED, "answered with the id"),
        ("wrong_echo", Behaviour.ECHO, Outcome.MIXED, "came back as"),
        ("stream_line", Behaviour.STREAM, Outcome.MIXED, "line 1 of the stream is"),
        ("swap", Behaviour.PIPELINE, Outcome.MIXED, "answered with the id"),
        ("status", Behaviour.FRESH, Outcome.STATUS, "503"),
        ("two_lengths", Behaviour.GET, Outcome.MIXED, "Content-Length beside Transfer-Encoding"),
        ("bare_lf", Behaviour.HALF_CLOSE, Outcome.MIXED, "bare LF"),
        ("hang", Behaviour.GET, Outcome.TIMEOUT, "0 bytes had come"),
    ],
)
def test_each_fault_is_noticed(
    fault: str, behaviour: Behaviour, outcome: Outcome, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadClient, "lateness", lambda *_: 0.0)  # or a busy machine would have faults be races
    options = {"timeout": {"hang": 1.0, "swap": 0.2}[fault]} if fault in {"hang", "swap"} else {}
    result, server = load(fault, (behaviour,), race_window=0.05, **options)
    assert server.faults
    assert not result.clean
    assert not result.unaccounted
    assert result.count(outcome) >= 1, str(result)
    assert any(detail in failure.detail for failure in result.failures), str(result)
    if behaviour is not Behaviour.PIPELINE:
        assert result.count(outcome) == result.failed == server.faults, str(result)


@pytest.mark.parametrize(
    ("fault", "behaviour", "detail"),
    [
        ("duplicate", Behaviour.GET, "bytes that nobody asked for"),
        ("duplicate", Behaviour.FRESH, "bytes after the last answer"),
        ("surplus", Behaviour.ECHO, "bytes after the last answer"),
    ],
)
def test_what_belongs_to_no_request_is_noticed(fault: str, behaviour: Behaviour, detail: str) -> None:
    result, server = load(fault, (behaviour,))
    assert not result.clean
    assert not result.unaccounted
    assert result.violations == server.faults
    assert all(detail in failure.detail for failure in result.failures), str(result)


def test_a_duplicate_amid_a_pipeline_is_noticed() -> None:
    result, _ = load("duplicate", (Behaviour.PIPELINE,))
    assert result.failed + result.violations
    assert not result.unaccounted


def test_an_idle_close_is_a_race_and_is_sent_again() -> None:
    """The end comes with, or right after, the request on a connection that had been idle."""
    result, _ = load("late_drop", (Behaviour.GET,), race_window=5.0)
    assert result.clean, str(result)
    assert result.count(Outcome.IDLE_CLOSE)
    assert result.count(Outcome.OK) + result.count(Outcome.IDLE_CLOSE) == result.issued


def test_a_close_seen_in_time_is_no_race() -> None:
    result, server = load("close_after_answer", (Behaviour.GET,), race_window=5.0)
    assert result.clean, str(result)
    assert result.closed_idle + result.count(Outcome.IDLE_CLOSE) >= server.faults - QUICK["clients"]


def test_requests_behind_an_announced_close_are_sent_again() -> None:
    result, server = load("close_and_pass_over", (Behaviour.PIPELINE,))
    assert result.clean, str(result)
    assert server.faults
    assert result.count(Outcome.UNPROCESSED) >= server.faults
    assert result.count(Outcome.OK) + result.count(Outcome.UNPROCESSED) == result.issued


def test_pipelined_requests_behind_an_unannounced_close_are_lost() -> None:
    result, _ = load("close_amid", (Behaviour.PIPELINE,))
    assert result.count(Outcome.LOST)
    assert not result.unaccounted


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = asyncio.run(LoadClient(Options(port=port, **QUICK)).run())
    assert not result.clean
    assert result.count(Outcome.REFUSED) == result.issued == result.failed
    assert len(result.failures) == min(result.failed, 200)


def test_the_end_of_the_service_ends_the_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = asyncio.run(LoadClient(Options(port=port, until_refused=True, **{**QUICK, "requests": None})).run())
    assert result.clean
    assert 1 <= result.count(Outcome.NOBODY) == result.issued <= QUICK["clients"]


def test_stop_finishes_what_is_in_flight() -> None:
    async def run() -> Result:
        async with Server().running() as server:
            stop = asyncio.Event()
            options = {**QUICK, "requests": None, "keep_alive": 30.0, "clients": 16}
            task = asyncio.ensure_future(LoadClient(Options(port=server.port, **options)).run(stop))
            await server.fifth.wait()
            stop.set()  # most clients think for seconds then
            return await asyncio.wait_for(task, 10)

    result = asyncio.run(run())
    assert result.clean, str(result)
    assert result.issued >= 5


def test_the_same_seed_asks_the_same() -> None:
    def asked(seed: int) -> list[tuple[str, bytes, tuple[int, ...]]]:
        from tests.support.loadclient import Client

        client = Client(LoadClient(Options(seed=seed)), Behaviour.ECHO, 3)
        return [(r.path, r.body, r.chunks) for r in (client._request() for _ in range(20))]

    assert asked(1) == asked(1) != asked(2)


@contextmanager
def uvicorn(path: Path, keep_alive: int) -> Iterator[None]:
    """uvicorn on a UNIX socket that already listens, so that nothing has to be waited for."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1024)
        command = [sys.executable, "-m", "uvicorn", "tests.support.loadapp:app", "--fd", str(listener.fileno())]
        command += ["--timeout-keep-alive", str(keep_alive), "--log-level", "warning"]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], env={**os.environ, "PALFREY_GENERATION": "3"})
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_uvicorn_from_a_thread_and_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    path = tmp_path / "socket"
    with uvicorn(path, keep_alive=1):
        options = Options(uds=str(path), clients=32, keep_alive=0.1, stream_seconds=0.3, requests=300, seconds=60)
        with BackgroundLoad(options) as background:
            result = background.join()
        assert result.clean, str(result)
        assert result.issued >= 300
        assert list(result.generations) == ["3"]
        command = [sys.executable, "-m", "tests.support.loadclient", "--uds", str(path), "--json", "--requests", "20"]
        command += ["--clients", "4", "--keep-alive", "0.1", "--only", "get", "--only", "echo"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(done.stdout)["outcomes"]["ok"] >= 20


def test_a_background_load_stops_on_request(tmp_path: Path) -> None:
    result = None
    with BackgroundLoad(Options(uds=str(tmp_path / "nobody"), clients=1, seconds=60)) as background:
        result = background.stop()
    assert result.count(Outcome.OK) == 0
    assert not result.unaccounted


def test_a_close_before_the_time_that_was_promised_is_no_race() -> None:
    result, _ = load("late_drop", (Behaviour.GET,), race_window=5.0, idle_close_after=3.0)
    assert result.count(Outcome.LOST) == result.failed > 0
    assert not result.count(Outcome.IDLE_CLOSE)


def test_an_idle_connection_that_is_closed_before_the_time_that_was_promised_is_noticed() -> None:
    result, _ = load("close_after_answer", (Behaviour.GET,), race_window=5.0, idle_close_after=3.0)
    assert result.closed_idle == result.violations > 0
    assert any("closed after" in failure.detail for failure in result.failures)


def test_another_process_on_the_same_connection_is_noticed() -> None:
    result, _ = load("other_process", (Behaviour.ECHO,), one_process=True)
    assert result.count(Outcome.MIXED)
    assert any("answers on a connection of process" in failure.detail for failure in result.failures)
    assert load("other_process", (Behaviour.ECHO,))[0].clean


class TestGraves:
    def test_what_a_killed_process_held_is_counted_apart(self) -> None:
        """All that this very process holds is taken for killed: each fault is one of the dead."""
        graves = Graves()
        graves.claims = lambda port, since: True  # type: ignore[method-assign]
        result, server = load("late_drop", (Behaviour.GET,), graves=graves)
        assert result.clean
        assert result.count(Outcome.KILLED) == server.faults

    def test_a_stopped_process_is_asked_what_it_holds(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            inside = socket.create_connection(listener.getsockname())
            waiting = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
            process = subprocess.Popen(
                [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[accepted.fileno()]
            )
        graves, before = Graves(), time.monotonic()
        with inside, waiting, accepted, process:
            accepted.close()
            assert graves.bury(process.pid)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert graves.claims(inside.getsockname()[1], before)
            assert not graves.claims(waiting.getsockname()[1], before)
            assert not graves.claims(inside.getsockname()[1], time.monotonic())
            assert graves.pids == {process.pid: 1}
            assert not graves.bury(process.pid)
