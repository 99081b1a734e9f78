"""The example applications, served by the `palfrey` command with two workers and asked over real HTTP.

One server for each framework lives as long as this module, so a test must bear the company of others: it looks only
at what is logged after its own beginning, and where it needs one process it stays on one connection.
"""

from __future__ import annotations

import hashlib
import io
import random
import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.support.processes import PATIENCE, Server

pytestmark = pytest.mark.xdist_group("examples")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TARGETS = {
    "hello": ["hello:app"],
    "starlette": ["starlette_app:app"],
    "starlette behind middleware": ["tests.support.apps:behind_middleware", "--factory"],
    "fastapi": ["fastapi_app:app"],
    "django": ["django_app:application"],
}
WITH_LIFESPAN = ["starlette", "starlette behind middleware", "fastapi"]
FRAMEWORKS = [*WITH_LIFESPAN, "django"]

MEGABYTE = 1 << 20
UPLOAD = 50 * MEGABYTE


class Example(Server):
    """An example under `palfrey` with two workers. What it logs counts from the last `mark` on."""

    def __init__(self, name: str) -> None:
        self.module = f"{name.split()[0]}_app"
        arguments = [*TARGETS[name], "--app-dir", ".", "--workers", "2", "--port", "0"]
        super().__init__(*arguments, cwd=EXAMPLES, env={"PYTHONPATH": str(ROOT)})
        self._marked = 0

    def mark(self) -> None:
        super().mark()
        self._marked = self._seen

    @property
    def said(self) -> str:
        """What has been read of its output since then: all up to the line that was last waited for, at least."""
        return "\n".join(self.lines[self._marked :])

    @property
    def complaints(self) -> list[str]:
        """The lines of it that tell of something wrong."""
        return re.findall(r"^(?:WARNING|ERROR|CRITICAL|Traceback).*", self.said, re.MULTILINE)


Examples = Callable[[str], Example]


@pytest.fixture(scope="module")
def examples() -> Iterator[Examples]:
    """The running server of an example; each is started once."""
    with ExitStack() as stack:
        running: dict[str, Example] = {}

        def example(name: str) -> Example:
            if name not in running:
                running[name] = stack.enter_context(Example(name))
                running[name].wait_for_ready(2)
            running[name].mark()
            return running[name]

        yield example


@pytest.fixture(params=FRAMEWORKS)
def name(request: pytest.FixtureRequest) -> str:
    """The example that a test is about: each of the frameworks, where the test does not say otherwise."""
    return str(request.param)


@pytest.fixture
def client(examples: Examples, name: str) -> Iterator[httpx.Client]:
    """One connection to the example."""
    with connect(examples(name)) as client:
        yield client


def connect(server: Example) -> httpx.Client:
    limits = httpx.Limits(max_connections=1)
    return httpx.Client(
        base_url=f"http://127.0.0.1:{server.port}",
        headers={"accept-encoding": "identity"},
        limits=limits,
        timeout=PATIENCE,
        trust_env=False,
    )


