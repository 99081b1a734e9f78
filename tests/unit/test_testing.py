"""palfrey.testing: real servers in tests, with real clients, and what becomes of those that cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
import requests
import trustme
import websockets.asyncio.client
import websockets.sync.client
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from palfrey import background
from palfrey.errors import AppLoadError, BindError, BootError, ConfigError, LifespanError
from palfrey.testing import LiveServer, serve
from tests.support.inprocess import PATIENCE, http

ROOT = Path(__file__).resolve().parents[2]


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.up = True
    yield {"greeting": "made at startup"}
    app.state.up = False


async def greet(request: Request):
    return PlainTextResponse(request.state.greeting)


async def fail(request: Request):
    raise ValueError("by the application")


async def echo(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


def site() -> Starlette:
    routes = [Route("/", greet), Route("/fail", fail), WebSocketRoute("/echo", echo)]
    return Starlette(routes=routes, lifespan=lifespan)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "palfrey" in thread.name}


# Clients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_lifespan_lasts_as_long_as_the_block(loop):
    app = site()
    with serve(app, loop=loop) as url:
        assert app.state.up
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(url, trust_env=False).text == "made at startup"
    assert not app.state.up
    assert threads() == set()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_requests_and_a_session_that_is_still_open():
    session = requests.Session()
    session.trust_env = False
    with session, serve(site()) as url:
        for _ in range(3):
            assert session.get(url).text == "made at startup"


def test_websockets_from_a_thread():
    server = serve(site())
    with server, websockets.sync.client.connect(f"{server.ws_url}/echo", proxy=None) as client:
        client.send("hello")
        assert client.recv(PATIENCE) == "hello"


def test_asynchronous_clients_in_a_loop_of_the_tests():
    async def test() -> None:
        server = serve(site())
        with server as url:
            async with httpx.AsyncClient(trust_env=False) as client:
                answers = await asyncio.gather(*(client.get(url) for _ in range(10)))
                assert {answer.text for answer in answers} == {"made at startup"}
                async with websockets.asyncio.client.connect(f"{server.ws_url}/echo", proxy=None) as websocket:
                    await websocket.send("hello")
                    assert await websocket.recv() == "hello"

    asyncio.run(test())


def test_several_at_once():
    with serve(site()) as one, serve(site()) as two:
        assert one != two
        assert httpx.get(one, trust_env=False).text == httpx.get(two, trust_env=False).text


# Settings -----------------------------------------------------------------------------------------------------------


def test_settings_by_keyword():
    server = serve(site(), limit_request_body=10, headers=["x-served-by: a test"])
    with server as url:
        answer = httpx.post(url, content=bytes(11), trust_env=False)
        other = httpx.get(url, trust_env=False)
    assert answer.status_code == 413
    assert other.headers["x-served-by"] == "a test"


def test_an_unknown_setting():
    with pytest.raises(ConfigError, match="did you mean limit_request_body"):
        serve(site(), limit_request_bdy=10)


def test_what_only_an_arbiter_does():
    with pytest.raises(ConfigError, match="workers is an arbiter's affair"), serve(site(), workers=2):
        pass


def test_tls(tmp_path):
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = serve(site(), ssl_certfile=str(tmp_path / "server.pem"), http="h2")
    with server as url:
        assert url.startswith("https://127.0.0.1:")
        assert server.ws_url.startswith("wss://")
        with httpx.Client(verify=context, http2=True, trust_env=False) as client:
            answer = client.get(url)
    assert (answer.text, answer.http_version) == ("made at startup", "HTTP/2")


def test_a_unix_socket(tmp_path):
    server = serve(site(), uds=str(tmp_path / "s"))
    with server as url:
        assert url == f"unix:{tmp_path}/s"
        transport = httpx.HTTPTransport(uds=str(tmp_path / "s"))
        with httpx.Client(transport=transport) as client:
            assert client.get("http://a/").text == "made at startup"
    with pytest.raises(ValueError, match="has no port"):
        _ = server.port


def test_a_unix_socket_whose_path_has_the_word_in_it(tmp_path):
    (tmp_path / "http").mkdir()
    server = serve(site(), uds=str(tmp_path / "http" / "s:80"))
    with server as url:
        assert server.ws_url == url
        with pytest.raises(ValueError, match="has no port"):
            _ = server.port


def test_before_the_start_and_after_it():
    server = serve(site())
    with pytest.raises(RuntimeError, match="before it has started"):
        _ = server.url
    with server as url:
        with pytest.raises(RuntimeError, match="started once"):
            server.start()
        httpx.get(f"{url}/fail", trust_env=False)
        assert len(server.logs.errors) == 1
    assert server.url == url


def test_an_import_string(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "served_by_name.py").write_text("from tests.unit.test_testing import site\napp = site()\n")
    with serve("served_by_name:app", app_dir=str(tmp_path)) as url:
        assert httpx.get(url, trust_env=False).text == "made at startup"


# Starts that fail ---------------------------------------------------------------------------------------------------


def test_a_startup_that_raises_is_raised_in_the_caller():
    @contextlib.asynccontextmanager
    async def broken(app):
        raise KeyError("no such database")
        yield

    server = serve(Starlette(lifespan=broken))
    with pytest.raises(LifespanError, match="no such database") as caught:
        server.start()
    cause = caught.value.__cause__
    assert isinstance(cause, KeyError)
    names = []
    trace = cause.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "broken"
    assert threads() == set()
    server.stop()  # of what is over already


def test_an_import_that_fails_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "served_broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
    with pytest.raises(AppLoadError, match="ZeroDivisionError") as caught, serve("served_broken", app_dir=tmp_path):
        pass
    assert "in f" in "".join(caught.value.__notes__)


def test_an_address_in_use():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        number = holder.getsockname()[1]
        with pytest.raises(BindError, match=str(number)), serve(site(), port=number):
            pass


def given_up_once(begun: threading.Event, server: LiveServer) -> LiveServer:
    """A server whose start is out of patience as soon as that has happened."""
    server._server._up.wait = lambda timeout: not begun.wait(PATIENCE)  # type: ignore[method-assign]
    return server


def test_a_startup_that_hangs_is_ended_and_shown():
    ended = []
    begun = threading.Event()

    async def answer():
        begun.set()
        await asyncio.Event().wait()

    async def app(scope, receive, send):
        try:
            await answer()
        finally:
            ended.append(True)

    with pytest.raises(BootError) as caught:
        given_up_once(begun, serve(app, boot_timeout=7)).start()
    assert str(caught.value) == "the application was not ready 7 s after its start"
    assert ", in answer" in "".join(caught.value.__notes__)
    assert ended == [True]
    assert threads() == set()


def test_a_startup_that_blocks_is_shown(monkeypatch):
    monkeypatch.setattr(background, "UNWINDING", 0.01)
    begun, go_on = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        begun.set()
        go_on.wait(PATIENCE)

    server = given_up_once(begun, serve(app))
    try:
        with pytest.raises(BootError, match="its thread goes on") as caught:
            server.start()
        assert ", in app" in "".join(caught.value.__notes__)
        server.stop()  # nor is it waited for
    finally:
        monkeypatch.undo()
        go_on.set()
        server.stop()
    assert threads() == set()


def test_a_startup_that_is_not_given_long():
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    with pytest.raises(BootError, match=r"not ready 0\.01 s after"):
        serve(app, boot_timeout=0.01).start()


# Ends ---------------------------------------------------------------------------------------------------------------


def test_background_work_is_done_when_the_block_ends():
    done = []

    async def work():
        await asyncio.sleep(0)
        done.append("work")

    async def begin(request: Request):
        return PlainTextResponse("begun", background=BackgroundTask(work))

    with serve(Starlette(routes=[Route("/", begin)])) as url:
        assert httpx.get(url, trust_env=False).text == "begun"
    assert done == ["work"]


def test_a_request_that_never_ends_does_not_hold_the_test():
    begun = threading.Event()

    @http
    async def app(scope, receive, send):
        begun.set()
        await asyncio.Event().wait()

    server = serve(app, graceful_timeout=0)
    with server as url:
        client = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert begun.wait(PATIENCE)
    with client:
        assert client.recv(1) == b""
    assert url
    assert "Cut short" in server.logs.warnings[0]


def test_a_test_that_fails_cuts_what_is_in_hand():
    begun = threading.Event()
    ended = []

    @http
    async def app(scope, receive, send):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    server = serve(app, graceful_timeout=1000)

    def test() -> None:
        with server:
            client.append(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
            client[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert begun.wait(PATIENCE)
            raise AssertionError("the test's")

    client: list[socket.socket] = []
    with pytest.raises(AssertionError, match="the test's"):
        test()
    assert ended == [True]
    client[0].close()


# Logs ---------------------------------------------------------------------------------------------------------------


def test_each_servers_logs_are_its_own(caplog):
    one, two = serve(site()), serve(site())
    with one as url, two:
        assert httpx.get(f"{url}/fail?a=1", trust_env=False).status_code == 500
    assert len(one.logs.errors) == 1
    assert "ValueError: by the application" in one.logs.errors[0]
    assert one.logs.access[0].endswith('"GET /fail?a=1 HTTP/1.1" 500')
    assert (two.logs.records, two.logs.access) == ([], [])
    assert "by the application" in caplog.text


def wsgi(environ, start_response):
    environ["wsgi.errors"].write(f"said by {environ['QUERY_STRING']}\n")
    if environ["PATH_INFO"] == "/fail":
        raise ValueError(f"by {environ['QUERY_STRING']}")
    start_response("200 OK", [("Content-Length", "0")])
    return []


@pytest.mark.parametrize("count", [0, 1, 4])
def test_logs_from_the_threads_of_wsgi(count):
    servers = [serve(wsgi, threads=count) for _ in range(2)]
    with servers[0], servers[1]:
        asking = [
            threading.Thread(target=httpx.get, args=(f"{server.url}/fail?{n}-{m}",), kwargs={"trust_env": False})
            for m in range(5)
            for n, server in enumerate(servers)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    for n, server in enumerate(servers):
        expected = {f"{n}-{m}" for m in range(5)}
        said = {record.getMessage().partition("said by ")[2].strip() for record in server.logs.records} - {""}
        assert said == expected
        raised = {text.rpartition("ValueError: by ")[2] for text in server.logs.errors if "ValueError" in text}
        assert raised == expected
        assert len(server.logs.access) == 5


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_logs_from_threads_of_an_application(loop):
    log = logging.getLogger("palfrey.error")

    async def say(request: Request):
        await asyncio.get_running_loop().run_in_executor(None, log.error, "from the executor, %s", request.url.query)
        await asyncio.to_thread(log.error, "from to_thread, %s", request.url.query)
        return JSONResponse(await run_in_threadpool(said_in_a_thread, request.url.query))

    def said_in_a_thread(who):
        log.error("from anyio, %s", who)

    one, two = (serve(Starlette(routes=[Route("/", say)]), loop=loop) for _ in range(2))
    with one, two:
        httpx.get(f"{one.url}?one", trust_env=False)
        httpx.get(f"{two.url}?two", trust_env=False)
        log.error("from the test")
    for server, name in ((one, "one"), (two, "two")):
        assert server.logs.errors == [f"from {where}, {name}" for where in ("the executor", "to_thread", "anyio")]


def test_what_is_said_at_the_end_is_in_the_logs_although_the_test_asked_for_it():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("at the end")

    server = serve(app)
    with server:
        pass
    assert "ValueError: at the end" in server.logs.errors[0]


@pytest.mark.parametrize("when", ["before", "in the startup"])
def test_logs_although_the_loggers_were_disabled(when):
    """By logging.config.dictConfig, which by its default does that to all that it does not name, as Django's setup."""
    log = logging.getLogger("palfrey.error")

    @contextlib.asynccontextmanager
    async def configuring(app):
        log.disabled = True
        yield

    log.disabled = when == "before"
    app = Starlette(routes=[Route("/fail", fail)], lifespan=configuring if when == "in the startup" else None)
    server = serve(app)
    with server as url:
        assert httpx.get(f"{url}/fail", trust_env=False).status_code == 500
    assert "by the application" in server.logs.errors[0]


