"""A browser's own WebSocket: headless Chromium, with a page that Palfrey serves, over plain TCP and over TLS.

The page talks to the application of tests/support/wsclient.py and reports what it has seen in a POST, which the
application writes to standard error.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import Start
from tests.process.test_tls import OLD, put
from tests.support.browser import chromium, needs_chromium
from tests.support.processes import PATIENCE, Server
from tests.support.wsclient import APP

pytestmark = needs_chromium

MAIN = '''\
"""The page and its reports, before the application with the WebSockets."""
import os, pathlib
from sockets import app as sockets

async def app(scope, receive, send):
    if scope["type"] != "http" or scope["path"] not in ("/", "/report"):
        await sockets(scope, receive, send)
        return
    content, more = b"", True
    while more:
        message = await receive()
        content, more = content + message["body"], message["more_body"]
    if scope["path"] == "/report":
        os.write(2, b"report " + content + b"\\n")
    body = pathlib.Path("page.html").read_bytes() if scope["path"] == "/" else b""
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
'''

PAGE = """\
<!doctype html><meta charset="utf-8"><title>WebSockets</title>
<script>
  const report = what => fetch("/report", { method: "POST", body: JSON.stringify(what) })
  const base = location.origin.replace("http", "ws")

  function open(path, protocols = []) {
    const socket = new WebSocket(base + path, protocols)
    socket.binaryType = "arraybuffer"
    socket.heard = []
    socket.onmessage = event => {
      const waiting = socket.waiting
      socket.waiting = null
      waiting ? waiting(event.data) : socket.heard.push(event.data)
    }
    socket.hear = () => new Promise(resolve => {
      socket.heard.length ? resolve(socket.heard.shift()) : socket.waiting = resolve
    })
    socket.opened = new Promise(resolve => {
      socket.onopen = () => resolve(true)
      socket.onerror = () => resolve(false)
    })
    socket.closed = new Promise(resolve => {
      socket.onclose = event => resolve([event.code, event.reason, event.wasClean])
    })
    return socket
  }

  async function echoes(socket, message) {
    socket.send(message)
    return await socket.hear()
  }

  async function same(socket, bytes) {
    const echo = new Uint8Array(await echoes(socket, bytes))
    return echo.length === bytes.length && echo.every((byte, index) => byte === bytes[index])
  }

  async function talk() {
    const seen = {}
    const socket = open("/", ["chat.v1", "chat.v2"])
    seen.opened = await socket.opened
    seen.protocol = socket.protocol
    seen.deflate = socket.extensions.includes("permessage-deflate")
    seen.text = await echoes(socket, "añ→𝄞")
    const long = "0123456789".repeat(100000)
    seen.long = await echoes(socket, long) === long
    const random = new Uint8Array(65536)
    crypto.getRandomValues(random)
    seen.binary = await same(socket, random)
    seen.blob = new Uint8Array(await echoes(socket, new Blob(["ab", "c"]))).join()
    const count = 500
    for (let number = 0; number < count; number++) socket.send(`message ${number}`)
    seen.ordered = true
    for (let number = 0; number < count; number++) seen.ordered &&= await socket.hear() === `message ${number}`
    socket.close(3000, "bye")
    seen.closed = await socket.closed
    const other = open("/")
    await other.opened
    other.send("close")
    seen.closedByServer = await other.closed
    const refused = open("/forbidden")
    seen.refusedOpened = await refused.opened
    seen.refused = await refused.closed
    seen.raised = await open("/raises").closed
    return seen
  }

  async function stay() {
    const socket = open("/scope")
    const scope = JSON.parse(await socket.hear())
    await report({ generation: scope.worker.split(" ")[1], origin: scope.headers.origin === location.origin })
    return await socket.closed
  }

  (async () => {
    try {
      await report(await talk())
      for (let turn = 0; turn < 2; turn++) await report({ closed: await stay() })
    } catch (error) {
      await report({ error: `${error} ${error.stack}` })
    }
  })()
</script>
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "sockets.py").write_text(APP)
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "page.html").write_text(PAGE)
    return tmp_path


def reported(server: Server) -> Any:
    """What the page says next. A browser takes its time to start."""
    return json.loads(server.wait_for("^report (.*)", patience=3 * PATIENCE)[1])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["plain", "tls", "http2"])
def test_a_browser(serve: Start, site: Path, way: str) -> None:
    certificate = () if way == "plain" else put(site, OLD)
    server = serve("--timeout-keep-alive", "1", "--http", "h2" if way == "http2" else "auto", *certificate, workers=1)
    with chromium(f"{'http' if way == 'plain' else 'https'}://127.0.0.1:{server.port}/", site):
        assert reported(server) == {
            "opened": True,
            "protocol": "chat.v2",
            "deflate": True,
            "text": "añ→𝄞",
            "long": True,
            "binary": True,
            "blob": "97,98,99",
            "ordered": True,
            "closed": [3000, "bye", True],
            "closedByServer": [3001, "as you say", True],
            "refusedOpened": False,
            "refused": [1006, "", False],
            "raised": [1011, "", True],
        }
        assert reported(server) == {"generation": "1", "origin": True}
        server.signal(signal.SIGHUP)
        assert reported(server) == {"closed": [1012, "", True]}
        assert reported(server) == {"generation": "2", "origin": True}
        server.signal(signal.SIGTERM)
        server.wait_for("disconnect 1001 ''")
    assert server.wait() == 0
