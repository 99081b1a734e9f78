"""The applications of the content benchmarks: 10 KB at once, 10 KB echoed, 10 x 1 KB streamed, and a file of 50 KB.

The file is sent by the http.response.pathsend extension where the server offers it, else it is read and sent at once.
"""

import os

from lifespan import lifespan

KIB = 1024
PIECES = 10
TEXT = (b"content-type", b"text/plain; charset=utf-8")
BINARY = (b"content-type", b"application/octet-stream")
TEN_KIB = b"x" * (PIECES * KIB)
ONE_KIB = b"x" * KIB


async def whole(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    headers = [TEXT, (b"content-length", b"%d" % len(TEN_KIB))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": TEN_KIB})


async def echo(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = [BINARY, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    for left in reversed(range(PIECES)):
        await send({"type": "http.response.body", "body": ONE_KIB, "more_body": left > 0})


async def file(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path = os.environ["BENCH_FILE"]
    headers = [BINARY, (b"content-length", b"%d" % os.stat(path).st_size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if "http.response.pathsend" in (scope.get("extensions") or {}):
        await send({"type": "http.response.pathsend", "path": path})
    else:
        # Not with a thread: for a file in the page cache that would only add to what others need.
        with open(path, "rb") as opened:  # noqa: ASYNC230
            await send({"type": "http.response.body", "body": opened.read()})