@pytest.mark.parametrize("threads", [None, 4])
def test_an_application_that_stops_its_server_is_heard_to_its_end(threads):
    @http
    async def asgi(scope, receive, send):
        server.stop()
        raise ValueError("behind the stop")

    def wsgi(environ, start_response):
        server.stop()
        raise ValueError("behind the stop")

    server = serve(asgi) if threads is None else serve(wsgi, threads=threads)
    with server as url:
        assert httpx.get(url, trust_env=False).status_code == 500
    assert "behind the stop" in server.logs.errors[0]


def test_loggers_are_left_as_they_were():
    def state():
        return [(each.level, each.handlers[:]) for each in map(logging.getLogger, ("", "palfrey", "palfrey.error"))]

    before = state()
    with serve(site()):
        pass
    with contextlib.suppress(LifespanError), serve(site(), lifespan="on", bind="127.0.0.1:0"):
        pass
    assert state() == before


# pytest -------------------------------------------------------------------------------------------------------------

SUITE = """
import httpx, pytest
from palfrey.testing import serve

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"served"})

def test_fixture(palfrey_server):
    server = palfrey_server(app)
    other = palfrey_server(app, headers=["x-other: 1"])
    assert httpx.get(server.url, trust_env=False).text == "served"
    assert "x-other" in httpx.get(other.url, trust_env=False).headers
    assert server.logs.errors == []

@pytest.mark.MARK
async def test_in_a_loop(palfrey_server):
    with serve(app) as url:
        for url in (url, palfrey_server(app).url):
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(url)).text == "served"
"""


