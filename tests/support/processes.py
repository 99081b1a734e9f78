"""Real servers for process tests: start `palfrey`, wait for what it says, talk HTTP to it, see that nothing is left.

Nothing here sleeps or polls the clock for progress: a test waits for a line of the server's output, for the end of
its output (which comes when the last process that holds it, workers included, has ended) or for its exit status.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import psutil

PATIENCE = 60.0
"""Seconds for anything to happen; a loaded machine is slow, a hanging server is a failure."""

APP = '''\
"""Says who serves; lets its client decide how long a request lasts; can be made to misbehave."""
import os, time

RELEASE = "one"
ME = f"{os.getpid()} {os.environ['PALFREY_GENERATION']} {os.environ['PALFREY_WORKER']} {RELEASE}"


def say(what):
    os.write(2, f"{what} {os.getpid()}\\n".encode())  # print() would write in pieces


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                say("lifespan ended")
                return
    path = scope["path"]
    if path == "/begin":
        say("begun")
    if path == "/block":
        say("blocking")
        time.sleep(600)
    if path == "/exit":
        os._exit(7)
    while (await receive()).get("more_body"):
        pass
    body = ME.encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
'''


class Server:
    """One `palfrey` process, its output and its address. A context manager: at its end all must be gone."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        command: tuple[str, ...] = (sys.executable, "-m", "palfrey"),
    ) -> None:
        self.lines: list[str] = []
        """All output so far, standard error and output mixed."""
        self.cwd = cwd
        self._seen = 0
        self._rest = b""
        self._process = subprocess.Popen(
            [*command, *arguments],
            cwd=cwd,
            env={**clean_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=True,  # what it leaves behind is found by its session
        )
        self.pid = self._session = self._process.pid
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)

    # Output

    def wait_for(self, pattern: str, *, patience: float = PATIENCE) -> re.Match[str]:
        """The next line, after those that earlier waits have used up, that holds the pattern."""
        deadline = time.monotonic() + patience
        while True:
            while self._seen < len(self.lines):
                match = re.search(pattern, self.lines[self._seen])
                self._seen += 1
                if match:
                    return match
            if not self._read_on(deadline):
                raise AssertionError(f"no line with {pattern!r} in:\n{self.output}")

    def mark(self) -> None:
        """Whatever has been said until now is somebody else's affair."""
        while self._read_on(time.monotonic()):
            pass
        self._seen = len(self.lines)

    def has_said(self, pattern: str) -> bool:
        """Whether a line of the output so far holds the pattern. Does not wait, and uses no line up."""
        while self._read_on(time.monotonic()):
            pass
        return any(re.search(pattern, line) for line in self.lines)

    def wait_for_each(self, *patterns: str) -> list[re.Match[str]]:
        """A line for each pattern, in whatever order they come."""
        start, found = self._seen, []
        end = start
        for pattern in patterns:
            self._seen = start
            found.append(self.wait_for(pattern))
            end = max(end, self._seen)
        self._seen = end
        return found

    def wait_for_ends(self, pids: list[int]) -> None:
        """Until these workers' applications have ended, whether that was said before or is yet to come."""
        seen, self._seen = self._seen, 0
        self.wait_for_each(*(f"lifespan ended {pid}$" for pid in pids))
        self._seen = max(seen, self._seen)

    def wait_for_ready(self, workers: int, generation: int = 1) -> None:
        self.wait_for(rf"Generation {generation} serves with {workers} of {workers} worker")

    def wait(self, *, patience: float = PATIENCE) -> int:
        """Its exit status, once it *and all its workers* have ended. A signal's number is negative."""
        deadline = time.monotonic() + patience
        while self._read_on(deadline):
            pass
        if time.monotonic() >= deadline:
            raise AssertionError(f"still running:\n{self.output}")
        return self._process.wait(patience)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def _read_on(self, deadline: float) -> bool:
        """Read what has come, waiting for it; False at the end of the output or at the deadline."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return False
        data = os.read(self._output.fileno(), 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            lines, self._rest = [self._rest], b""
        self.lines += [line.decode(errors="replace") for line in lines]
        return bool(data)

    # Acts

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def follow(self, pid: int) -> None:
        """After an upgrade: this process is the server now. `wait` still gives the first one's status."""
        self.pid = pid

    def workers(self) -> list[int]:
        """The pids of its children that live."""
        return sorted(child.pid for child in psutil.Process(self.pid).children() if _lives(child))

    # HTTP

    @property
    def port(self) -> int:
        """The real port of the first TCP address, from the banner."""
        for line in self.lines:
            match = re.search(r"Listening on https?://.*:(\d+)", line)
            if match:
                return int(match[1])
        raise AssertionError(f"no address in:\n{self.output}")

    def get(self, path: str = "/", port: int | None = None) -> list[str]:
        """The words of the application's answer, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        assert response.status == 200, (response.status, body)
        return body.split()

    @contextlib.contextmanager
    def request_in_flight(self) -> Iterator[socket.socket]:
        """A request that the application has begun and that ends when `finish` sends its body."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            client.sendall(b"POST /begin HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n")
            self.wait_for("begun")
            yield client

    # End

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.pid != self._session:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGTERM)
            elif self._process.poll() is None:
                self._process.terminate() if kind is None else self._process.kill()
            if kind is None:
                self.wait()
                left = outliving(self._session)
                assert left == [], f"left behind: {left}\n{self.output}"
        finally:
            if self._process.poll() is None:
                self._process.kill()
            for pid in leftovers(self._session):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._output.close()


def finish(client: socket.socket) -> bytes:
    """Send the body that a request in flight waits for; all that comes back until the server closes."""
    client.sendall(b"body")
    return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """What comes until the connection ends, in order or by a reset."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def outliving(session: int) -> list[int]:
    """The leftovers that do not end by themselves: the output's end comes before the very end of a process."""
    processes = []
    for pid in leftovers(session):
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    ended = {process.pid for process in processes} - {process.pid for process in alive}
    return [pid for pid in leftovers(session) if pid not in ended]


def leftovers(session: int) -> list[int]:
    """Living processes of a session, and zombies that nobody but the session's own processes will reap."""
    found = []
    for process in psutil.process_iter(["pid", "status", "ppid"]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            ours = os.getsid(process.info["pid"]) == session
            orphaned_zombie = process.info["status"] == psutil.STATUS_ZOMBIE and process.info["ppid"] == 1
            if ours and process.info["pid"] != session and not orphaned_zombie:
                found.append(process.info["pid"])
    return found


def clean_environment() -> dict[str, str]:
    ours = ("PALFREY_", "PYTEST_", "LISTEN_", "NOTIFY_SOCKET", "WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # Bytecode counts as fresh while the source's second and size are the same: tests rewrite applications faster.
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # reaped since it was listed
        return False
