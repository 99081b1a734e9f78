"""Palfrey's worker classes under a real Gunicorn."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.graves import Graves
from tests.support.loadclient import Options
from tests.support.loadresult import Outcome
from tests.support.loadthread import BackgroundLoad
from tests.support.processes import PATIENCE, Server, finish
from tests.support.rawhttp import Client

pytest.importorskip("gunicorn")

ROOT = Path(__file__).parents[2]
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
ONCE = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

APP = """
import asyncio, os, sys, time

def say(what):
    os.write(2, f"{what} {os.getpid()}\\n".encode())

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if os.environ.get("FAIL") and message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            await asyncio.sleep(float(os.environ.get("SLOW", 0)))
            if message["type"] == "lifespan.startup":
                time.sleep(float(os.environ.get("STALL", 0)))
            say(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    if path == "/begin":
        say("begun")
    if path == "/block":
        say("blocking")
        time.sleep(600)
    while (await receive()).get("more_body"):
        pass
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    parser = "httptools" if "httptools" in sys.modules else "h11"
    text = f"{os.getpid()} {loop} {parser} {scope['scheme']} {scope['client'][0]} {scope['root_path']}"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": text.encode()})
"""

HOOKS = """
import os

def say(name, worker):
    os.write(2, f"hook {name} {worker.pid} {type(worker).__name__}\\n".encode())

def post_fork(server, worker): say("post_fork", worker)
def post_worker_init(worker): say("post_worker_init", worker)
def worker_int(worker): say("worker_int", worker)
def worker_abort(worker): say("worker_abort", worker)
def worker_exit(server, worker): say(f"worker_exit after {worker.nr}", worker)
def child_exit(server, worker): say("child_exit", worker)
"""


class Gunicorn(Server):
    """One `gunicorn`."""

    def __init__(self, *arguments: str, app: str = "main:app", kind: str = "PalfreyWorker", **more: object) -> None:
        super().__init__(
            *(app, "--worker-class", f"palfrey.workers.{kind}", "--bind", "127.0.0.1:0", "--no-control-socket"),
            *arguments,
            **{"command": (sys.executable, "-m", "gunicorn"), **more},  # type: ignore[arg-type]
        )

    @property
    def port(self) -> int:
        match = re.search(r"Listening at: https?://[^\s]*:(\d+)", self.output)
        assert match, self.output
        return int(match[1])

    def wait_until_up(self, workers: int = 1) -> list[int]:
        """Until so many workers have started their application; their pids."""
        return [int(self.wait_for(r"^lifespan.startup (\d+)$")[1]) for _ in range(workers)]

    def client(self) -> Client:
        return Client.connect(("127.0.0.1", self.port))


Start = Callable[..., Gunicorn]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `gunicorn main:app` with one of our workers; it must end, and leave nothing, by the end of the test."""
    (tmp_path / "main.py").write_text(APP)
    with ExitStack() as stack:

        def begin(*arguments: str, **more: object) -> Gunicorn:
            return stack.enter_context(Gunicorn(*arguments, cwd=tmp_path, **more))

        yield begin


@pytest.mark.parametrize(
    ("kind", "made_of"), [("PalfreyWorker", ["uvloop", "httptools"]), ("PalfreyH11Worker", ["asyncio", "h11"])]
)
def test_serves(start: Start, kind: str, made_of: list[str]) -> None:
    server = start("--workers", "2", kind=kind)
    pids = server.wait_until_up(2)
    pid, *rest = server.get("/")
    assert int(pid) in pids
    assert rest == [*made_of, "http", "127.0.0.1"]
    server.signal(signal.SIGTERM)
    server.wait_for_each(*(f"^lifespan.shutdown {pid}$" for pid in pids))
    assert server.wait() == 0
    assert "ERROR" not in server.output
    assert "WARNING" not in server.output


def test_settings_of_gunicorns(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "keepalive = 0\nlimit_request_line = 100\nroot_path = '/under'\nforwarded_allow_ips = '127.0.0.0/8'\n"
        "tmp_upload_dir = '/tmp'\n"
    )
    server = start("-c", "conf.py")
    server.wait_until_up()
    assert server.has_said("tmp_upload_dir has no effect with Palfrey's workers: ")
    with server.client() as client:
        answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
        assert answer.body.split()[-2:] == [b"192.0.2.7", b"/under"]
        assert answer.closes
    with server.client() as client:
        assert client.request(b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n\r\n").status == 414
    server.wait_for(r"\[WARNING\] Refused a request from 127.0.0.1:\d+: the request line is longer")


def test_a_setting_that_does_not_fit_ends_gunicorn(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from palfrey.workers import PalfreyWorker\nclass Mine(PalfreyWorker):\n    settings = {'no_such': 1}\n"
    )
    with Gunicorn("-k", "mine.Mine", cwd=tmp_path) as server:
        assert server.wait() == 1
        assert "no_such is not a setting" in server.output


def test_settings_of_ours(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from palfrey.workers import PalfreyWorker\n"
        "class Mine(PalfreyWorker):\n"
        "    settings = {'server_header': False}\n"
    )
    server = start("-k", "mine.Mine")
    server.wait_until_up()
    with server.client() as client:
        assert client.request(GET).all("server") == []


def test_a_class_made_for_uvicorns_worker(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from palfrey.workers import PalfreyWorker\n"
        "class Mine(PalfreyWorker):\n"
        "    CONFIG_KWARGS = {'loop': 'asyncio', 'http': 'h11', 'root_path': '/under', 'log_config': None}\n"
    )
    server = start("-k", "mine.Mine")
    server.wait_until_up()
    assert server.has_said(r"\[WARNING\] log_config has no effect in a worker class")
    assert server.get("/")[1:] == ["asyncio", "h11", "http", "127.0.0.1", "/under"]


def test_what_fails_before_it_serves_ends_gunicorn(start: Start, tmp_path: Path) -> None:
    """It would fail again and again, as fast as Gunicorn forks."""
    (tmp_path / "mine.py").write_text(
        "from palfrey.workers import PalfreyWorker\n"
        "class Mine(PalfreyWorker):\n"
        "    def _access(self):\n"
        "        raise ImportError('no such module')\n"
    )
    server = start("-k", "mine.Mine")
    assert server.wait() == 3
    assert "no such module" in server.output


def test_what_could_answer_no_request_ends_gunicorn(start: Start, tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text("from main import app\ndef create():\n    return app\n")
    server = start(app="made:create")
    assert server.wait() == 3
    assert "create cannot be called as an ASGI or a WSGI application is; if it makes" in server.output
    server = start(app="made:create()")
    server.wait_until_up()
    assert server.get("/")


def test_hooks(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(HOOKS)
    server = start("-c", "conf.py")
    (pid,) = server.wait_until_up()
    server.get("/")
    server.get("/")
    server.signal(signal.SIGTERM)
    server.wait()
    said = [line.removeprefix("hook ") for line in server.lines if line.startswith("hook ")]
    assert said == [
        f"{name} {pid} PalfreyWorker" for name in ("post_fork", "post_worker_init", "worker_exit after 2", "child_exit")
    ]


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_a_quick_end_cuts_what_is_in_hand(start: Start, tmp_path: Path, number: int) -> None:
    (tmp_path / "conf.py").write_text(HOOKS)
    server = start("-c", "conf.py")
    (pid,) = server.wait_until_up()
    with server.request_in_flight():
        server.signal(number)
        server.wait_for(f"hook worker_int {pid}")
        server.wait_for(r"\[WARNING\] Cut short: .*POST /begin")
        server.wait_for(f"lifespan.shutdown {pid}")
        server.wait_for(f"hook worker_exit after 1 {pid}")
        assert server.wait() == 0


@pytest.mark.parametrize(("slow", "ended"), [("0.5", r"^lifespan.shutdown {}$"), ("60", "shutdown was given up after")])
def test_a_quick_end_hurries_a_lifespan_shutdown(start: Start, tmp_path: Path, slow: str, ended: str) -> None:
    (tmp_path / "main.py").write_text(
        "import asyncio, os\n"
        "async def app(scope, receive, send):\n"
        "    pid = os.getpid()\n"
        "    await receive()\n"
        "    os.write(2, f'lifespan.startup {pid}\\n'.encode())\n"
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive()\n"
        "    os.write(2, b'ending\\n')\n"
        f"    await asyncio.sleep({slow})\n"
        "    os.write(2, f'lifespan.shutdown {pid}\\n'.encode())\n"
        "    await send({'type': 'lifespan.shutdown.complete'})\n"
    )
    server = start()
    (pid,) = server.wait_until_up()
    server.signal(signal.SIGTERM)
    server.wait_for("^ending$")
    server.signal(signal.SIGINT)
    server.wait_for("Quick shutdown requested")
    server.wait_for(ended.format(pid))
    assert server.wait() == 0
    assert "SIGKILL" not in server.output


def test_a_hook_that_raises_keeps_no_worker_from_its_end(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text("def worker_int(worker):\n    raise KeyError('in the hook')\n")
    server = start("-c", "conf.py")
    (pid,) = server.wait_until_up()
    server.signal(signal.SIGQUIT)
    server.wait_for("The hook worker_int failed")
    server.wait_for(f"lifespan.shutdown {pid}")
    assert server.wait() == 0
    assert "SIGKILL" not in server.output


def test_a_deployment_that_removes_the_directory_ends_nothing(tmp_path: Path) -> None:
    """The application is in the arbiter's memory, and new workers are forked from it."""
    release = tmp_path / "release"
    release.mkdir()
    (release / "main.py").write_text(APP)
    with Gunicorn("--preload", cwd=release) as server:
        (pid,) = server.wait_until_up()
        shutil.rmtree(release)
        os.kill(pid, signal.SIGKILL)
        (successor,) = server.wait_until_up()
        assert server.get("/")[0] == str(successor)


def test_a_graceful_end_finishes_what_is_in_hand(start: Start) -> None:
    server = start()
    (pid,) = server.wait_until_up()
    with server.request_in_flight() as client:
        server.signal(signal.SIGTERM)
        server.wait_for(rf"\[{pid}\] \[INFO\] Told to end: finishing what is in hand")
        answer = finish(client)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    server.wait_for(f"lifespan.shutdown {pid}")
    assert server.wait() == 0


def test_signals_while_the_application_is_imported(start: Start, tmp_path: Path) -> None:
    """USR1 has log files opened again, and nothing else."""
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "main.py").write_text(APP + "say('importing')\nopen('gate').read()\n")
    server = start()
    pid = int(server.wait_for(r"^importing (\d+)$")[1])
    os.kill(pid, signal.SIGUSR1)
    (tmp_path / "gate").write_text("")
    assert server.wait_until_up() == [pid]
    assert server.get("/")[0] == str(pid)
    os.kill(pid, signal.SIGTERM)
    server.wait_for(rf"\[{pid}\] \[INFO\] Told to end")
    pid = int(server.wait_for(r"^importing (\d+)$")[1])
    os.kill(pid, signal.SIGTERM)
    (tmp_path / "gate").write_text("")
    server.wait_for(rf"Worker exiting \(pid: {pid}\)")
    server.wait_for(r"^importing (\d+)$")
    (tmp_path / "gate").write_text("")
    assert server.wait_until_up() != [pid]
    assert server.output.count(f"lifespan.startup {pid}") == 0


def test_an_order_that_is_repeated_is_said_once(start: Start) -> None:
    server = start()
    (pid,) = server.wait_until_up()
    with server.request_in_flight() as client:
        os.kill(pid, signal.SIGTERM)
        server.wait_for("Told to end")
        os.kill(pid, signal.SIGTERM)
        assert finish(client).startswith(b"HTTP/1.1 200 OK")
    server.wait_for(f"lifespan.shutdown {pid}")
    assert server.output.count("Told to end") == 1


def test_a_graceful_end_takes_graceful_timeout_at_most(start: Start) -> None:
    server = start("--graceful-timeout", "2")
    (pid,) = server.wait_until_up()
    with server.request_in_flight() as client:
        server.signal(signal.SIGTERM)
        server.wait_for(r"\[WARNING\] Cut short: .*POST /begin")
        server.wait_for(f"lifespan.shutdown {pid}")  # before Gunicorn kills
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    assert server.wait() == 0


@pytest.mark.parametrize("kind", ["PalfreyWorker", "PalfreyH11Worker"])
def test_an_order_that_comes_again_ends_nothing_early(start: Start, tmp_path: Path, kind: str) -> None:
    """To the process group, as terminals and some supervisors send it, and then from the arbiter."""
    (tmp_path / "conf.py").write_text(
        HOOKS.replace(
            "def worker_exit(server, worker): ",
            "import signal\n"
            "def worker_exit(server, worker):\n"
            "    os.kill(worker.pid, signal.SIGTERM)\n"
            "    os.kill(worker.pid, signal.SIGINT)\n"
            "    ",
        )
    )
    server = start("-c", "conf.py", kind=kind)
    (pid,) = server.wait_until_up()
    server.signal(signal.SIGTERM)
    server.wait_for(f"hook worker_exit after 0 {pid}")
    assert server.wait() == 0
    assert "was sent" not in server.output


def test_a_worker_that_hangs(start: Start, tmp_path: Path) -> None:
    """Its stacks are in the log, whatever the application has done with those signals."""
    (tmp_path / "main.py").write_text(APP + "import faulthandler\nfaulthandler.enable(open('elsewhere', 'w'))\n")
    (tmp_path / "conf.py").write_text(HOOKS)
    server = start("-c", "conf.py", "--timeout", "1")
    (pid,) = server.wait_until_up()
    with server.client() as client:
        client.send(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for("WORKER TIMEOUT")
        server.wait_for(r'main.py", line \d+ in app')
        server.wait_for(f"hook worker_abort {pid}")
        server.wait_for(f"hook worker_exit after 1 {pid}")
        server.wait_for(f"child_exit {pid}")
        assert client.response().status == 500
    assert server.wait_until_up() != [pid]
    assert server.get("/")[0] != str(pid)
    assert "Task was destroyed" not in server.output


def test_a_worker_that_hangs_behind_its_end(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        HOOKS.replace("def worker_exit(server, worker): ", "def worker_exit(server, worker): time.sleep(600), ")
        + "import time\n"
    )
    server = start("-c", "conf.py", "--timeout", "1")
    (pid,) = server.wait_until_up()
    os.kill(pid, signal.SIGTERM)
    server.wait_for(f"hook worker_abort {pid}")
    server.wait_for(rf"Worker \(pid:{pid}\) exited with code 1")
    assert "RuntimeError" not in server.output
    os.kill(server.wait_until_up()[0], signal.SIGKILL)


def test_a_slow_start_and_end_are_no_hanging(start: Start) -> None:
    """The application's lifespan takes longer than `timeout`, and the loop turns."""
    server = start("--timeout", "1", env={"SLOW": "2.5"})
    (pid,) = server.wait_until_up()
    assert server.get("/")[0] == str(pid)
    server.signal(signal.SIGTERM)
    server.wait_for(f"lifespan.shutdown {pid}")
    assert server.wait() == 0
    assert "WORKER TIMEOUT" not in server.output


def test_a_start_that_blocks_is_no_hanging(start: Start) -> None:
    """As with Gunicorn's and uvicorn's workers, which show no sign of life before they serve."""
    server = start("--timeout", "1", env={"STALL": "3"})
    (pid,) = server.wait_until_up()
    assert server.get("/")[0] == str(pid)
    assert "WORKER TIMEOUT" not in server.output


def test_an_application_that_does_not_start_ends_gunicorn(start: Start) -> None:
    server = start(env={"FAIL": "1"})
    assert server.wait() == 3
    assert re.search(r"\[ERROR\] .*no database", server.output)
    assert "Worker failed to boot" in server.output


def test_max_requests(start: Start) -> None:
    server = start("--max-requests", "3")
    (pid,) = server.wait_until_up()
    assert [server.get("/")[0] for _ in range(3)] == [str(pid)] * 3
    server.wait_for(r"Served 3 requests \(max_requests\)")
    server.wait_for(f"lifespan.shutdown {pid}")
    (successor,) = server.wait_until_up()
    assert successor != pid
    assert server.get("/")[0] == str(successor)


def test_access_log(start: Start) -> None:
    server = start("--access-logfile", "-", "--access-logformat", '%(h)s "%(r)s" %(s)s %(b)s %({x-own}o)s')
    server.wait_until_up()
    server.get("/a?b=c")
    server.wait_for(r'^127.0.0.1 "GET /a\?b=c HTTP/1.1" 200 \d+ 1$')


def test_a_logger_class_with_an_access_of_its_own(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from gunicorn.glogging import Logger\n"
        "class Mine(Logger):\n"
        "    def access(self, resp, req, environ, request_time):\n"
        "        atoms = self.atoms(resp, req, environ, request_time)\n"
        "        self.error_log.info('saw %s', [atoms[key] for key in ('r', 's', '{host}i', '{x-own}o')])\n"
    )
    server = start("--logger-class", "mine.Mine")
    server.wait_until_up()
    server.get("/a?b")
    line = server.wait_for(r"\[INFO\] saw (.*)")[1]
    assert line == f"['GET /a?b HTTP/1.1', '200', '127.0.0.1:{server.port}', '1']"


def test_a_logger_class_with_atoms_of_its_own(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from gunicorn.glogging import Logger\n"
        "class Mine(Logger):\n"
        "    def atoms(self, resp, req, environ, request_time):\n"
        "        return {**super().atoms(resp, req, environ, request_time), 'mine': 'own'}\n"
    )
    server = start("--logger-class", "mine.Mine", "--access-logfile", "-", "--access-logformat", "%(mine)s %(U)s")
    server.wait_until_up()
    server.get("/a")
    server.wait_for("^own /a$")


def test_an_access_log_of_environs(start: Start) -> None:
    server = start("--access-logfile", "-", "--access-logformat", "at %({raw_uri}e)s by %({http_host}e)s")
    server.wait_until_up()
    server.get("/a?b")
    server.wait_for(rf"^at /a\?b by 127.0.0.1:{server.port}$")


def test_threads_are_for_wsgi(start: Start) -> None:
    server = start("--threads", "2")
    server.wait_for(r"\[WARNING\] threads has no effect: the application is no WSGI application")
    server.wait_until_up()


def test_an_upgrade(start: Start) -> None:
    """USR2, and the old arbiter is ended when the new one's workers serve. No request is lost."""
    server = start("--keep-alive", "1", command=(sys.executable, str(Path(sys.executable).with_name("gunicorn"))))
    (old,) = server.wait_until_up()
    port = server.port
    with server.request_in_flight() as client:
        server.signal(signal.SIGUSR2)
        (new,) = server.wait_until_up()
        server.signal(signal.SIGTERM)
        assert finish(client).startswith(b"HTTP/1.1 200 OK")
        server.wait_for(f"lifespan.shutdown {old}")
    with Client.connect(("127.0.0.1", port)) as client:
        assert int(client.request(ONCE).body.split()[0]) == new
    server.wait_for("Master has been promoted")
    successor = int(re.findall(r"Listening at: [^(]*\((\d+)\)", server.output)[-1])
    os.kill(successor, signal.SIGKILL)
    server.wait_for(rf"\[{new}\] \[WARNING\] The arbiter is gone: finishing what is in hand and exiting")
    server.wait_for(f"lifespan.shutdown {new}")
    assert server.wait() == 0


def test_request_hooks(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        "def pre_request(worker, req):\n"
        "    req.mine = 7\n"
        "    worker.log.info('before %s %s %s %s', req.method, req.path, req.query, dict(req.headers)['HOST'])\n"
        "def post_request(worker, req, environ, resp):\n"
        "    worker.log.info('after %s %s %s %s', req.mine, environ['RAW_URI'], resp.status, dict(resp.headers))\n"
    )
    server = start("-c", "conf.py")
    server.wait_until_up()
    server.get("/a?b=c")
    server.wait_for(f"before GET /a b=c 127.0.0.1:{server.port}")
    server.wait_for(r"after 7 /a\?b=c 200 OK \{'x-own': '1'\}")


@pytest.mark.parametrize("hooks", [False, True])
def test_wsgi(start: Start, tmp_path: Path, hooks: bool) -> None:
    (tmp_path / "old.py").write_text(
        "def app(environ, start_response):\n"
        "    body = environ['wsgi.input'].read()\n"
        "    flags = [environ['wsgi.multithread'], environ['wsgi.multiprocess'], environ['REMOTE_ADDR']]\n"
        "    start_response('202 Fine', [('X-Own', '1')])\n"
        "    yield repr(flags).encode()\n"
        "    yield body\n"
    )
    (tmp_path / "conf.py").write_text(
        "def pre_request(worker, req):\n"
        "    worker.log.info('before %s %s %s', req.method, req.uri, dict(req.headers)['X-A'])\n"
        "def post_request(worker, req, environ, resp):\n"
        "    worker.log.info('after %s %s %s %s', environ['PATH_INFO'], resp.status, resp.sent, resp.headers)\n"
        if hooks
        else ""
    )
    server = start("-c", "conf.py", "--threads", "2", app="old:app")
    server.wait_for("The application is a WSGI application, in up to 2 threads")
    with server.client() as client:
        answer = client.request(b"POST /a%20b?c HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc")
    assert (answer.status, answer["x-own"]) == (202, "1")
    assert answer.body == b"[True, True, '127.0.0.1']abc"
    if hooks:
        server.wait_for(r"before POST /a%20b\?c 1")
        server.wait_for(r"after /a b 202 Fine 28 \[\('X-Own', '1'\)\]")


def test_wsgi_below_a_prefix(start: Start, tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [f\"{environ['SCRIPT_NAME']} {environ['PATH_INFO']}\".encode()]\n"
    )
    server = start(app="old:app", env={"SCRIPT_NAME": "/under"})
    server.wait_for("The application is a WSGI application")
    with server.client() as client:
        for path, seen in ((b"/under/a", b"/under /a"), (b"/under", b"/under "), (b"/underground", b" /underground")):
            assert client.request(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path).body == seen


def test_rotated_logs(start: Start, tmp_path: Path) -> None:
    server = start("--access-logfile", "access", "--access-logformat", "%(U)s")
    (pid,) = server.wait_until_up()
    server.get("/one")
    (tmp_path / "access").rename(tmp_path / "access.1")
    server.signal(signal.SIGUSR1)
    server.wait_for("Handling signal: usr1")
    for _ in range(2000):  # the signal is on its way to the worker
        server.get("/more")
        if (tmp_path / "access").exists() and "/more" in (tmp_path / "access").read_text():
            break
    else:
        pytest.fail("the access log was not opened again")
    assert (tmp_path / "access.1").read_text().startswith("/one\n")
    assert server.get("/")[0] == str(pid)


def test_tls(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("app.test")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "conf.py").write_text(
        "import ssl\n"
        "def ssl_context(config, default_ssl_context_factory):\n"
        "    context = default_ssl_context_factory()\n"
        "    context.minimum_version = ssl.TLSVersion.TLSv1_3\n"
        "    return context\n"
    )
    server = start("-c", "conf.py", "--certfile", "cert.pem", "--keyfile", "key.pem")
    server.wait_until_up()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with server.client() as plain, plain.tls(trusting, "app.test") as client:
        assert client.request(GET).body.split()[3] == b"https"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    h2 = start("--http-protocols", "h2,h1", "--certfile", "cert.pem", "--keyfile", "key.pem")
    h2.wait_until_up()
    trusting.check_hostname = False
    with httpx.Client(http2=True, verify=trusting, timeout=PATIENCE) as client:
        assert client.get(f"https://127.0.0.1:{h2.port}/").http_version == "HTTP/2"
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    old = start("-c", "conf.py", "--certfile", "cert.pem", "--keyfile", "key.pem")
    old.wait_until_up()
    with old.client() as plain, pytest.raises(ssl.SSLError):
        plain.tls(trusting, "app.test")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_sessions_resume_with_any_worker(start: Start, tmp_path: Path, version: ssl.TLSVersion) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("app.test")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    server = start("--certfile", "cert.pem", "--keyfile", "key.pem", "--workers", "2")
    pids = set(server.wait_until_up(2))
    context = ssl.create_default_context()
    context.maximum_version = version
    authority.configure_trust(context)

    def ask(session: ssl.SSLSession | None = None) -> tuple[int, ssl.SSLSession, bool]:
        with server.client() as plain, plain.tls(context, "app.test", session) as client:
            pid = int(client.request(GET).body.split()[0])
            return pid, client.sock.session, client.sock.session_reused  # type: ignore[attr-defined]

    first, session, resumed = ask()
    assert not resumed
    os.kill(first, signal.SIGSTOP)
    try:
        second, _, resumed = ask(session)
        assert resumed
        assert {first, second} == pids
    finally:
        os.kill(first, signal.SIGCONT)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    server.wait_for_each(*(f"lifespan.shutdown {pid}" for pid in pids))
    successors = set(server.wait_until_up(2))
    third, session, resumed = ask(session)
    assert third in successors
    assert resumed
    server.signal(signal.SIGHUP)
    server.wait_for_each(*(f"lifespan.shutdown {pid}" for pid in successors))
    _, _, resumed = ask(session)
    assert not resumed  # the keys are new ones


def test_reload_of_files(start: Start, tmp_path: Path) -> None:
    server = start("--reload", "--reload-engine", "poll")
    (pid,) = server.wait_until_up()
    (tmp_path / "main.py").write_text("def broken(:\n")
    server.wait_for(f"lifespan.shutdown {pid}")
    server.wait_for("SyntaxError")
    while True:
        with server.client() as client:
            answer = client.request(ONCE)
        if answer.status == 500:
            break
    assert answer.body.startswith(b"The application cannot be loaded: ")
    (tmp_path / "main.py").write_text(APP)
    server.wait_until_up()
    assert server.get("/")


def test_connections_are_spread_evenly(start: Start) -> None:
    server = start("--workers", "4", "--keep-alive", "60", "--graceful-timeout", "4")
    pids = server.wait_until_up(4)
    with ExitStack() as stack:
        held = Counter()
        for _ in range(48):
            client = stack.enter_context(server.client())
            held[int(client.request(GET).body.split()[0])] += 1
        assert sorted(held) == sorted(pids)
        # One may be blocked for longer than the others wait for it, on a machine that has more to do.
        assert max(held.values()) <= 16, held
    os.kill(pids[0], signal.SIGKILL)
    (successor,) = server.wait_until_up()  # which has its row
    with ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(server.client())
            if int(client.request(GET).body.split()[0]) == successor:
                break
        else:
            pytest.fail("the successor is given no connection")


def test_websockets(start: Start, tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'websocket':\n"
        "        await receive()\n"
        "        await send({'type': 'websocket.accept'})\n"
        "        while (message := await receive())['type'] == 'websocket.receive':\n"
        "            await send({'type': 'websocket.send', 'text': message['text']})\n"
    )
    server = start(app="echo:app")
    server.wait_for("Booting worker")
    with connect(f"ws://127.0.0.1:{server.port}/", open_timeout=PATIENCE) as client:
        client.send("hello")
        assert client.recv(PATIENCE) == "hello"
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
    assert server.wait() == 0


def test_the_example() -> None:
    with Gunicorn(
        *("-c", "gunicorn.conf.py", "-k", "palfrey.workers.PalfreyWorker"),
        app="hello:app",
        cwd=ROOT / "examples",
        env={"PYTHONPATH": str(ROOT)},
    ) as server:
        pids = [int(server.wait_for(r"The application is loaded in (\d+)")[1]) for _ in range(2)]
        server.get("/")
        server.wait_for(r'^127.0.0.1 "GET / HTTP/1.1" 200 \d+ \d+ms$')
        assert len(set(pids)) == 2


def loaded(start: Start, *arguments: str) -> Gunicorn:
    """The load's application, which names its process in each answer."""
    server = start(
        *("--workers", "2", "--keep-alive", "1", "--pythonpath", str(ROOT), *arguments),
        *("--env", "PALFREY_GENERATION=1", "--env", "PALFREY_WORKER=1"),
        app="tests.support.loadapp:app",
    )
    server.wait_for_each("Booting worker with pid", "Booting worker with pid")
    return server


def check(load: BackgroundLoad, server: Gunicorn, least: int) -> None:
    result = load.stop()
    assert result.clean, f"{result}\n{server.output}"
    assert result.count(Outcome.OK) > least
    assert result.count(Outcome.IDLE_CLOSE) <= result.issued // 200, str(result)


def wait_for_answers(load: BackgroundLoad, server: Gunicorn, count: int = 200) -> None:
    before = load.result.count(Outcome.OK)
    assert load.result.wait_for(lambda: load.result.count(Outcome.OK) >= before + count, PATIENCE), server.output


@pytest.mark.timeout(240)
def test_reloads_under_load_lose_nothing(start: Start) -> None:
    server = loaded(start)
    options = Options(port=server.port, keep_alive=1.0, brisk=0.8, stream_seconds=1.0, seconds=150)
    with BackgroundLoad(options) as load:
        wait_for_answers(load, server)
        for _ in range(3):
            server.signal(signal.SIGHUP)
            server.wait_for("Handling signal: hup")
            server.wait_for_each(*["Worker exiting"] * 2)
            wait_for_answers(load, server)
        check(load, server, 600)


@pytest.mark.timeout(240)
def test_a_killed_worker_costs_what_it_held(start: Start) -> None:
    server = loaded(start)
    graves = Graves()
    options = Options(port=server.port, keep_alive=1.0, brisk=0.8, stream_seconds=1.0, seconds=150, graves=graves)
    with BackgroundLoad(options) as load:
        for turn in range(2):
            wait_for_answers(load, server, 400)
            victim = int(re.findall(r"Booting worker with pid: (\d+)", server.output)[turn])  # the oldest
            assert graves.bury(victim)
            os.kill(victim, signal.SIGKILL)
            server.wait_for(rf"Worker \(pid:{victim}\) was sent SIGKILL")
            server.wait_for("Booting worker with pid")
        wait_for_answers(load, server)
        check(load, server, 600)
        assert any(graves.pids.values())


@pytest.mark.timeout(240)
def test_recycling_under_load_loses_nothing(start: Start) -> None:
    server = loaded(start, "--max-requests", "300", "--max-requests-jitter", "100")
    options = Options(port=server.port, keep_alive=1.0, brisk=0.8, stream_seconds=1.0, seconds=150)
    with BackgroundLoad(options) as load:
        for _ in range(4):
            server.wait_for(r"Served \d+ requests \(max_requests\)")
        wait_for_answers(load, server)
        check(load, server, 1000)
    served = {int(count) for count in re.findall(r"Served (\d+) requests", server.output)}
    assert all(300 <= count <= 400 for count in served)
    assert len(served) > 1
