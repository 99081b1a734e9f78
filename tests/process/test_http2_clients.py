"""HTTP/2 with clients of other makes: httpx (h2), curl and nghttp (libnghttp2), h2load; over TLS and without it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from tests.process.conftest import Start
from tests.support.http2site import APP, NAME, SIZE, TRUST, curl, flags, h2load, needs, origin, run
from tests.support.inprocess import looped
from tests.support.processes import PATIENCE, Server

WAYS = ["tls", "clear"]
LARGE = bytes(range(256)) * (SIZE // 256)


def digest(content: bytes) -> str:
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture(params=[("tls", "uvloop"), ("clear", "uvloop"), ("tls", "asyncio"), ("clear", "asyncio")], ids="-".join)
def way_and_loop(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def way(way_and_loop: tuple[str, str]) -> str:
    return way_and_loop[0]


@pytest.fixture
def server(serve: Start, site: Path, way_and_loop: tuple[str, str]) -> Iterator[Server]:
    """One worker; nothing is wrong by the end."""
    way, loop = way_and_loop
    server = serve(*flags(site, way), "--loop", loop, workers=1)
    yield server
    server.signal(signal.SIGTERM)
    server.wait()
    assert not re.search("^(WARNING|ERROR|CRITICAL)", server.output, re.MULTILINE), server.output


class Httpx:
    """A client of httpx for one server."""

    def __init__(self, server: Server, way: str) -> None:
        context = ssl.create_default_context()
        TRUST.configure_trust(context)
        self.client = httpx.AsyncClient(
            http1=way == "tls",  # without TLS it is prior knowledge
            http2=True,
            verify=context,
            base_url=f"{'https' if way == 'tls' else 'http'}://127.0.0.1:{server.port}",
            headers={"host": NAME},
            timeout=PATIENCE,
            limits=httpx.Limits(max_connections=1),
        )

    async def __aenter__(self) -> httpx.AsyncClient:
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    extensions: ClassVar = {"sni_hostname": NAME}


class TestHttpx:
    """Whose protocol is the package h2's."""

    def test_requests_of_every_kind(self, server: Server, way: str) -> None:
        @looped
        async def talk() -> None:
            async with Httpx(server, way) as client:
                more = {"extensions": Httpx.extensions}
                response = await client.get("/a?b=c", headers=[("cookie", "a=b"), ("cookie", "c=d")], **more)
                facts = response.json()
                assert (response.http_version, facts["http_version"], facts["method"]) == ("HTTP/2", "2", "GET")
                assert facts["scheme"] == ("https" if way == "tls" else "http")
                assert facts["headers"]["host"] == NAME
                assert facts["headers"]["cookie"] == "a=b; c=d"
                head = await client.head("/", **more)
                assert (head.status_code, head.content) == (200, b"")
                assert int(head.headers["content-length"]) > 100
                assert (await client.get("/nothing", **more)).status_code == 204
                assert (await client.post("/echo", content=b"hello", **more)).content == b"hello"
                assert (await client.put("/digest", content=LARGE[:300_000], **more)).text == digest(LARGE[:300_000])

        talk()

    def test_content_that_comes_in_pieces_both_ways(self, server: Server, way: str) -> None:
        pieces = [b"piece %d " % number * (number * 500) for number in range(40)]

        async def sent() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece
                await asyncio.sleep(0)

        @looped
        async def talk() -> None:
            async with (
                Httpx(server, way) as client,
                client.stream("POST", "/echo", content=sent(), extensions=Httpx.extensions) as response,
            ):
                assert "content-length" not in response.headers
                assert b"".join([piece async for piece in response.aiter_bytes()]) == b"".join(pieces)

        talk()

    def test_many_at_once_on_one_connection(self, server: Server, way: str) -> None:
        @looped
        async def talk() -> None:
            async with Httpx(server, way) as client:
                more = {"extensions": Httpx.extensions}
                await client.get("/", **more)

                async def one(number: int) -> tuple[int, str]:
                    if number % 10 == 0:
                        content = LARGE[: number * 1000]
                        assert (await client.post("/echo", content=content, **more)).content == content
                    facts = (await client.get(f"/{number}", **more)).json()
                    assert facts["path"] == f"/{number}"
                    return tuple(facts["client"])

                assert len(set(await asyncio.gather(*map(one, range(300))))) == 1

        talk()


