"""A browser over HTTP/2: headless Chromium, which speaks it over TLS alone.

The page asks, streams, uploads and opens WebSockets, and tells the application in a POST what it has seen; the
application writes that, and the connection and protocol of each request, to standard error.
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import Start
from tests.support.browser import chromium, needs_chromium
from tests.support.http2site import flags
from tests.support.processes import PATIENCE, Server

pytestmark = [needs_chromium, pytest.mark.timeout(240)]

FILES = 200

APP = '''\
"""Files, streams and WebSockets, and who asks for them over what."""
import asyncio, hashlib, json, mimetypes, os, pathlib

released = {}


def say(what):
    os.write(2, what.encode() + b"\\n")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    client = scope["client"][1]
    say(f"asked {client} {scope['http_version']} {scope['type']} {scope['path']}")
    await (socket if scope["type"] == "websocket" else serve)(scope, receive, send)


async def socket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "version":
            await send({"type": "websocket.send", "text": scope["http_version"]})
        elif message["text"] == "close":
            await send({"type": "websocket.close", "code": 3001, "reason": "as you say"})
            return
        else:
            await send({**message, "type": "websocket.send"})
    say(f"disconnect {message['code']}")


async def serve(scope, receive, send):
    path, query = scope["path"], scope["query_string"].decode()

    async def start(headers=(), status=200):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})

    if path == "/ticks":
        # Each tick is let go by a request of its own, so that no tick can have waited for the next.
        go = released[query] = asyncio.Queue()
        await start([(b"content-type", b"text/plain")])
        for number in range(5):
            await send({"type": "http.response.body", "body": b"tick %d\\n" % number, "more_body": True})
            await go.get()
        await send({"type": "http.response.body"})
    elif path == "/release":
        released[query].put_nowait(None)
        await start(status=204)
        await send({"type": "http.response.body"})
    elif path == "/slow":
        await start([(b"content-type", b"text/plain")])
        await send({"type": "http.response.body", "body": b"begun, ", "more_body": True})
        while not os.path.exists("go"):
            await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b"ended"})
    elif path == "/generation":
        await start([(b"cache-control", b"no-store")])
        await send({"type": "http.response.body", "body": os.environ["PALFREY_GENERATION"].encode()})
    elif path == "/endless":
        await start([(b"content-type", b"text/plain")])
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        say("given up")
    elif path == "/upload":
        digest, size = hashlib.sha256(), 0
        more = True
        while more:
            message = await receive()
            digest.update(message["body"])
            size += len(message["body"])
            more = message["more_body"]
        await start()
        await send({"type": "http.response.body", "body": f"{size} {digest.hexdigest()}".encode()})
    elif path == "/report":
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message["body"], message["more_body"]
        say("report " + content.decode())
        await start()
        await send({"type": "http.response.body"})
    else:
        file = pathlib.Path("files") / (path[1:] or "index.html")
        if not file.is_file():
            await start(status=404)
            await send({"type": "http.response.body"})
            return
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        await start([(b"content-type", kind.encode()), (b"cache-control", b"no-store")])
        await send({"type": "http.response.body", "body": file.read_bytes()})
'''

PAGE = """\
<!doctype html><meta charset="utf-8"><title>HTTP/2</title>
<script>
  const report = what => fetch("/report", { method: "POST", body: JSON.stringify(what) })

  async function ticks(name) {
    const response = await fetch(`/ticks?${name}`)
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    const seen = []
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return seen
      seen.push(value)
      await fetch(`/release?${name}`, { method: "POST" })
    }
  }

  const hex = bytes => [...new Uint8Array(bytes)].map(byte => byte.toString(16).padStart(2, "0")).join("")

  async function upload() {
    const content = new Uint8Array(3000000).map((_, index) => index * 7)
    const digest = hex(await crypto.subtle.digest("SHA-256", content))
    const response = await fetch("/upload", { method: "POST", body: content })
    return await response.text() === `${content.length} ${digest}`
  }

  async function streamed() {
    const part = new TextEncoder().encode("0123456789".repeat(1000))
    let left = 50
    const body = new ReadableStream({ pull(control) { left-- ? control.enqueue(part) : control.close() } })
    const response = await fetch("/upload", { method: "POST", body, duplex: "half" })
    return (await response.text()).split(" ")[0]
  }

  async function givenUp() {
    const control = new AbortController()
    const response = await fetch("/endless", { signal: control.signal })
    await response.body.getReader().read()
    control.abort()
    return true
  }

  function open(path) {
    const socket = new WebSocket(location.origin.replace("http", "ws") + path)
    socket.binaryType = "arraybuffer"
    socket.hear = () => new Promise(resolve => socket.onmessage = event => resolve(event.data))
    socket.opened = new Promise(resolve => {
      socket.onopen = () => resolve(true)
      socket.onerror = () => resolve(false)
    })
    socket.closed = new Promise(resolve => { socket.onclose = event => resolve([event.code, event.reason]) })
    return socket
  }

  async function echoes(socket, message) {
    const heard = socket.hear()
    socket.send(message)
    return await heard
  }

  async function sockets() {
    const seen = {}
    const some = [open("/a"), open("/b"), open("/c")]
    seen.opened = (await Promise.all(some.map(each => each.opened))).every(opened => opened)
    seen.versions = await Promise.all(some.map(each => echoes(each, "version")))
    seen.deflate = some[0].extensions.includes("permessage-deflate")
    const long = "0123456789".repeat(100000)
    seen.long = (await Promise.all(some.map(each => echoes(each, long)))).every(echo => echo === long)
    const random = crypto.getRandomValues(new Uint8Array(65536))
    seen.binary = hex(await echoes(some[0], random)) === hex(random)
    some[0].send("close")
    seen.closed = await some[0].closed
    some[1].close(3000, "bye")
    seen.closedByUs = await some[1].closed
    seen.lives = await echoes(some[2], "still here")
    some[2].close()
    await some[2].closed
    return seen
  }

  (async () => {
    try {
      await report({ protocol: performance.getEntriesByType("navigation")[0].nextHopProtocol })
      await report({ ticks: await Promise.all(["a", "b", "c"].map(ticks)) })
      await report({ upload: await upload(), streamed: await streamed(), givenUp: await givenUp() })
      await report(await sockets())
    } catch (error) {
      await report({ error: `${error} ${error.stack}` })
    }
  })()
