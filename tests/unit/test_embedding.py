"""A `Server` in a loop that is its user's: start and stop are awaited, several live side by side, and nothing of the
process changes. What `serve()` does is in test_server.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading

import pytest
import uvloop
from starlette.applications import Starlette

from palfrey.config.settings import Settings
from palfrey.errors import AppLoadError, BindError, ConfigError, LifespanError
from palfrey.server import Server
from palfrey.workers import serving
from tests.support.inprocess import PATIENCE, echo, http, logged, looped, respond


def eager_loop() -> asyncio.AbstractEventLoop:
    """Tasks begin as they are made."""
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop, eager_loop]


def make(app=echo, **settings) -> Server:
    settings.setdefault("bind", ("127.0.0.1:0",))
    return Server(Settings(**settings), app)


def port(server: Server) -> int:
    return int(server.urls[0].rpartition(":")[2])


async def fetch(server: Server, path: str = "/") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def wait_for(end):
    await end


def only_this_task() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop", "eager"])
def run(request):
    """Runs a coroutine in a loop of either kind."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(within(coroutine))

    return run


async def within(coroutine):
    async with asyncio.timeout(PATIENCE):
        return await coroutine


def test_start_and_stop_are_awaited(run):
    async def scenario():
        server = make()
        assert server.urls == []
        assert await server.start()
        assert server.started.is_set()
        assert (await fetch(server, "/up")).endswith(b"/up")
        await server.stop()
        assert only_this_task()
        with pytest.raises(ConnectionRefusedError):
            await fetch(server)

    run(scenario())


def test_a_block(run):
    async def scenario():
        async with make() as server:
            assert b"200 OK" in await fetch(server)
        assert only_this_task()
        assert all(listener.fileno() == -1 for listener in server.listeners)

    run(scenario())


def test_many_in_one_loop(run):
    async def scenario():
        async with make() as one, make() as two, make() as three:
            answers = await asyncio.gather(*(fetch(server, f"/{port(server)}") for server in (one, two, three) * 5))
            assert [int(answer.rpartition(b"/")[2]) for answer in answers] == [port(one), port(two), port(three)] * 5
        assert only_this_task()

    run(scenario())


