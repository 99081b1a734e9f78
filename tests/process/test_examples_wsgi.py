"""The WSGI examples, served by the `palfrey` command with two workers, in threads and on the loop.

One server for each framework and way lives as long as this module: a test looks only at what is logged after its own
beginning.
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.processes import PATIENCE, Server

pytestmark = pytest.mark.xdist_group("wsgi examples")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TARGETS = {
    "flask": "flask_app:app",
    "pyramid": "pyramid_app:app",
    "django": "django_wsgi_app:application",
}
UPLOAD = random.Random(7).randbytes(5 << 20)
DIGEST = hashlib.sha256(UPLOAD).hexdigest()

Examples = Callable[[str, int], Server]


@pytest.fixture(scope="module")
def examples() -> Iterator[Examples]:
    """The running server of an example; each is started once."""
    with ExitStack() as stack:
        running: dict[tuple[str, int], Server] = {}

        def example(name: str, threads: int) -> Server:
            key = name, threads
            if key not in running:
                arguments = [TARGETS[name], "--app-dir", ".", "--workers", "2", "--port", "0"]
                options = ["--threads", str(threads)]
                server = Server(*arguments, *options, cwd=EXAMPLES, env={"PYTHONPATH": str(ROOT)})
                running[key] = stack.enter_context(server)
                running[key].wait_for_ready(2)
            running[key].mark()
            return running[key]

        yield example


@pytest.fixture(params=[0, 4], ids=["on the loop", "in threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(examples: Examples, name: str, threads: int) -> Server:
    return examples(name, threads)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """One connection to the example."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{server.port}",
        limits=httpx.Limits(max_connections=1),
        timeout=PATIENCE,
        trust_env=False,
    ) as client:
        yield client


def test_json(client: httpx.Client, name: str, threads: int) -> None:
    answer = client.get("/")
    told = answer.json()
    assert told["framework"] == name
    assert told["worker"] in {"1", "2"}
    assert told["multithread"] is bool(threads)
    assert re.fullmatch(r"palfrey-wsgi-\d" if threads else "MainThread", told["thread"])
    assert answer.headers["content-length"] == str(len(answer.content))


def test_a_stream(client: httpx.Client) -> None:
    answer = client.get("/stream", params={"parts": 300})
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.text == "".join(f"part {number} of 300\n" for number in range(1, 301))


def test_uploads(client: httpx.Client) -> None:
    pieces = [UPLOAD[at : at + 100_001] for at in range(0, len(UPLOAD), 100_001)]
    for content in (UPLOAD, iter(pieces), b"short"):
        wanted = b"short" if content == b"short" else UPLOAD
        answer = client.post("/upload", content=content)
        assert answer.json() == {"sha256": hashlib.sha256(wanted).hexdigest(), "size": len(wanted)}


def test_a_form_with_a_file(client: httpx.Client) -> None:
    answer = client.post("/form", data={"note": "façade"}, files={"file": ("five.bin", UPLOAD)})
    assert answer.json() == {"sha256": DIGEST, "note": "façade"}


def test_a_file(client: httpx.Client, name: str) -> None:
    answer = client.get("/file")
    module = TARGETS[name].partition(":")[0]
    assert answer.content == (EXAMPLES / f"{module}.py").read_bytes()
    assert answer.headers["content-length"] == str(len(answer.content))
    head = client.head("/file")
    assert (head.headers["content-length"], head.content) == (str(len(answer.content)), b"")


def test_an_exception_is_a_500_with_its_traceback_in_the_log(server: Server, client: httpx.Client) -> None:
    assert client.get("/error").status_code == 500
    server.wait_for("fails as it was asked to")
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("name", ["flask"])
@pytest.mark.parametrize("threads", [4])
def test_a_stream_without_an_end_ends_with_its_client(server: Server, client: httpx.Client) -> None:
    with client.stream("GET", "/events") as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(4)] == ["data: 1", "", "data: 2", ""]
    server.wait_for("events: the client left")


@pytest.mark.parametrize("name", ["flask"])
@pytest.mark.parametrize("threads", [4])
def test_an_application_that_works_for_nobody_notices(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        server.wait_for("wait: begun")
    server.wait_for("wait: the client left")