@needs("curl")
class TestCurl:
    def test_requests_of_every_kind(self, server: Server, way: str) -> None:
        facts = json.loads(curl(server, way, "/"))
        assert (facts["http_version"], facts["scheme"]) == ("2", "https" if way == "tls" else "http")
        told = curl(server, way, "--head", "--write-out", "%{http_version} %{http_code}", "/")
        assert told.startswith("HTTP/2 200")
        assert told.endswith("2 200")
        assert curl(server, way, "--data", "a=b", "/echo") == "a=b"
        assert json.loads(curl(server, way, "--request", "DELETE", "/"))["method"] == "DELETE"
        assert curl(server, way, "--write-out", "%{http_code}", "/nothing") == "204"

    def test_large_transfers(self, server: Server, way: str) -> None:
        (server.cwd / "large").write_bytes(LARGE)
        assert curl(server, way, "--upload-file", "large", "/digest") == digest(LARGE)
        curl(server, way, "--output", "got", f"/download?{SIZE}")
        assert digest((server.cwd / "got").read_bytes()) == digest(LARGE)
        curl(server, way, "--data-binary", "@large", "--output", "echoed", "/echo")
        assert digest((server.cwd / "echoed").read_bytes()) == digest(LARGE)

    def test_100_continue(self, server: Server, way: str) -> None:
        (server.cwd / "large").write_bytes(LARGE)
        told = curl(server, way, "-v", "-H", "Expect: 100-continue", "--upload-file", "large", "/digest")
        assert re.search(r"< HTTP/2 100 ?\r?\n(.*\n)*< HTTP/2 200", told)
        assert digest(LARGE) in told
        refused = curl(server, way, "-v", "-H", "Expect: 100-continue", "--upload-file", "large", "/refuse")
        assert "< HTTP/2 403" in refused
        assert "HTTP/2 100" not in refused
        assert "no, thank you" in refused

    def test_an_upload_that_is_refused_at_once(self, server: Server, way: str) -> None:
        (server.cwd / "large").write_bytes(LARGE)
        told = curl(server, way, "-H", "Expect:", "--upload-file", "large", "--write-out", "%{http_code}", "/refuse")
        assert "no, thank you" in told
        assert "403" in told

    def test_early_hints_and_trailers(self, server: Server, way: str) -> None:
        hinted = curl(server, way, "-v", "/early")
        assert len(re.findall("< HTTP/2 103", hinted)) == 2
        assert "< link: </style.css>; rel=preload" in hinted
        assert "later" in hinted
        trailed = curl(server, way, "-v", "-H", "TE: trailers", "/trailers")
        assert "< x-digest: abc" in trailed
        assert trailed.index("x-digest") > trailed.index("HTTP/2 200")

    def test_many_transfers_over_one_connection(self, server: Server, way: str) -> None:
        if way == "clear":
            pytest.skip("curl before 8.0 uses no connection with prior knowledge twice (its issue 10634)")
        curl(server, way, "--parallel", "--parallel-max", "50", "--output", "got-#1", "/file/[1-150]")
        got = [json.loads((server.cwd / f"got-{number}").read_text()) for number in range(1, 151)]
        assert [facts["path"] for facts in got] == [f"/file/{number}" for number in range(1, 151)]
        assert len({tuple(facts["client"]) for facts in got}) == 1


@needs("curl")
@pytest.mark.parametrize("way", WAYS)
def test_curl_is_told_of_limits(serve: Start, site: Path, way: str) -> None:
    """However much of its request is still on its way."""
    limits = ("--limit-request-body", "100000", "--limit-request-fields", "20", "--limit-request-line", "200")
    server = serve(*flags(site, way), *limits, workers=1)
    (site / "large").write_bytes(LARGE)
    status = ("--output", "/dev/null", "--write-out", "%{http_code}")
    assert curl(server, way, *status, "--upload-file", "large", "/digest") == "413"
    assert curl(server, way, *status, "-H", "Expect:", "--upload-file", "large", "/digest") == "413"
    # Without Content-Length, so that it is known once it comes.
    chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Content-Length:", "--upload-file", "large")
    assert curl(server, way, *status, *chunked, "/digest") == "413"
    assert curl(server, way, *status, "--upload-file", "large", "/" + "x" * 300) == "414"
    many = [argument for number in range(30) for argument in ("-H", f"x-{number}: {number}")]
    assert curl(server, way, *status, *many, "--upload-file", "large", "/digest") == "431"
    assert curl(server, way, *status, "--head", *many, "/digest") == "431"
    assert curl(server, way, *status, "/") == "200"