def test_one_in_each_of_several_threads_and_loops():
    both_up = threading.Barrier(4)
    found: dict[int, object] = {}

    def live(number: int) -> None:
        async def scenario() -> None:
            async with make() as server:
                await asyncio.to_thread(both_up.wait, PATIENCE)
                answers = await asyncio.gather(*(fetch(server, f"/{number}") for _ in range(25)))
                found[number] = {answer.rpartition(b"/")[2] for answer in answers}
                await asyncio.to_thread(both_up.wait, PATIENCE)

        try:
            with asyncio.Runner(loop_factory=LOOPS[number % 3]) as runner:
                runner.run(within(scenario()))
        except BaseException as error:
            found[number] = error
            both_up.abort()

    threads = [threading.Thread(target=live, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {b"%d" % number} for number in range(4)}


def test_nothing_of_the_process_changes(run):
    def state():
        loggers = [logging.getLogger(name) for name in ("", "palfrey", "palfrey.error", "palfrey.access")]
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        return (
            [signal.getsignal(number) for number in signal.valid_signals()],
            wakeup,
            [(each.level, each.handlers[:], each.propagate, each.disabled) for each in loggers],
            sys.path[:],
            sys.excepthook,
            threading.active_count(),
        )

    async def scenario():
        before = state()
        async with make() as server:
            await fetch(server)
            assert state() == before
        assert state() == before

    run(scenario())


@looped
async def test_a_start_that_a_stop_comes_before():
    server = make()
    await server.stop()
    assert not await server.start()
    assert not server.started.is_set()
    with pytest.raises(RuntimeError, match="stopped before"):
        async with stopped():
            pass


def stopped() -> Server:
    server = make()
    server.stop()
    return server


@looped
async def test_it_serves_once():
    async with make() as server:
        with pytest.raises(RuntimeError, match="make another"):
            await server.start()
    with pytest.raises(RuntimeError, match="make another"):
        await server.start()


@looped
async def test_a_stop_may_be_asked_for_and_awaited_as_often_as_one_likes():
    server = make()
    await server.start()
    server.stop()
    await asyncio.gather(wait_for(server.stop()), wait_for(server.stop()), server.wait_stopped())
    await server.stop()
    await server.stop(at_once=True)
    assert only_this_task()


class Diary:
    """An application whose startup goes on once `gate` is set, and what became of it."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.entries: list[str] = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await respond(send, b"hello")
            return
        await receive()
        self.begun.set()
        try:
            await self.gate.wait()
            await send({"type": "lifespan.startup.complete"})
            self.entries.append("up")
            await receive()
            self.entries.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
        finally:
            self.entries.append("over")


def is_over(server: Server, *besides: asyncio.Task[object]) -> bool:
    return asyncio.all_tasks() - {*besides} == {asyncio.current_task()} and all(
        listener.fileno() == -1 for listener in server.listeners
    )


@pytest.mark.parametrize("at_once", [False, True])
def test_a_stop_of_a_start_returns_when_that_is_unwound(run, at_once):
    async def scenario():
        app = Diary()
        server = make(app)
        starting = asyncio.ensure_future(server.start())
        await app.begun.wait()
        waiting = [asyncio.ensure_future(server.wait_stopped()), asyncio.ensure_future(wait_for(server.stop()))]
        await server.stop(at_once)
        assert app.entries == ["over"]
        assert is_over(server, starting, *waiting)
        assert await asyncio.gather(starting, *waiting) == [False, None, None]
        await server.stop()

    run(scenario())


@pytest.mark.parametrize("turns", range(8))
def test_an_application_that_is_up_as_the_stop_comes_has_its_shutdown(run, turns):
    async def scenario():
        app = Diary()
        server = make(app)
        starting = asyncio.ensure_future(server.start())
        await app.begun.wait()
        app.gate.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        assert app.entries == ["up", "shutdown", "over"]
        assert is_over(server, starting)
        await starting

    run(scenario())


def test_an_application_that_stops_its_server_in_its_startup(run):
    """Who waits for that waits for itself, and is cancelled as any startup would be."""
    went_on = []

    async def scenario():
        async def app(scope, receive, send):
            await receive()
            await server.stop()
            went_on.append(True)

        server = make(app)
        assert not await server.start()
        assert went_on == []
        assert is_over(server)

    run(scenario())


def test_a_startup_that_fails_at_once(run):
    async def scenario():
        async def app(scope, receive, send):
            raise KeyError("none")

        server = make(app, lifespan="on")
        with pytest.raises(LifespanError):
            await server.start()
        assert is_over(server)

    run(scenario())


def test_the_settings_come_first():
    with pytest.raises(TypeError, match="the settings come first"):
        Server(echo)


@looped
async def test_whoever_waits_for_a_stop_is_told_of_a_start_that_is_cancelled():
    app = Diary()
    server = make(app)
    starting = asyncio.ensure_future(server.start())
    await app.begun.wait()
    starting.cancel()
    await server.stop()
    assert app.entries == ["over"]
    assert is_over(server, starting)
    await asyncio.wait((starting,))
    assert starting.cancelled()


async def refusing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no"})


@pytest.mark.parametrize(
    ("app", "settings", "error"),
    [(refusing, {}, LifespanError), (echo, {"bind": ("192.0.2.1:1",)}, BindError), (echo, {"workers": 2}, ConfigError)],
)
@looped
async def test_whoever_waits_for_a_stop_is_told_of_a_start_that_fails(app, settings, error):
    server = make(app, **settings)
    waiting = asyncio.ensure_future(server.wait_stopped())
    with pytest.raises(error):
        await server.start()
    await waiting
    await server.stop()
    assert is_over(server)


@looped
async def test_waiting_for_a_server_that_is_still_to_be_started():
    server = make()
    waiting = asyncio.ensure_future(server.wait_stopped())
    await asyncio.sleep(0)
    await server.start()
    assert not waiting.done()
    await server.stop()
    await waiting


@pytest.mark.parametrize("turns", range(16))
def test_a_scope_that_cancels_in_each_turn_leaves_nothing_behind(run, turns):
    """As anyio's do, until their task has left them."""

    async def scenario():
        app = Diary()
        app.gate.set()
        server = make(app, graceful_timeout=1000)

        async def block():
            async with server:
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        serving = asyncio.ensure_future(block())
        for _ in range(turns):
            await asyncio.sleep(0)
        while not serving.done():
            serving.cancel()
            await asyncio.sleep(0)
        assert is_over(server)
        assert "up" not in app.entries or "shutdown" in app.entries

    run(scenario())


def test_a_program_that_cancels_all_tasks_there_are(run):
    async def scenario():
        app = Diary()
        app.gate.set()
        server = make(app)
        await server.start()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await server.wait_stopped()
        assert app.entries == ["up", "over"]
        assert is_over(server)

    run(scenario())


def test_a_program_that_forgets_to_stop_it(run):
    servers = []

    async def scenario():
        servers.append(make())
        await servers[0].start()

    run(scenario())
    assert [listener.fileno() for listener in servers[0].listeners] == [-1]


@looped
async def test_a_block_that_is_cancelled_while_it_ends():
    begun = asyncio.Event()

    @http
    async def app(scope, receive, send):
        begun.set()
        await asyncio.Event().wait()

    async def block():
        async with server:
            fetching.append(asyncio.ensure_future(fetch(server)))
            await begun.wait()

    server = make(app, graceful_timeout=1000)
    fetching: list[asyncio.Future[bytes]] = []
    task = asyncio.ensure_future(block())
    await begun.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert await fetching[0] == b""
    assert is_over(server)


@looped
async def test_a_graceful_stop_waits_and_one_at_once_hurries_it():
    begun = asyncio.Event()

    @http
    async def app(scope, receive, send):
        begun.set()
        await asyncio.Event().wait()

    server = make(app)
    await server.start()
    fetching = asyncio.ensure_future(fetch(server))
    await begun.wait()
    end = server.stop()
    waiting = asyncio.ensure_future(wait_for(end))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()  # which is the waiting's end, and not the stop's
    server.stop(at_once=True)
    await end
    assert await fetching == b""
    assert all(listener.fileno() == -1 for listener in server.listeners)


@looped
async def test_a_stop_at_once_hurries_a_lifespan_shutdown_that_hangs(monkeypatch):
    monkeypatch.setattr(serving, "SHUTDOWN_FLOOR", 0.01)
    ending = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ending.set()
        await asyncio.Event().wait()

    server = make(app, graceful_timeout=1000)
    await server.start()
    server.stop()
    await ending.wait()
    with logged() as records:
        await server.stop(at_once=True)
    assert "shutdown was given up after" in records.errors[0]
    await server.stop(at_once=True)
    assert is_over(server)


@looped
async def test_a_block_that_raises_stops_at_once():
    begun = asyncio.Event()

    @http
    async def app(scope, receive, send):
        begun.set()
        await asyncio.Event().wait()

    async def scenario():
        async with make(app) as server:
            fetching.append(asyncio.ensure_future(fetch(server)))
            await begun.wait()
            raise ValueError("the block's")

    fetching: list[asyncio.Future[bytes]] = []
    with pytest.raises(ValueError, match="the block's"):
        await scenario()
    assert await fetching[0] == b""


@looped
async def test_idle_connections_are_closed_by_those_who_know_that_nobody_uses_them():
    server = make(timeout_keep_alive=1000, timeout_first_byte=1000, graceful_timeout=1000)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n/")
    await server.stop(part=True)
    assert await reader.read() == b""
    writer.close()


@looped
async def test_idle_connections_are_closed_by_a_second_thought():
    server = make(timeout_keep_alive=1000, timeout_first_byte=1000, graceful_timeout=1000)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n/")
    server.stop()
    for _ in range(20):
        await asyncio.sleep(0)
    await server.stop(part=True)
    assert await reader.read() == b""
    writer.close()


@looped
async def test_an_application_that_stops_its_server_as_it_answers():
    @http
    async def app(scope, receive, send):
        server.stop(part=True)
        await respond(send, b"bye")

    server = make(app, timeout_keep_alive=1000, graceful_timeout=1000)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.read()).endswith(b"bye")
    writer.close()
    await server.wait_stopped()