</script>
"""

RELOADED = """\
<!doctype html><meta charset="utf-8"><title>A reload</title>
<script>
  const report = what => fetch("/report", { method: "POST", body: JSON.stringify(what) })
  // Chromium itself fails (ERR_FAILED) what it is about to put on a connection in the moment that GOAWAY arrives there.
  const patient = path => fetch(path).catch(() => fetch(path))
  const generation = async () => (await patient("/generation")).text();

  (async () => {
    try {
      const slow = fetch("/slow").then(response => response.text())
      await report({ generation: await generation() })
      let seen = []
      while (!seen.length || seen.some(each => each === "1")) {
        seen = await Promise.all(Array.from({ length: 20 }, generation))
      }
      await report({ generations: [...new Set(seen)] })
      await report({ slow: await slow })
    } catch (error) {
      await report({ error: `${error} ${error.stack}` })
    }
  })()
</script>
"""

SITE = """\
<!doctype html><meta charset="utf-8"><title>Two hundred files</title>
{elements}
<script>
  addEventListener("load", async () => {{
    const files = performance.getEntriesByType("resource").filter(each => each.name.includes("/part"))
    const images = [...document.images].filter(each => each.complete && each.naturalWidth === 1).length
    const what = {{
      files: files.length,
      whole: files.filter(each => each.responseStatus === 200 && each.decodedBodySize > 0).length,
      protocols: [...new Set(files.map(each => each.nextHopProtocol))],
      images, scripts: window.ran || 0,
      styles: [...document.styleSheets].filter(each => each.cssRules.length === 1).length,
    }}
    await fetch("/report", {{ method: "POST", body: JSON.stringify(what) }})
    await fetch("/report", {{ method: "POST", body: "{{}}" }})
  }})