@pytest.mark.parametrize(("mark", "plugin"), [("anyio", "anyio.pytest_plugin"), ("asyncio", "pytest_asyncio.plugin")])
def test_the_fixture_and_the_asynchronous_plugins(tmp_path, mark, plugin):
    (tmp_path / "test_suite.py").write_text(SUITE.replace("MARK", mark))
    option = ("-o", "asyncio_default_fixture_loop_scope=function") if mark == "asyncio" else ()
    done = pytest_in(tmp_path, "-p", plugin, "-W", "error", *option)
    assert done.returncode == 0, done.stdout + done.stderr


def pytest_in(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "palfrey.pytest_plugin", *options, "test_suite.py"],
        cwd=directory,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )


PAGE_APP = """
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        return
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def test_the_code_of_the_page(tmp_path):
    program, *code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "embedding.md").read_text(), re.DOTALL)
    for name in ("main", "site_of_ours"):
        (tmp_path / f"{name}.py").write_text(PAGE_APP)
    (tmp_path / "test_suite.py").write_text("\n\n".join([*code, "def test_the_url(url):\n    assert url\n"]))
    (tmp_path / "program.py").write_text(program.replace("8000", "0").replace("3600", "0"))
    options = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto", "-W", "error")
    done = pytest_in(tmp_path, *options, "-o", "asyncio_default_fixture_loop_scope=function")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert run.stdout.startswith(b"['http://127.0.0.1:")


FAILING = """
import socket, threading

begun = threading.Event()

async def app(scope, receive, send):
    assert scope["type"] == "http"
    begun.set()
    await receive()
    await receive()

def test_that_fails(palfrey_server):
    server = palfrey_server(app, graceful_timeout=1000)
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert begun.wait(60)
    threads.append(client)
    assert client is None, "the test's"

def test_that_succeeds(palfrey_server):
    assert palfrey_server(app).url

threads = []
"""


def test_the_fixture_in_a_test_that_fails_and_in_several_processes(tmp_path):
    (tmp_path / "test_suite.py").write_text(FAILING)
    done = pytest_in(tmp_path, "-p", "xdist.plugin", "-n", "2", "-W", "error")
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "AssertionError: the test's" in done.stdout
