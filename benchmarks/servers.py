"""The contestants: one row each, and how to start and stop any of them.

Every server runs with its own defaults, one worker process, and uvloop where it can; what differs from that stands in
its row's command. It is started pinned to one core, asked for the scenario's answer until it gives it, and stopped by
its process id with all that it started.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import nginx
from benchmarks.cores import pin
from benchmarks.machine import package_version
from benchmarks.scenarios import Message, Scenario

APPS = Path(__file__).parent / "apps"
START_WITHIN = 20.0
"""Seconds for a server to give its first answer."""
STOP_WITHIN = 15.0
LINES_SHOWN = 40


@dataclass(frozen=True)
class Wanted:
    """What a contestant is to do."""

    scenario: Scenario
    port: int
    folder: Path
    """The round's own, removed after it."""
    log: Path | None = None
    """Where its access log goes; None for no access log."""
    certificate: Path | None = None
    key: Path | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}/"

    def tls(self, certificate: str, key: str) -> list[str]:
        """The words that name the certificate and key by these options."""
        return [certificate, str(self.certificate), key, str(self.key)] if self.certificate else []


Command = Callable[[Wanted], list[str]]


@dataclass(frozen=True)
class Contestant:
    """One row. `package` is the distribution that has to be installed; "" for a program of the system."""

    title: str
    package: str
    command: Command
    floor: bool = False
    http1: bool = False
    """Asked over HTTP/1.1 where the others are over HTTP/2."""


def _module(name: str, *words: str) -> list[str]:
    return [sys.executable, "-m", name, *words]


def _palfrey(wanted: Wanted) -> list[str]:
    log = ["--access-logfile", str(wanted.log)] if wanted.log else ["--no-access-log"]
    http2 = ["--http", "h2"] if wanted.scenario.http2 else []
    tls = wanted.tls("--ssl-certfile", "--ssl-keyfile")
    fixed = ["--port", str(wanted.port), "--log-level", "warning"]
    threads = [] if wanted.scenario.threads is None else ["--threads", str(wanted.scenario.threads)]
    return _module("palfrey", wanted.scenario.app, *fixed, *http2, *log, *tls, *threads)


def _palfrey_quiet(wanted: Wanted) -> list[str]:
    return _module(
        "palfrey", wanted.scenario.app, "--port", str(wanted.port), "--log-level", "warning", "--no-access-log"
    )


def _uvicorn(wanted: Wanted) -> list[str]:
    # Its access log goes to stdout, which is the file then.
    log = ["--log-level", "info"] if wanted.log else ["--no-access-log", "--log-level", "warning"]
    tls = wanted.tls("--ssl-certfile", "--ssl-keyfile")
    # Of its engines for WebSockets the faster one, and the one that stays.
    engine = ["--ws", "websockets-sansio"] if wanted.scenario.websocket else []
    return _module("uvicorn", wanted.scenario.app, "--port", str(wanted.port), *log, *tls, *engine)


def _granian(wanted: Wanted) -> list[str]:
    # Its access log goes to stdout, too. One version of HTTP alone is its faster way.
    log = ["--access-log", "--log-level", "info"] if wanted.log else ["--no-access-log", "--log-level", "warning"]
    tls = wanted.tls("--ssl-certificate", "--ssl-keyfile")
    http = ["--http", "2" if wanted.scenario.http2 else "1"]
    fixed = ["--interface", "asgi" if wanted.scenario.threads is None else "wsgi", "--workers", "1", "--loop", "uvloop"]
    return _module("granian", *fixed, *http, "--port", str(wanted.port), *log, *tls, wanted.scenario.app)


def _gunicorn(wanted: Wanted) -> list[str]:
    log = ["--access-logfile", str(wanted.log)] if wanted.log else []
    tls = wanted.tls("--certfile", "--keyfile")
    http2 = ["--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge"] if wanted.scenario.http2 else []
    fixed = ["-k", "asgi", "-w", "1", "--log-level", "warning", "--no-control-socket"]
    return _module("gunicorn", *fixed, "-b", f"127.0.0.1:{wanted.port}", *http2, *log, *tls, wanted.scenario.app)


def _gthread(wanted: Wanted) -> list[str]:
    fixed = ["-k", "gthread", "-w", "1", "--log-level", "warning", "--no-control-socket"]
    threads = ["--threads", str(wanted.scenario.threads)]
    return _module("gunicorn", *fixed, *threads, "-b", f"127.0.0.1:{wanted.port}", wanted.scenario.app)


def _waitress(wanted: Wanted) -> list[str]:
    # It has threads always, 4 by default.
    return _module("waitress", "--listen", f"127.0.0.1:{wanted.port}", wanted.scenario.app)


def _hypercorn(wanted: Wanted) -> list[str]:
    log = ["--access-logfile", str(wanted.log)] if wanted.log else []
    tls = wanted.tls("--certfile", "--keyfile")
    fixed = ["-k", "uvloop", "-w", "1", "--log-level", "info" if wanted.log else "warning"]
    return _module("hypercorn", *fixed, "-b", f"127.0.0.1:{wanted.port}", *log, *tls, wanted.scenario.app)


def _constant(wanted: Wanted) -> list[str]:
    close = ["--close"] if wanted.scenario.close else []
    tls = wanted.tls("--certificate", "--key")
    size = str(len(wanted.scenario.answer))
    return _module("benchmarks.floor", "--port", str(wanted.port), "--bytes", size, *close, *tls)


