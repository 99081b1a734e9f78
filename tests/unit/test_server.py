"""The embedded server: starting, failing to, stopping, and leaving nothing behind. Draining is in tests/conformance."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import threading

import pytest

import palfrey
from palfrey.config.settings import Settings
from palfrey.errors import AppLoadError, BindError, ConfigError, LifespanError
from palfrey.server import Server
from tests.support.inprocess import echo, http, logged, looped, respond, serving
from tests.support.rawhttp import Client

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def make(app=echo, **settings) -> Server:
    settings.setdefault("bind", ("127.0.0.1:0",))
    return Server(Settings(**settings), app)


async def started(server: Server) -> asyncio.Task[None]:
    task = asyncio.ensure_future(server.serve())
    await server.started.wait()
    return task


def port(server: Server) -> int:
    return int(server.urls[0].rpartition(":")[2])


async def fetch(server: Server) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def only_this_task() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


@looped
async def test_it_serves_and_stops_within_a_loop_that_is_there():
    server = make()
    task = await started(server)
    assert server.urls == [f"http://127.0.0.1:{port(server)}"]
    assert (await fetch(server)).startswith(b"HTTP/1.1 200 OK\r\n")
    server.stop()
    await task
    with pytest.raises(ConnectionRefusedError):
        await fetch(server)


@looped
async def test_two_live_in_one_process():
    servers = [make(), make()]
    tasks = [await started(server) for server in servers]
    assert port(servers[0]) != port(servers[1])
    for server in servers:
        assert b"200 OK" in await fetch(server)
        server.stop()
    await asyncio.gather(*tasks)


@looped
async def test_it_touches_neither_signals_nor_logging():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    server = make()
    task = await started(server)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    server.stop()
    await task


@looped
async def test_a_stop_before_the_start():
    server = make()
    server.stop()
    await server.serve()
    assert only_this_task()


@pytest.mark.parametrize("at_once", [False, True])
@looped
async def test_a_stop_during_a_startup_that_hangs(at_once):
    begun = asyncio.Event()

    async def app(scope, receive, send):
        begun.set()
        await asyncio.Event().wait()

    server = make(app)
    task = asyncio.ensure_future(server.serve())
    await begun.wait()
    server.stop(at_once)
    await task
    assert not server.started.is_set()
    assert only_this_task()


@looped
async def test_cancelling_it_at_any_moment_of_its_start_leaves_nothing_behind():
    for turns in range(12):
        server = make()
        task = asyncio.ensure_future(server.serve())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        assert only_this_task()
        assert all(listener.fileno() == -1 for listener in server.listeners)


@looped
async def test_cancelling_it_is_a_stop_at_once():
    order = []
    begun = asyncio.Event()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            order.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    server = make(app)
    task = await started(server)
    fetching = asyncio.ensure_future(fetch(server))
    await begun.wait()
    task.cancel()
    with logged() as records, pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait((fetching,))
    fetching.exception()
    assert order == ["cancelled", "shutdown"]
    assert records.errors == []
    assert only_this_task()


@looped
async def test_a_lifespan_that_fails():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = make(app)
    with pytest.raises(LifespanError, match="no database"):
        await server.serve()
    assert not server.started.is_set()
    assert only_this_task()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port(server)))


@looped
async def test_an_address_in_use():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        number = holder.getsockname()[1]
        with pytest.raises(BindError, match=str(number)):
            await make(bind=(f"127.0.0.1:{number}",)).serve()


@looped
async def test_what_is_no_address():
    with pytest.raises(BindError, match="nonsense"):
        await make(bind=("ftp://nonsense",)).serve()


@looped
async def test_a_certificate_that_is_not_there():
    server = make(ssl_certfile="/nonexistent.pem")
    with pytest.raises(ConfigError, match="ssl_certfile"):
        await server.serve()
    assert server.listeners == []


@pytest.mark.parametrize("settings", [{"raw_env": ("A=1",)}, {"env_file": ".env"}], ids=str)
@looped
async def test_the_environment_is_the_programs_own(settings):
    with pytest.raises(ConfigError, match=rf"{next(iter(settings))} would change the environment"):
        await make(**settings).start()


@looped
async def test_no_application():
    with pytest.raises(ConfigError, match="no application"):
        await make(None).start()


class Site:
    async def __call__(self, scope, receive, send):
        await echo(scope, receive, send)


def broken_factory():
    raise KeyError("no such table")


@pytest.mark.parametrize(
    ("app", "settings", "message"),
    [
        (5, {}, "is an int, which cannot be called"),
        (Site, {}, r"application Site is a class; name an instance of it, or add factory=True"),
        (lambda: echo, {}, r"is a function without arguments; did you mean `factory=True`\?"),
        (lambda: 5, {"factory": True}, "returned an int"),
        (echo, {"factory": True}, "leave factory=True out"),
        (broken_factory, {"factory": True}, "the factory the application broken_factory failed: KeyError"),
    ],
)
@looped
async def test_what_is_no_application(app, settings, message):
    server = make(app, **settings)
    with pytest.raises(AppLoadError, match=message):
        await server.start()
    assert server.listeners == []


@pytest.mark.parametrize("factory", [Site, lambda: echo])
@looped
async def test_an_application_from_a_factory(factory):
    async with make(factory, factory=True) as server:
        assert b"200 OK" in await fetch(server)


@looped
async def test_an_application_by_name(tmp_path):
    (tmp_path / "embedded_by_name.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'by name'})\n"
    )
    before = list(sys.path)
    try:
        server = Server(
            Settings(app="embedded_by_name:app", app_dir=str(tmp_path), bind=("127.0.0.1:0",), lifespan="off")
        )
        task = await started(server)
        assert (await fetch(server)).endswith(b"by name")
        server.stop()
        await task
        with pytest.raises(AppLoadError):
            await Server(Settings(app="no_such_module:app", bind=("127.0.0.1:0",))).serve()
    finally:
        sys.path[:] = before
        sys.modules.pop("embedded_by_name", None)


def test_a_unix_socket_has_its_mode_and_goes_with_the_server(tmp_path):
    path = tmp_path / "s"
    with serving(echo, uds=str(path), socket_mode=0o640) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        with Client.connect(str(path)) as client:
            assert client.request(GET).status == 200
        assert server.server.urls == [f"unix:{path}"]
    assert not path.exists()


@pytest.fixture
def announced(monkeypatch):
    """An event: the server of `palfrey.run` waits for its end."""
    event = threading.Event()
    wait_stopped = Server.wait_stopped

    async def announce(server) -> None:
        event.set()
        await wait_stopped(server)

    monkeypatch.setattr(Server, "wait_stopped", announce)
    return event


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_run_serves_an_object_until_a_signal(capfd, announced, loop):
    """In a process of one: the signal is this one's."""
    ended = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    @http
    async def app(scope, receive, send):
        tasks.append(asyncio.create_task(background()))
        await asyncio.sleep(0)
        await respond(send, b"ran")
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)

    tasks: list[asyncio.Task[None]] = []
    with socket.create_server(("127.0.0.1", 0)) as held:
        number = held.getsockname()[1]
    bodies = []

    def ask() -> None:
        assert announced.wait(60)
        with Client.connect(("127.0.0.1", number)) as client:
            bodies.append(client.request(GET).body)

    def mine(number, frame):
        raise AssertionError("it is not for us")

    before = signal.signal(signal.SIGTERM, mine)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert palfrey.run(app, host="127.0.0.1", port=number, loop=loop) == 0
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
        asking.join()
    assert bodies == [b"ran"]
    assert ended == [True]
    out, err = capfd.readouterr()
    assert "SIGTERM received" in err
    assert f"http://127.0.0.1:{number}" in err
    assert "GET /" in out


