"""What is measured: one row a scenario, and who takes part in it.

A scenario says what is asked for, what the answer must be (it is checked once before the load: a server that answers
something else would be measured on something else), and which contestants of `servers.py` can do it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

KIB = 1024
HELLO = b"Hello, world!"
JSON = b'{"message":"Hello, world!","numbers":[1,2,3]}'

ASGI = ("palfrey", "uvicorn", "granian", "gunicorn", "hypercorn")
FLOORS = ("constant", "nginx")

WEBSOCKETS = ("palfrey", "uvicorn", "gunicorn", "granian", "picows")

BROWSER = (
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8,fr;q=0.7"),
    ("Cache-Control", "max-age=0"),
    ("Cookie", "session=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; theme=dark; consent=yes"),
    ("DNT", "1"),
    ("Priority", "u=0, i"),
    ("Referer", "https://www.example.com/products/overview?page=2&sort=name"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-User", "?1"),
    ("Upgrade-Insecure-Requests", "1"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"),
)
"""With Host: the 15 fields that a browser sends today."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """What goes over a WebSocket."""

    size: int
    """Bytes."""
    text: bool = False
    """As text; else as bytes."""
    broadcast: bool = False
    """One sends, and everybody receives; else each sends and has it back."""
    deflate: bool = False
    """permessage-deflate has been agreed to."""


@dataclass(frozen=True, kw_only=True)
class Http2:
    """How HTTP/2 is spoken."""

    connections: int
    streams: int
    """Requests at a time over each of them."""
    paths: int = 0
    """As many are asked for in turn; 0 for / alone."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row. `app` is module:attribute in benchmarks/apps."""

    name: str
    title: str
    group: str
    """The figure that it is drawn in."""
    app: str = "hello:app"
    answer: bytes = HELLO
    contestants: tuple[str, ...] = (*ASGI, *FLOORS)
    method: str = "GET"
    content: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    log: bool = False
    """Each contestant writes its access log to a file, which must grow by a line a request."""
    tls: bool = False
    close: bool = False
    """A new connection for each request."""
    file: int = 0
    """Bytes of the file that is served, 0 for none."""
    websocket: Message | None = None
    """The messages of a scenario that loads WebSockets instead of sending requests."""
    http2: Http2 | None = None
    """Asked over HTTP/2; else over HTTP/1.1."""
    threads: int | None = None
    """So many run the application, which is WSGI's, where a server can be told; 0 for none. None: it is ASGI's."""
    script: str = ""
    """What wrk runs, a file of benchmarks/; where options do not say it all."""

    @property
    def message(self) -> Message:
        """Raises ValueError where requests are sent."""
        if self.websocket is None:
            raise ValueError(f"{self.name} has no WebSockets")
        return self.websocket

    @property
    def streams(self) -> Http2:
        """Raises ValueError where HTTP/1.1 is spoken."""
        if self.http2 is None:
            raise ValueError(f"{self.name} is not of HTTP/2")
        return self.http2


PLAIN, CONTENT, FRAMEWORKS, CONNECTIONS = "plain", "content", "frameworks", "connections"
MESSAGES = "websockets"
WSGI = "wsgi"
HTTP2, HTTP2_TLS = "http2", "http2-tls"
GROUPS = {
    PLAIN: "Hello, world: 13 bytes, 64 keep-alive connections",
    CONTENT: "Content",
    FRAMEWORKS: "Frameworks",
    CONNECTIONS: "TLS, and a new connection for each request",
    MESSAGES: "WebSocket messages, 64 connections",
    WSGI: "WSGI: hello, world, 64 keep-alive connections",
    HTTP2: "HTTP/2, cleartext",
    HTTP2_TLS: "HTTP/2 over TLS",
}

SHAPES: dict[str, tuple[int, int, bool]] = {
    "8x16": (8, 16, False),
    "64x1": (64, 1, False),
    "8x16-tls": (8, 16, True),
    "64x1-tls": (64, 1, True),
}
"""How HTTP/2 is spoken: connections, requests at a time over each, whether over TLS. Each in each scenario of it."""


def shape_title(shape: str) -> str:
    """`8 x 16 streams, TLS`."""
    connections, streams, tls = SHAPES[shape]
    return f"{connections} x {streams} stream{'s' * (streams > 1)}{', TLS' * tls}"


def _over_http2(
    name: str,
    title: str,
    *,
    contestants: tuple[str, ...] = ("palfrey", "granian", "gunicorn", "nginx"),
    paths: int = 0,
    like: Scenario,
) -> tuple[Scenario, ...]:
    """What the scenario asks for, over HTTP/2 in each shape."""
    return tuple(
        replace(
            like,
            name=f"h2-{name}-{shape}",
            title=f"HTTP/2, {title}, {shape_title(shape)}",
            group=HTTP2_TLS if tls else HTTP2,
            contestants=contestants,
            tls=tls,
            http2=Http2(connections=connections, streams=streams, paths=paths),
            script="",
        )
        for shape, (connections, streams, tls) in SHAPES.items()
    )


