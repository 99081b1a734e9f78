"""A plain ASGI application, without any framework: what `scripts/serve` serves.

Try: palfrey --app-dir examples hello:app --workers 2

One function answers the lifespan and every request; `PAGES` says which path is whose. Nothing here is Palfrey's: any
ASGI server runs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time

INDEX = b"""<!doctype html>
<meta charset="utf-8">
<title>Palfrey</title>
<h1>It serves.</h1>
<ul>
<li><a href="/stream">/stream</a>: ten lines in two seconds, each sent when it is made (?lines=, ?seconds=)
<li><a href="/slow">/slow</a>: an answer that takes two seconds (?seconds=)
<li><a href="/info">/info</a>: who answered: process, worker, generation
<li>/echo: what you send, as it arrives: <code>curl -NT- http://127.0.0.1:8000/echo</code>
</ul>
"""


async def index(scope, receive, send):
    await answer(send, INDEX, b"text/html; charset=utf-8")


async def stream(scope, receive, send):
    """Each line leaves at once; the pauses between them cost the worker nothing."""
    lines = int(query(scope).get("lines", 10))
    pause = float(query(scope).get("seconds", 2)) / lines
    await start(send, 200, b"text/plain; charset=utf-8")
    for number in range(1, lines + 1):
        line = b"line %d of %d from process %d\n" % (number, lines, os.getpid())
        await send({"type": "http.response.body", "body": line, "more_body": True})
        await asyncio.sleep(pause)
    await send({"type": "http.response.body"})


async def slow(scope, receive, send):
    seconds = float(query(scope).get("seconds", 2))
    await asyncio.sleep(seconds)
    await answer(send, b"That took %g seconds.\n" % seconds)


async def info(scope, receive, send):
    """`state` is what the lifespan left there: each request has a copy of it."""
    facts = {
        "pid": os.getpid(),
        "worker": os.environ.get("PALFREY_WORKER"),
        "generation": os.environ.get("PALFREY_GENERATION"),
        "client": scope["client"],
        "up_seconds": round(time.monotonic() - scope["state"]["since"], 3),
    }
    await answer(send, json.dumps(facts).encode() + b"\n", b"application/json")


async def echo(scope, receive, send):
    """Sends the content back while it is still coming in; a client that leaves in the middle ends it."""
    await start(send, 200, b"application/octet-stream")
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def missing(scope, receive, send):
    await answer(send, b"There is nothing here. Try /\n", status=404)


PAGES = {"/": index, "/stream": stream, "/slow": slow, "/info": info, "/echo": echo}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http":
        await PAGES.get(scope["path"], missing)(scope, receive, send)
    else:
        raise NotImplementedError(scope["type"])


async def lifespan(scope, receive, send):
    """Before the first request and after the last one of this process."""
    await receive()
    scope["state"]["since"] = time.monotonic()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def start(send, status, content_type):
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})


async def answer(send, body, content_type=b"text/plain; charset=utf-8", status=200):
    await start(send, status, content_type)
    await send({"type": "http.response.body", "body": body})


def query(scope):
    """The query as a dict, without decoding: numbers are all that is asked for here."""
    text = scope["query_string"].decode("ascii", "replace")
    return dict(pair.split("=", 1) for pair in text.split("&") if "=" in pair)