@looped
async def test_run_in_a_loop_that_runs_names_what_does_it_there():
    with pytest.raises(ConfigError, match=r"await palfrey\.Server"):
        palfrey.run(echo)


@pytest.mark.parametrize("app", [echo, "main:app"], ids=["object", "name"])
def test_run_in_a_thread_names_what_does_it_there(app):
    raised = []

    def run() -> None:
        try:
            palfrey.run(app)
        except ConfigError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "use palfrey.Server" in raised[0]


def test_run_takes_what_the_settings_put_into_the_environment(monkeypatch):
    monkeypatch.setenv("A_SECRET", "")  # and put back afterwards
    seen = []
    monkeypatch.setattr(palfrey.server, "_run_object", lambda *_: seen.append(os.environ["A_SECRET"]) or 0)
    assert palfrey.run(echo, raw_env=["A_SECRET=x"]) == 0
    assert seen == ["x"]


def test_run_reads_an_env_file_and_the_real_environment_goes_first(monkeypatch, tmp_path):
    for name in ("IN_BOTH", "IN_FILE"):
        monkeypatch.setenv(name, "mine")  # and put back afterwards
    monkeypatch.delenv("IN_FILE")
    (tmp_path / ".env").write_text("IN_BOTH=file\nIN_FILE=file\n")
    seen = []
    monkeypatch.setattr(
        palfrey.server, "_run_object", lambda *_: seen.append((os.environ["IN_BOTH"], os.environ["IN_FILE"])) or 0
    )
    assert palfrey.run(echo, env_file=str(tmp_path / ".env")) == 0
    assert seen == [("mine", "file")]


@pytest.mark.parametrize(
    "settings", [{"workers": 2}, {"user": "nobody"}, {"daemon": True}, {"pidfile": "p"}, {"max_requests": 5}], ids=str
)
def test_run_refuses_for_an_object_what_only_an_arbiter_does(settings):
    with pytest.raises(ConfigError, match=rf"{next(iter(settings))} needs an import string"):
        palfrey.run(echo, **settings)


def test_run_refuses_unknown_settings():
    with pytest.raises(ConfigError, match="did you mean workers"):
        palfrey.run(echo, wrokers=2)