def wire(server: Example) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Reads to `end`, which must be the last thing that has come."""
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        assert piece, f"the connection ended after {data!r}"
        data += piece
    return data


def content(seed: int) -> Iterator[bytes]:
    """50 MB in pieces of an odd size, different for each seed."""
    block = random.Random(seed).randbytes(MEGABYTE)
    for number in range(UPLOAD // MEGABYTE):
        yield number.to_bytes(2, "big")
        yield block[:333_333]
        yield block[333_333:-2]


def digest(seed: int) -> str:
    found = hashlib.sha256()
    for piece in content(seed):
        found.update(piece)
    return found.hexdigest()


# What every framework does -------------------------------------------------------------


def test_json_and_one_process_for_a_connection(client: httpx.Client, name: str) -> None:
    first, second = client.get("/"), client.get("/")
    assert first.json()["framework"] == name.split()[0]
    assert first.json()["worker"] in {"1", "2"}
    assert second.json() == first.json()
    assert first.headers["content-length"] == str(len(first.content))
    assert first.headers["server"] == "palfrey"


def test_a_stream_arrives_whole(client: httpx.Client) -> None:
    response = client.get("/stream", params={"parts": 20, "seconds": 0.1})
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text == "".join(f"part {number} of 20\n" for number in range(1, 21))


def test_a_stream_arrives_while_it_is_made_and_ends_when_its_client_leaves(examples: Examples, name: str) -> None:
    """The stream has no end, so that whatever arrives has arrived before the last part was made."""
    server = examples(name)
    with connect(server) as client, client.stream("GET", "/events") as response:
        lines = response.iter_lines()
        events = [next(lines) for _ in range(6)]
    assert events == ["data: 1", "", "data: 2", "", "data: 3", ""]
    server.wait_for("events: the client left")
    assert server.complaints == []


def test_a_stream_with_nothing_to_say_ends_when_its_client_leaves(examples: Examples, name: str) -> None:
    """Nothing is sent that could fail: the application has to be told (docs/decisions/0003)."""
    server = examples(name)
    with connect(server) as client, client.stream("GET", "/events?seconds=3600") as response:
        assert next(response.iter_lines()) == "data: 1"
    server.wait_for("events: the client left")
    assert server.complaints == []


def test_uploads_of_50_megabytes_side_by_side(examples: Examples, name: str) -> None:
    server = examples(name)

    def with_length(seed: int) -> httpx.Response:
        with connect(server) as client:
            return client.post("/upload", content=content(seed), headers={"content-length": str(UPLOAD)})

    def chunked(seed: int) -> httpx.Response:
        with connect(server) as client:
            return client.post("/upload", content=content(seed))

    with ThreadPoolExecutor(4) as threads:
        ways = [with_length, chunked, with_length, chunked]
        answers = list(threads.map(lambda way, seed: way(seed), ways, range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json() for answer in answers] == [{"sha256": digest(seed), "size": UPLOAD} for seed in range(4)]
    assert {answer.request.headers.get("transfer-encoding") for answer in answers} == {None, "chunked"}


def test_a_form_with_a_file_of_50_megabytes(client: httpx.Client) -> None:
    file = io.BytesIO(b"".join(content(5)))
    response = client.post("/form", data={"note": "façade"}, files={"file": ("fifty.bin", file)})
    assert response.json() == {"sha256": digest(5), "size": UPLOAD, "note": "façade"}


def test_work_after_the_response(examples: Examples, name: str) -> None:
    """A job that takes a minute has not kept its response waiting; the same connection then ends it early."""
    server = examples(name)
    with connect(server) as client:
        started = client.post("/jobs", params={"seconds": 60})
        assert started.status_code == 202
        job = f"/jobs/{started.json()['job']}"
        assert client.get(job).json() == {"done": False}
        assert client.delete(job).json() == {"done": True}
        server.wait_for(f"job {started.json()['job']}: done")
        at_once = client.post("/jobs").json()["job"]
        server.wait_for(f"job {at_once}: done")
        assert client.get(f"/jobs/{at_once}").json() == {"done": True}
    assert server.complaints == []


def test_a_client_that_leaves_a_long_poll_is_noticed(examples: Examples, name: str) -> None:
    server = examples(name)
    with closing(wire(server)) as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        server.wait_for("wait: begun")
    server.wait_for("wait: the client left")
    assert server.complaints == []


def test_a_client_that_has_sent_all_it_will_send_still_gets_its_stream(examples: Examples, name: str) -> None:
    """A half-closed connection, for longer than the grace after which a silent one is given up."""
    with closing(wire(examples(name))) as sock:
        sock.sendall(b"GET /stream?parts=6&seconds=1.5 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_until(sock, b"\r\n0\r\n\r\n").count(b"part ") == 6
        assert sock.recv(1) == b""


def test_an_upload_that_breaks_off_is_no_error_of_the_application(examples: Examples, name: str) -> None:
    server = examples(name)
    with closing(wire(server)) as sock:
        sock.sendall(
            b"POST /upload?broken HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n" + bytes(500_000)
        )
    server.wait_for(r'"POST /upload\?broken HTTP/1.1" ')
    assert server.complaints == []


def test_an_exception_is_a_500_with_its_traceback_in_the_log(examples: Examples, name: str) -> None:
    server = examples(name)
    with connect(server) as client:
        assert client.get("/error").status_code == 500
    server.wait_for(f"RuntimeError: {server.module} fails as it was asked to")
    assert f'examples/{server.module}.py", line' in server.said
    with connect(server) as client:
        assert client.get("/").status_code == 200


def test_sync_code_runs_in_a_thread(client: httpx.Client) -> None:
    assert client.get("/thread").json() == {"main_thread": False}


def test_a_file(examples: Examples, client: httpx.Client, name: str) -> None:
    response = client.get("/file")
    assert response.content == (EXAMPLES / f"{examples(name).module}.py").read_bytes()
    assert response.headers["content-length"] == str(len(response.content))
    if name != "fastapi":  # where a GET route does not answer HEAD
        assert client.head("/file").headers["content-length"] == str(len(response.content))


def test_a_graceful_stop_completes_a_stream_and_leaves_nothing(name: str) -> None:
    with Example(name) as server:
        server.wait_for_ready(2)
        with connect(server) as client, client.stream("GET", "/stream?parts=4&seconds=1") as response:
            parts = response.iter_lines()
            assert next(parts) == "part 1 of 4"
            server.signal(signal.SIGTERM)
            assert list(parts) == ["part 2 of 4", "part 3 of 4", "part 4 of 4"]
        assert server.wait() == 0
        assert server.complaints == []
        if name in WITH_LIFESPAN:
            for moment in ("startup", "shutdown"):
                assert server.said.count(f"lifespan: {moment} of process") == 2


# Lifespan state, static files, sessions, middleware -------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_LIFESPAN)
def test_state_from_the_lifespan_is_shared_and_each_request_has_its_copy(client: httpx.Client) -> None:
    first, second = client.get("/state").json(), client.get("/state").json()
    assert second["pid"] == first["pid"]
    assert second["visits"] == first["visits"] + 1
    assert first["left_by_another_request"] is second["left_by_another_request"] is None


@pytest.mark.parametrize("name", WITH_LIFESPAN)
def test_static_files_are_not_sent_twice_and_in_parts_on_request(client: httpx.Client) -> None:
    whole = client.get("/static/hello.py")
    assert whole.content == (EXAMPLES / "hello.py").read_bytes()
    unchanged = client.get("/static/hello.py", headers={"if-none-match": whole.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    part = client.get("/static/hello.py", headers={"range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, whole.content[3:10])
    assert client.get("/static/absent").status_code == 404


def test_a_dependency_with_a_clean_up_is_closed_however_its_request_ends(examples: Examples) -> None:
    server = examples("fastapi")
    with connect(server) as client:
        assert client.post("/items", json={"name": "oats", "price": 3}).status_code == 201
        server.wait_for("session: closed")
        assert "rolled back" not in server.said
        assert client.post("/items", json={"name": "oats"}).status_code == 422
        assert client.post("/items", json={"name": "oats", "price": -1}).status_code == 500
        server.wait_for("session: rolled back after ValueError")
        server.wait_for("session: closed")
        server.wait_for("ValueError: fastapi_app fails as it was asked to")


@pytest.mark.parametrize("name", ["starlette behind middleware"])
def test_middleware_may_compress_what_is_whole_and_what_is_streamed(client: httpx.Client) -> None:
    gzip = {"accept-encoding": "gzip"}
    whole, streamed = client.get("/", headers=gzip), client.get("/stream?parts=9&seconds=0", headers=gzip)
    assert whole.json()["framework"] == "starlette"
    assert streamed.text.splitlines()[-1] == "part 9 of 9"
    for response in (whole, streamed):
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["x-stamp"] == "stamped"
    # Starlette hands a file to the server as a path (pathsend), which no middleware can compress.
    assert "content-encoding" not in client.get("/file", headers=gzip).headers


# The plain one -------------------------------------------------------------


@pytest.mark.parametrize("name", ["hello"])
def test_hello(client: httpx.Client) -> None:
    index = client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    for page in ("/stream", "/slow", "/info"):
        assert f'<a href="{page}">' in index.text
    info = client.get("/info").json()
    assert info["worker"] in {"1", "2"}
    assert info["generation"] == "1"
    assert info["client"][0] == "127.0.0.1"
    assert len(client.get("/stream?lines=3&seconds=0").text.splitlines()) == 3
    assert client.get("/slow?seconds=0").text == "That took 0 seconds.\n"
    assert client.post("/echo", content=b"neigh").content == b"neigh"
    assert client.get("/nowhere").status_code == 404


def test_what_comes_in_goes_out_before_more_has_come_in(examples: Examples) -> None:
    """Each piece is sent after the one before has come back."""
    with closing(wire(examples("hello"))) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert read_until(sock, b"first\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        sock.sendall(b"6\r\nsecond\r\n")
        assert read_until(sock, b"second\r\n") == b"6\r\nsecond\r\n"
        sock.sendall(b"0\r\n\r\n")
        assert read_until(sock, b"0\r\n\r\n") == b"0\r\n\r\n"