def _picows(wanted: Wanted) -> list[str]:
    room = ["--room"] if wanted.scenario.message.broadcast else []
    return _module("benchmarks.websocket_floor", "--port", str(wanted.port), *room)


CONTESTANTS: dict[str, Contestant] = {
    "palfrey": Contestant("Palfrey", "palfrey", _palfrey),
    "palfrey-quiet": Contestant("Palfrey, log off", "palfrey", _palfrey_quiet),
    "palfrey-http1": Contestant("Palfrey, HTTP/1.1", "palfrey", _palfrey, http1=True),
    "uvicorn": Contestant("uvicorn", "uvicorn", _uvicorn),
    "granian": Contestant("granian", "granian", _granian),
    "gunicorn": Contestant("gunicorn -k asgi", "gunicorn", _gunicorn),
    "hypercorn": Contestant("hypercorn", "hypercorn", _hypercorn),
    "gthread": Contestant("gunicorn -k gthread", "gunicorn", _gthread),
    "waitress": Contestant("waitress", "waitress", _waitress),
    "constant": Contestant("uvloop, constant write", "uvloop", _constant, floor=True),
    "nginx": Contestant("nginx", "", nginx.command, floor=True),
    "picows": Contestant("picows, no ASGI", "picows", _picows, floor=True),
}


def installed(name: str) -> bool:
    """Whether the interpreter that runs this, or the system, has what the contestant needs."""
    package = CONTESTANTS[name].package
    return bool(package_version(package)) if package else shutil.which(name) is not None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def serving(name: str, wanted: Wanted, core: int | None) -> Iterator[int]:
    """Runs the contestant while the block runs; gives its process id. Ends the program if it does not serve."""
    environment = os.environ | {"PYTHONPATH": str(APPS), "BENCH_FILE": str(wanted.folder / "file")}
    if wanted.scenario.file:
        (wanted.folder / "file").write_bytes(wanted.scenario.answer)
    said = wanted.folder / "stderr"
    with open(wanted.log or os.devnull, "ab") as output, open(said, "wb") as errors:
        process = subprocess.Popen(
            CONTESTANTS[name].command(wanted),
            stdout=output,
            stderr=errors,
            env=environment,
            cwd=APPS.parents[1],
            start_new_session=True,
            preexec_fn=lambda: pin(core),
        )
    try:
        _wait_for(name, wanted, process, said)
        yield process.pid
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        pass
    try:
        # Its session is its own, so whatever of it is left is ours to end.
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _wait_for(name: str, wanted: Wanted, process: subprocess.Popen[bytes], said: Path) -> None:
    give_up = time.monotonic() + START_WITHIN
    got: tuple[int, bytes] | None = None
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with status {process.returncode} before it served:\n{_end_of(said)}")
        try:
            got = ask(wanted)
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
            continue
        if got == expected(wanted.scenario):
            return
        break
    what = f"{got[0]} and {len(got[1])} bytes" if got else "nothing"
    raise SystemExit(f"{name} answers {wanted.scenario.name} with {what}:\n{_end_of(said)}")


def _end_of(said: Path) -> str:
    """The last lines of what a server has said."""
    return "\n".join(said.read_text(errors="replace").splitlines()[-LINES_SHOWN:])


def expected(scenario: Scenario) -> tuple[int, bytes]:
    """What `ask` is to be answered."""
    return (101, b"x" * scenario.websocket.size) if scenario.websocket else (200, scenario.answer)


def ask(wanted: Wanted) -> tuple[int, bytes]:
    """The scenario's request or message, sent once: the answer's status and content."""
    scenario = wanted.scenario
    if scenario.websocket is not None:
        return _say(wanted.port, scenario.websocket)
    if scenario.http2 is not None:
        return _ask_http2(wanted)
    if wanted.certificate:
        context = ssl.create_default_context(cafile=str(wanted.certificate))
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", wanted.port, timeout=2, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", wanted.port, timeout=2)
    try:
        headers = dict(scenario.headers) | {"Connection": "close"}
        connection.request(scenario.method, "/", scenario.content or None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _ask_http2(wanted: Wanted) -> tuple[int, bytes]:
    import httpx

    scenario = wanted.scenario
    try:
        with httpx.Client(http1=False, http2=True, verify=False, timeout=2, trust_env=False) as client:
            response = client.request(
                scenario.method, wanted.url, content=scenario.content or None, headers=dict(scenario.headers)
            )
    except httpx.TransportError as error:
        raise OSError(str(error)) from error
    return response.status_code, response.content if response.http_version == "HTTP/2" else b"not over HTTP/2"


def _say(port: int, message: Message) -> tuple[int, bytes]:
    """One message over a WebSocket of the websockets package's, with the extension that is wanted, and the answer."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    compression = "deflate" if message.deflate else None
    said = b"x" * message.size
    try:
        with connect(f"ws://127.0.0.1:{port}/", compression=compression, open_timeout=2, proxy=None) as websocket:
            websocket.send(said, text=message.text)
            answer = websocket.recv(timeout=2, decode=False)
            if bool(websocket.protocol.extensions) != message.deflate:
                return 101, b"without the extension"
            return 101, answer
    except (WebSocketException, TimeoutError) as error:
        raise OSError(str(error)) from error