@needs("nghttp", "nghttp2-client")
class TestNghttp:
    def test_settings_priorities_and_frames_as_it_names_them(self, server: Server, way: str) -> None:
        """It begins with PRIORITY for streams that never come, as the old scheme had it."""
        told = run("nghttp", "-v", url(server, way), cwd=server.cwd)
        assert "recv SETTINGS frame" in told
        assert "[SETTINGS_MAX_CONCURRENT_STREAMS(0x03):100]" in told
        assert "send PRIORITY frame" in told
        assert "recv (stream_id=13) :status: 200" in told
        assert "recv GOAWAY" not in told
        assert "error_code=NO_ERROR(0x00)" in told

    def test_many_requests_on_a_connection(self, server: Server, way: str) -> None:
        told = run("nghttp", "-v", "-n", "-m", "80", url(server, way), cwd=server.cwd)
        assert len(re.findall(":status: 200", told)) == 80
        assert told.count("Connected") == 1

    @pytest.mark.parametrize("options", [(), ("--no-dep",), ("-w", "10", "-W", "14"), ("-c", "0"), ("-p", "256")])
    def test_an_upload(self, server: Server, way: str, options: tuple[str, ...]) -> None:
        """Whatever it thinks of dependencies, windows (2 to the 10, 2 to the 14), its header table and weights."""
        content = LARGE[:2_000_000]
        (server.cwd / "some").write_bytes(content)
        told = run("nghttp", *options, "-d", "some", url(server, way, "/digest"), cwd=server.cwd)
        assert digest(content) in told

    def test_a_download_through_small_windows(self, server: Server, way: str) -> None:
        told = run("nghttp", "-v", "-n", "-w", "10", "-W", "14", url(server, way, "/download?300000"), cwd=server.cwd)
        assert sum(map(int, re.findall(r"recv DATA frame <length=(\d+)", told))) == 300_000

    def test_padding_and_trailers_both_ways(self, server: Server, way: str) -> None:
        (server.cwd / "some").write_bytes(LARGE[:50_000])
        sent = ("-b", "40", "--trailer", "x-sent: later", "-d", "some")
        assert digest(LARGE[:50_000]) in run("nghttp", *sent, url(server, way, "/digest"), cwd=server.cwd)
        told = run("nghttp", "-v", "-H", "te: trailers", url(server, way, "/trailers"), cwd=server.cwd)
        assert "x-digest: abc" in told

    def test_continuation(self, server: Server, way: str) -> None:
        told = run("nghttp", "-v", "--continuation", url(server, way), cwd=server.cwd)
        assert '"continuation-test-6": "---' in told
        assert ":status: 200" in told

    def test_early_hints_and_100_continue(self, server: Server, way: str) -> None:
        (server.cwd / "some").write_bytes(b"some")
        assert ":status: 103" in run("nghttp", "-v", url(server, way, "/early"), cwd=server.cwd)
        told = run("nghttp", "-v", "--expect-continue", "-d", "some", url(server, way, "/digest"), cwd=server.cwd)
        assert told.index(":status: 100") < told.index("send DATA")
        assert digest(b"some") in told


def url(server: Server, way: str, path: str = "/") -> str:
    return origin(server, way).replace(NAME, "127.0.0.1") + path


@needs("h2load", "nghttp2-client")
class TestH2load:
    @pytest.mark.parametrize("shape", [("-c8", "-m16"), ("-c64", "-m1"), ("-c1", "-m100")], ids="".join)
    def test_nothing_fails(self, server: Server, way: str, shape: tuple[str, ...]) -> None:
        counts = h2load(server, way, "-n2000", *shape)
        assert counts["succeeded"] == counts["total"] == 2000
        assert not counts["failed"] + counts["errored"] + counts["timeout"]

    def test_uploads(self, server: Server, way: str) -> None:
        (server.cwd / "some").write_bytes(LARGE[:10_000])
        counts = h2load(server, way, "-n500", "-c4", "-m10", "-d", "some", path="/echo")
        assert counts["succeeded"] == 500
