"""Files as responses over HTTP/2: `http.response.pathsend` and `http.response.zerocopysend`, within windows, beside
other streams, and when they are not what they were."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import psutil
import pytest

from palfrey.protocols.http2.codes import ErrorCode
from tests.support.http2driven import connected
from tests.support.http2frames import Kind, Setting, reset, window_update
from tests.support.inprocess import http, logged, looped, respond

START = {"type": "http.response.start", "status": 200}
SIZES = [0, 1, 65_536, 65_537, 1_000_000]


@pytest.fixture
def file(tmp_path: Path):
    def make(size: int) -> Path:
        path = tmp_path / f"{size}"
        path.write_bytes(random.Random(size).randbytes(size))
        return path

    return make


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sends_path(path: Path):
    @http
    async def app(scope, receive, send):
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        await send(START)
        await send({"type": "http.response.pathsend", "path": str(path)})

    return app


@pytest.mark.parametrize("size", SIZES)
@looped
async def test_pathsend(file, size: int):
    path = file(size)
    _, client = await connected(sends_path(path))
    answer = await client.response(await client.request())
    assert (answer.status, answer["content-length"]) == (200, str(size))
    assert digest(answer.body) == digest(path.read_bytes())
    answer = await client.response(await client.request("HEAD"))
    assert (answer["content-length"], answer.body) == (str(size), b"")


@looped
async def test_parts_of_files_between_other_content(file):
    path = file(1_000_000)
    content = path.read_bytes()

    @http
    async def app(scope, receive, send):
        with path.open("rb") as opened:
            await send(START)
            await send({"type": "http.response.body", "body": b"before", "more_body": True})
            part = {"type": "http.response.zerocopysend", "file": opened.fileno(), "more_body": True}
            await send({**part, "offset": 100, "count": 300_000})
            await send({"type": "http.response.body", "body": b"between", "more_body": True})
            await send({**part, "offset": 900_000, "count": 7})
            await send({"type": "http.response.body", "body": b"behind"})

    _, client = await connected(app)
    answer = await client.response(await client.request())
    assert answer.body == b"before" + content[100:300_100] + b"between" + content[900_000:900_007] + b"behind"


@looped
async def test_within_the_window_and_beside_others(file):
    path = file(1_000_000)
    _, client = await connected(sends_path(path), (Setting.INITIAL_WINDOW_SIZE, 5000))
    stream = await client.request()
    await client.expect(Kind.DATA, stream)
    assert (await client.response(await client.request("GET", "/well"))).body == b"well"
    assert len(client.answer(stream).body) == 5000
    await client.send(window_update(0, 1_000_000), window_update(stream, 1_000_000))
    assert digest((await client.response(stream)).body) == digest(path.read_bytes())


@looped
async def test_a_client_that_leaves(file):
    path = file(1_000_000)
    link, client = await connected(sends_path(path), (Setting.INITIAL_WINDOW_SIZE, 5000))
    with logged() as records:
        stream = await client.request()
        await client.expect(Kind.DATA, stream)
        await client.send(reset(stream))
        await link.idle()
    assert records.errors == []
    assert (await client.response(await client.request("GET", "/well"))).body == b"well"
    assert str(path) not in [each.path for each in psutil.Process().open_files()]


@looped
async def test_a_file_that_shrinks_cuts_its_response_and_no_other(file):
    path = file(1_000_000)
    _, client = await connected(sends_path(path), (Setting.INITIAL_WINDOW_SIZE, 5000))
    with logged() as records:
        stream = await client.request()
        await client.expect(Kind.DATA, stream)
        os.truncate(path, 200_000)
        await client.send(window_update(0, 1_000_000), window_update(stream, 1_000_000))
        await client.until(lambda: client.answer(stream).over, "the end")
    assert client.answer(stream).code == ErrorCode.INTERNAL_ERROR
    assert len(records.errors) == 1
    assert (await client.response(await client.request("GET", "/well"))).body == b"well"


@looped
async def test_no_such_file(tmp_path: Path):
    _, client = await connected(sends_path(tmp_path / "none"))
    with logged():
        assert (await client.response(await client.request())).status == 500