@looped
async def test_an_exception_at_lifespan_startup_is_the_cause_of_what_start_raises():
    async def lifespan(app):
        raise KeyError("no such database")
        yield

    with pytest.raises(LifespanError, match="no such database") as caught:
        await make(Starlette(lifespan=contextlib.asynccontextmanager(lifespan))).start()
    assert isinstance(caught.value.__cause__, KeyError)
    assert only_this_task()


@looped
async def test_the_cause_of_a_lifespan_that_is_insisted_on():
    async def app(scope, receive, send):
        raise KeyError("none")

    with pytest.raises(LifespanError) as caught:
        await make(app, lifespan="on").start()
    assert isinstance(caught.value.__cause__, KeyError)


@looped
async def test_an_import_that_fails_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "embedded_broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
    server = Server(Settings(app="embedded_broken:app", app_dir=str(tmp_path), bind=("127.0.0.1:0",)))
    with pytest.raises(AppLoadError) as caught:
        await server.start()
    assert "in f\n    return 1 / 0" in "\n".join(caught.value.__notes__)


@looped
async def test_an_address_in_use_is_raised_and_the_next_may_have_it():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        number = holder.getsockname()[1]
        with pytest.raises(BindError, match=str(number)):
            async with make(bind=("127.0.0.1:0", f"127.0.0.1:{number}")):
                pass
    async with make(bind=(f"127.0.0.1:{number}",)) as server:
        assert port(server) == number


@pytest.mark.parametrize(
    "settings",
    [
        *({"workers": 2}, {"reload": True}, {"max_requests": 5}, {"drain_delay": 1}, {"ssl_reload_interval": 1}),
        *({"on_exit": print}, {"worker_exit": print}),
    ],
    ids=str,
)
@looped
async def test_what_only_an_arbiter_does_is_refused(settings):
    with pytest.raises(ConfigError, match=rf"{next(iter(settings))} is an arbiter's"):
        await make(**settings).start()


@looped
async def test_requests_may_be_logged_to_a_logger():
    logger = logging.getLogger("tests.embedding.access")
    with logged(logger.name) as records:
        server = Server(Settings(bind=("127.0.0.1:0",)), echo, logger)
        async with server:
            await fetch(server, "/logged")
    assert '"GET /logged HTTP/1.1" 200' in records.at(logging.INFO)[0]


@looped
async def test_what_the_application_made_is_served_by_its_side():
    """The user's loop is the application's: they share what they have."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    @http
    async def app(scope, receive, send):
        queue.put_nowait(scope["path"])
        await respond(send, b"queued")

    async with make(app) as server:
        fetching = asyncio.ensure_future(fetch(server, "/job"))
        assert await queue.get() == "/job"
        assert (await fetching).endswith(b"queued")