</script>
"""
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "files").mkdir()
    return tmp_path


def reported(server: Server) -> Any:
    """What the page says next. A browser takes its time to start."""
    return json.loads(server.wait_for("^report (.*)", patience=3 * PATIENCE)[1])


def asked(server: Server) -> list[tuple[str, ...]]:
    """Of each request so far: the client's port, the version of HTTP, what it was, and the path."""
    server.has_said("")
    return [match.groups() for line in server.lines if (match := re.match(r"asked (\d+) (\S+) (\S+) (\S+)", line))]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_page(serve: Start, site: Path, loop: str) -> None:
    (site / "files" / "index.html").write_text(PAGE)
    server = serve(*flags(site, "tls"), "--loop", loop, workers=1)
    with chromium(f"https://127.0.0.1:{server.port}/", site):
        assert reported(server) == {"protocol": "h2"}
        assert reported(server) == {"ticks": [[f"tick {number}\n" for number in range(5)]] * 3}
        assert reported(server) == {"upload": True, "streamed": "500000", "givenUp": True}
        assert reported(server) == {
            "opened": True,
            "versions": ["2", "2", "2"],
            "deflate": True,
            "long": True,
            "binary": True,
            "closed": [3001, "as you say"],
            "closedByUs": [3000, "bye"],
            "lives": "still here",
        }
        requests = asked(server)
        assert {version for _, version, *_ in requests} == {"2"}
        # The WebSockets are on the page's own connection.
        assert len({port for port, _, _, path in requests if path != "/favicon.ico"}) == 1
        assert [kind for *_, kind, _ in requests].count("websocket") == 3
        assert server.has_said("given up")
        server.signal(signal.SIGTERM)
        server.wait()
    assert not re.search("^(WARNING|ERROR)", server.output, re.MULTILINE), server.output


def test_two_hundred_files_over_one_connection(serve: Start, site: Path) -> None:
    elements = []
    for number in range(FILES):
        name = f"part{number}"
        if number % 3 == 0:
            (site / "files" / f"{name}.gif").write_bytes(GIF)
            elements.append(f'<img src="{name}.gif">')
        elif number % 3 == 1:
            (site / "files" / f"{name}.js").write_text(f"window.ran = (window.ran || 0) + 1 // {'x' * number * 50}")
            elements.append(f'<script src="{name}.js"></script>')
        else:
            (site / "files" / f"{name}.css").write_text(f".{name} {{ color: red }} /* {'x' * number * 100} */")
            elements.append(f'<link rel="stylesheet" href="{name}.css">')
    (site / "files" / "index.html").write_text(SITE.format(elements="\n".join(elements)))
    server = serve(*flags(site, "tls"), "--no-access-log", workers=1)
    with chromium(f"https://127.0.0.1:{server.port}/", site):
        thirds = [len(range(start, FILES, 3)) for start in range(3)]
        assert reported(server) == {
            "files": FILES,
            "whole": FILES,
            "protocols": ["h2"],
            "images": thirds[0],
            "scripts": thirds[1],
            "styles": thirds[2],
        }
        assert reported(server) == {}
        parts = [(port, path) for port, _, _, path in asked(server) if path.startswith("/part")]
    assert len(parts) == len(set(parts)) == FILES
    assert len({port for port, _ in parts}) == 1


def test_a_reload_while_a_page_asks_and_a_stream_goes_on(serve: Start, site: Path) -> None:
    """What is on its way is finished where it is, and the page goes on with the new worker."""
    (site / "files" / "index.html").write_text(RELOADED)
    server = serve(*flags(site, "tls"), "--no-access-log", workers=1)
    (old,) = server.workers()
    with chromium(f"https://127.0.0.1:{server.port}/", site):
        assert reported(server) == {"generation": "1"}
        server.signal(signal.SIGHUP)
        assert reported(server) == {"generations": ["2"]}
        assert old in server.workers()
        (site / "go").touch()
        assert reported(server) == {"slow": "begun, ended"}
    assert "Cut short" not in server.output
