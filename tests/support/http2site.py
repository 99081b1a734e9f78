"""A site for clients of other makes that speak HTTP/2, and how they are started.

The application tells what it sees, takes and gives content of any size, and uses what HTTP/2 has besides: early hints,
trailers both ways, 100-continue. `way` is how it is reached: "tls" with ALPN, or "clear" with prior knowledge.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.support.processes import Server

NAME = "app.test"
TRUST = trustme.CA()

APP = '''\
"""Each path shows a thing; see the tests."""
import asyncio, hashlib, json, os

PIECE = bytes(range(256)) * 128


async def content(receive):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise OSError("the client is gone")
        yield message["body"]
        if not message["more_body"]:
            return


async def answer(send, body, headers=(), status=200, more=False):
    headers = [*headers, *([] if more else [(b"content-length", b"%d" % len(body))])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                os.write(2, f"lifespan ended {os.getpid()}\\n".encode())
                return
    path, query = scope["path"], scope["query_string"]
    if path == "/digest":
        digest, size = hashlib.sha256(), 0
        async for piece in content(receive):
            digest.update(piece)
            size += len(piece)
        await answer(send, f"{size} {digest.hexdigest()}".encode())
    elif path == "/echo":
        headers = [(b"content-type", b"application/octet-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in content(receive):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/download":
        left = int(query)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", query)]})
        while left:
            piece = PIECE[:left]
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
    elif path == "/early":
        for _ in range(2):
            await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        await answer(send, b"later")
    elif path == "/trailers":
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"content"})
        await send({"type": "http.response.trailers", "headers": [(b"x-digest", b"abc")]})
    elif path == "/refuse":
        await answer(send, b"no, thank you", status=403)
    elif path == "/nothing":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
    elif path == "/certificate":
        tls = scope["extensions"].get("tls", {})
        await answer(send, json.dumps([tls.get("client_cert_name"), len(tls.get("client_cert_chain", ()))]).encode())
    else:
        facts = {name: scope[name] for name in ("method", "scheme", "path", "http_version", "client")}
        facts["headers"] = {name.decode(): value.decode() for name, value in scope["headers"]}
        facts["pid"], facts["generation"] = os.getpid(), os.environ["PALFREY_GENERATION"]
        await answer(send, json.dumps(facts).encode(), [(b"content-type", b"application/json")])
'''

SIZE = 20 << 20
"""Bytes of a large transfer."""


def needs(tool: str, package: str = "") -> pytest.MarkDecorator:
    """Skips without it."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{package or tool} is not installed")


def flags(site: Path, way: str) -> tuple[str, ...]:
    """The server's, for this way of reaching it; the authority's certificate is left at `ca.pem`."""
    if way == "clear":
        return "--http", "h2"
    TRUST.cert_pem.write_to_path(str(site / "ca.pem"))
    TRUST.issue_cert(NAME, "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(site / "cert.pem"))
    return "--http", "h2", "--ssl-certfile", "cert.pem"


def origin(server: Server, way: str) -> str:
    """Its beginning of a URL."""
    return f"https://{NAME}:{server.port}" if way == "tls" else f"http://127.0.0.1:{server.port}"


def run(*command: str | Path, cwd: Path, ok: bool = True) -> str:
    """What it writes, to both its outputs."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    text = done.stdout.decode("latin-1")
    assert not ok or done.returncode == 0, f"status {done.returncode}:\n{text}"
    return text


def curl(server: Server, way: str, *arguments: str | Path, ok: bool = True) -> str:
    """Runs curl for a path of the server's (the last argument) over HTTP/2."""
    *options, path = arguments
    connect = (
        ("--http2", "--cacert", "ca.pem", "--resolve", f"{NAME}:{server.port}:127.0.0.1")
        if way == "tls"
        else ("--http2-prior-knowledge",)
    )
    url = f"{origin(server, way)}{path}"
    return run("curl", "--silent", "--show-error", "--max-time", "100", *connect, *options, url, cwd=server.cwd, ok=ok)


def h2load(server: Server, way: str, *options: str, path: str = "/", ok: bool = True) -> dict[str, int]:
    """Runs h2load, and its count of requests by what became of them."""
    url = f"{'https' if way == 'tls' else 'http'}://127.0.0.1:{server.port}{path}"
    return outcome(run("h2load", *options, url, cwd=server.cwd, ok=ok))


def outcome(text: str) -> dict[str, int]:
    """h2load's own account."""
    counts = re.search("^requests: (.*)$", text, re.MULTILINE)
    assert counts is not None, text
    return {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", counts[1])}