_OVER_HTTP1: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="hello", title="hello, access log off", group=PLAIN),
        Scenario(
            name="hello-log",
            title="hello, access log to a file",
            group=PLAIN,
            log=True,
            contestants=(*ASGI, "palfrey-quiet", "nginx"),
        ),
        Scenario(name="headers", title="15 headers, as a browser sends", group=PLAIN, headers=BROWSER),
        Scenario(
            name="varied",
            title="the same with a request id, 1,000 paths: no two requests alike",
            group=PLAIN,
            headers=BROWSER,
            script="varied.lua",
        ),
        Scenario(name="get-10k", title="GET 10 KB", group=CONTENT, app="content:whole", answer=b"x" * 10 * KIB),
        Scenario(
            name="echo-10k",
            title="POST 10 KB, echoed",
            group=CONTENT,
            app="content:echo",
            answer=b"x" * 10 * KIB,
            method="POST",
            content=b"x" * 10 * KIB,
            script="post.lua",
            contestants=ASGI,
        ),
        Scenario(
            name="stream",
            title="stream of 10 x 1 KB",
            group=CONTENT,
            app="content:stream",
            answer=b"x" * 10 * KIB,
            contestants=ASGI,
        ),
        Scenario(
            name="file",
            title="file of 50 KB (pathsend where offered)",
            group=CONTENT,
            app="content:file",
            answer=b"x" * 50 * KIB,
            file=50 * KIB,
            contestants=(*ASGI, "nginx"),
        ),
        Scenario(
            name="starlette",
            title="Starlette, JSON",
            group=FRAMEWORKS,
            app="starlette_json:app",
            answer=JSON,
            contestants=ASGI,
        ),
        Scenario(
            name="fastapi",
            title="FastAPI, JSON",
            group=FRAMEWORKS,
            app="fastapi_json:app",
            answer=JSON,
            contestants=ASGI,
        ),
        Scenario(name="tls", title="hello over TLS", group=CONNECTIONS, tls=True),
        Scenario(
            name="close",
            title="hello, a new connection each",
            group=CONNECTIONS,
            close=True,
            headers=(("Connection", "close"),),
        ),
        Scenario(
            name="wsgi",
            title="WSGI hello, without threads",
            group=WSGI,
            app="wsgi_hello:app",
            contestants=("palfrey", "granian", "waitress"),
            threads=0,
        ),
        Scenario(
            name="wsgi-threads",
            title="WSGI hello, 4 threads",
            group=WSGI,
            app="wsgi_hello:app",
            contestants=("palfrey", "waitress", "gthread"),
            threads=4,
        ),
        Scenario(
            name="ws-echo-64",
            title="WebSocket echo of 64 bytes",
            group=MESSAGES,
            app="websocket:echo",
            contestants=WEBSOCKETS,
            websocket=Message(size=64),
        ),
        Scenario(
            name="ws-echo-1k",
            title="WebSocket echo of 1 KB of text",
            group=MESSAGES,
            app="websocket:echo",
            contestants=WEBSOCKETS,
            websocket=Message(size=KIB, text=True),
        ),
        Scenario(
            name="ws-echo-64k",
            title="WebSocket echo of 64 KB",
            group=MESSAGES,
            app="websocket:echo",
            contestants=WEBSOCKETS,
            websocket=Message(size=64 * KIB),
        ),
        Scenario(
            name="ws-broadcast",
            title="WebSocket broadcast, 64 bytes of text from one to all",
            group=MESSAGES,
            app="websocket:room",
            contestants=WEBSOCKETS,
            websocket=Message(size=64, text=True, broadcast=True),
        ),
        Scenario(
            name="ws-deflate",
            title="WebSocket echo of 1 KB of JSON, permessage-deflate",
            group=MESSAGES,
            app="websocket:echo",
            contestants=("palfrey", "uvicorn"),  # the others decline it
            websocket=Message(size=KIB, text=True, deflate=True),
        ),
    )
}

SCENARIOS: dict[str, Scenario] = _OVER_HTTP1 | {
    scenario.name: scenario
    for scenario in (
        *_over_http2(
            "hello",
            "hello",
            like=_OVER_HTTP1["hello"],
            contestants=("palfrey", "palfrey-http1", "granian", "gunicorn", "hypercorn", "nginx"),
        ),
        *_over_http2("varied", "15 headers, 1,000 paths", like=_OVER_HTTP1["headers"], paths=1000),
        *_over_http2("get-10k", "GET 10 KB", like=_OVER_HTTP1["get-10k"]),
        *_over_http2(
            "echo-10k",
            "POST 10 KB, echoed",
            like=_OVER_HTTP1["echo-10k"],
            contestants=("palfrey", "granian", "gunicorn"),
        ),
    )
}
"""In the order of the report."""
