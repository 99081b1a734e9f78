"""THE table of settings: one field of `Settings` is one row, and everything else about a setting follows from it.

A row says what the setting is called here and elsewhere, how it is written on the command line and in the
environment, which values fit, whether a reload (HUP) can change it, and what it does. From the rows come the
command line and its `--help`, the annotated `conf/palfrey.conf.py` and `docs/settings.md` (`render.py`), and what
each source may hold (`sources.py`). A new setting is a new field, and nothing anywhere else.

Names: the command line is spelled as uvicorn's users know it, the configuration file as Gunicorn's do; where the two
differ, one is canonical and the other an alias (`also` for flags, `aliases` for names). What other servers' names mean
that Palfrey accepts without effect is in `foreign.py`.

This module is imported by the arbiter, so it imports nothing that is large; `Settings` is plain frozen data.
"""

# ruff: noqa: RUF009 - row() is a field specifier, which ruff cannot know.

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from palfrey.config.parsers import (
    CountOrAuto,
    Hook,
    Parser,
    Shape,
    account,
    assignment,
    boolean,
    choice,
    count_or_auto,
    directory,
    free_field_name,
    header,
    hook,
    integer,
    logging_configuration,
    many,
    numbered,
    octal,
    path,
    peers,
    seconds,
    size,
    some,
    text,
    truth,
    worker_class_name,
)

T = TypeVar("T")

APPLICATION: Final = "Application"
SOCKETS: Final = "Sockets"
WORKERS: Final = "Workers"
DEVELOPMENT: Final = "Development"
HTTP: Final = "HTTP"
HTTP2: Final = "HTTP/2"
TLS: Final = "TLS"
PROCESS: Final = "Process"
LOGGING: Final = "Logging"
HOOKS: Final = "Hooks"
GROUPS: Final = (APPLICATION, SOCKETS, WORKERS, DEVELOPMENT, HTTP, HTTP2, TLS, PROCESS, LOGGING, HOOKS)

NEEDS: Final = {HTTP2: ("http", "h2")}
"""Groups whose rows have no effect unless that setting has that value."""

_HTTP_NAMES: Final = (
    {"fast": "httptools", "python": "h11"}  # Gunicorn's http_parser
    | {"h1": "auto", "h2,h1": "h2", "h2, h1": "h2"}  # its http_protocols, the preferred one first
    | {"1": "auto", "2": "h2"}  # Granian's --http
)
"""Other servers' words for `http`. None of them turns HTTP/1.1 away: Gunicorn serves it beside its "h2" as well, and
Granian's "2" asks for what is still offered."""
_WINDOW_MOST: Final = 2**31 - 1
"""RFC 9113 section 6.9.1; and streams have no more numbers than that either (section 5.1.1)."""
_TLS_VERSIONS: Final = {"tlsv1.2": "1.2", "tlsv1_2": "1.2", "tlsv1.3": "1.3", "tlsv1_3": "1.3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Everything there is to know about one setting."""

    name: str
    """The canonical name: attribute of `Settings`, and what messages call it."""
    type: str
    """The annotation of the field, for people."""
    default: object
    parser: Parser[Any]
    group: str
    doc: str
    flags: tuple[str, ...]
    """As shown in --help; a switch's `--no-` forms are not listed. Empty: not on the command line."""
    also: tuple[str, ...]
    """Other servers' flags for it: accepted, not shown in --help."""
    aliases: tuple[str, ...]
    """Other servers' names for it, in the configuration file."""
    env: tuple[str, ...]
    """Environment variables, the first one that is set wins. Empty: not in the environment."""
    reloadable: bool
    """Whether a reload (HUP) can change it; otherwise only a new start."""
    metavar: str
    choices: tuple[str, ...]
    secret: bool
    """Its value is never printed (of a NAME=VALUE, the name is)."""


def row(
    default: T,
    parser: Parser[T],
    group: str,
    doc: str,
    *,
    flags: tuple[str, ...] | None = None,
    also: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    env: tuple[str, ...] = (),
    reloadable: bool = True,
    metavar: str | None = None,
    secret: bool = False,
) -> T:
    """Declares a field of `Settings`. Its flag and its variable follow from its name unless `flags` says otherwise.

    `env` holds variables beside PALFREY_<NAME>.
    """
    incomplete = Row(
        name="",
        type="",
        default=default,
        parser=parser,
        group=group,
        doc=doc,
        flags=flags if flags is not None else ("",),
        also=also,
        aliases=aliases,
        env=env,
        reloadable=reloadable,
        metavar=parser.metavar if metavar is None else metavar,
        choices=parser.choices,
        secret=secret,
    )
    return dataclasses.field(default=default, repr=not secret, metadata={"row": incomplete})


def _hook_row(doc: str, *arguments: str) -> Hook | None:
    return row(None, hook(*arguments), HOOKS, doc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one server, checked. `sources.resolve` makes it; every field has a default."""

    # -- Application ---------------------------------------------------------------------------------------------
    app: str | None = row(
        None,
        text("MODULE:ATTRIBUTE", "an application such as main:app"),
        APPLICATION,
        "What to serve: `main:app`, `package.module:factory` with --factory, or a module alone (its `app` or "
        "`application`). On the command line it is the argument.",
        flags=(),
        aliases=("wsgi_app",),
    )
    factory: bool = row(
        False,
        boolean,
        APPLICATION,
        "The application is a function without arguments that returns the application.",
    )
    app_dir: str | None = row(
        None,
        directory,
        APPLICATION,
        "Import the application from this directory. Default: the directory that the server works in.",
        also=("--pythonpath",),
        aliases=("pythonpath",),
    )
    interface: str = row(
        "auto",
        choice("auto", "asgi3", "asgi2", "wsgi", synonyms={"asgi": "asgi3"}),
        APPLICATION,
        "How the application is called; auto goes by what it is called with, where that tells.",
    )
    threads: int = row(
        4,
        integer(0, 1024),
        APPLICATION,
        "Threads of a worker that run a WSGI application. 0: it runs on the worker's event loop, for applications that "
        "never wait long; its requests are read whole first. Without effect on ASGI.",
        also=("--blocking-threads",),
        aliases=("blocking_threads",),
    )
    lifespan: str = row(
        "auto",
        choice("auto", "on", "off"),
        APPLICATION,
        'ASGI\'s startup and shutdown events: on insists on them, auto takes an exception for "not supported".',
        also=("--asgi-lifespan",),
        aliases=("asgi_lifespan",),
    )
    root_path: str = row(
        "",
        text("PATH", "a path", empty=True),
        APPLICATION,
        "ASGI's root_path, for an application that a proxy serves below this path.",
    )
    env_file: str | None = row(
        None,
        path(expects="a file of NAME=VALUE lines"),
        APPLICATION,
        "Put the variables in this file into the workers' environment, where they are not set yet; PALFREY_* among "
        "them are settings. Needs palfrey[dotenv].",
    )
    raw_env: tuple[str, ...] = row(
        (),
        many(assignment),
        APPLICATION,
        "Set this variable in the workers' environment, whatever it was before.",
        flags=("-e", "--env"),
        secret=True,
    )

    # -- Sockets -------------------------------------------------------------------------------------------------
    bind: tuple[str, ...] = row(
        (),
        many(text("ADDRESS", "an address")),
        SOCKETS,
        "Listen on HOST:PORT, [V6]:PORT, unix:/PATH, fd://N or systemd:NAME (a socket unit's FileDescriptorName). "
        "Takes the place of host, port, uds and fd.",
        flags=("-b", "--bind"),
    )
    host: str = row("127.0.0.1", text("HOST", "a host name or address"), SOCKETS, "Listen on this name or address.")
    port: int = row(
        8000,
        integer(0, 65535, "PORT"),
        SOCKETS,
        "Listen on this port; 0 takes a free one and prints it. PORT alone in the environment also makes the host "
        "0.0.0.0, as platforms that set it expect.",
        env=("PORT",),
    )
    uds: str | None = row(
        None, text("PATH", "a path"), SOCKETS, "Listen on a UNIX socket at this path instead of a host and port."
    )
    fd: int | None = row(
        None, integer(0), SOCKETS, "Listen on the socket that is inherited as this file descriptor instead."
    )
    backlog: int = row(
        2048,
        integer(1),
        SOCKETS,
        "How many connections may wait to be accepted (the kernel's own limit, somaxconn, holds too).",
        reloadable=False,
    )
    socket_mode: int | None = row(
        None, octal("permissions", 0o7777), SOCKETS, "Permissions of UNIX sockets, such as 660.", reloadable=False
    )
    socket_owner: str | None = row(
        None, text("USER[:GROUP]", "USER or USER:GROUP"), SOCKETS, "Owner of UNIX sockets.", reloadable=False
    )

    # -- Workers -------------------------------------------------------------------------------------------------
    workers: CountOrAuto = row(
        1,
        count_or_auto(1, 512),
        WORKERS,
        "How many worker processes serve. auto: as many as there are CPUs for this process, by its affinity and its "
        "cgroup's quota.",
        flags=("-w", "--workers"),
        env=("WEB_CONCURRENCY",),
    )
    worker_class: str = row(
        "asgi",
        worker_class_name,
        WORKERS,
        "Accepted for Gunicorn's sake, without effect: there is one kind of worker.",
        flags=("-k", "--worker-class"),
    )
    worker_connections: int = row(
        0,
        integer(0),
        WORKERS,
        "How many connections one worker may hold at a time; further ones wait to be accepted, by this worker or "
        "another. Never more than its limit of open files allows, less a tenth for the application (0: as many).",
    )
    timeout: float = row(
        30.0,
        seconds("off"),
        WORKERS,
        "A worker whose event loop has not turned for this long is stuck: its stack is logged, halfway already, and it "
        "is replaced (0: off).",
        flags=("-t", "--timeout"),
        also=("--timeout-worker-healthcheck",),
        aliases=("timeout_worker_healthcheck",),
    )
    request_timeout: float = row(
        0.0,
        seconds("off"),
        WORKERS,
        "A request that the application has not answered for this long is stuck: what it waits for is logged, and its "
        "worker replaced once a successor is ready. Time spent waiting for a slow client does not end a worker. It "
        "holds for streams too (0: off).",
    )
    boot_timeout: float = row(
        60.0,
        seconds("off"),
        WORKERS,
        "A worker that is not ready to serve this long after its start is given up (0: off).",
    )
    max_surge: int = row(
        1,
        integer(1, 512),
        WORKERS,
        "How many workers a reload, or the replacing of workers that have reached a limit, may have beyond the wanted "
        "number at one time: each starts beside the one that it is to replace.",
    )
    upgrade: str = row(
        "auto",
        choice("auto", "manual"),
        WORKERS,
        "What follows in a binary upgrade (USR2) once the new process serves: auto, the old one hands over, finishes "
        "what it has begun and ends; manual, both serve until you end one.",
    )
    preload_app: bool = row(
        False,
        boolean,
        WORKERS,
        "Import the application once, in a process that then forks the workers: they share its memory and start "
        "faster. A reload imports it anew. Linux only; see docs/operations.md, Preloading.",
        also=("--preload",),
    )
    graceful_timeout: float = row(
        30.0,
        seconds("do not wait"),
        WORKERS,
        "How long requests in flight may take to finish when a worker ends (0: do not wait).",
        also=("--timeout-graceful-shutdown",),
        aliases=("timeout_graceful_shutdown",),
    )
    drain_delay: float = row(
        0.0,
        seconds("off"),
        WORKERS,
        "At TERM first say that the service is not ready, and serve new connections for this long before the graceful "
        "stop, so that a load balancer has looked elsewhere by then (0: off). A second TERM ends the wait.",
    )
    max_requests: int = row(
        0,
        integer(0),
        WORKERS,
        "Replace a worker after this many requests (0: never).",
        also=("--limit-max-requests",),
        aliases=("limit_max_requests",),
    )
    max_requests_jitter: int = row(
        0,
        integer(0),
        WORKERS,
        "Add up to this many to max_requests, at random for each worker, so that they are not replaced together.",
        also=("--limit-max-requests-jitter",),
        aliases=("limit_max_requests_jitter",),
    )
    max_memory: int = row(
        0,
        size("never"),
        WORKERS,
        "Replace a worker whose own memory is larger than this: 512m, 1.5g. What it shares with others counts by its "
        "share (PSS; USS on macOS) (0: never).",
    )
    max_lifetime: float = row(0.0, seconds("never"), WORKERS, "Replace a worker that is older than this (0: never).")
    max_lifetime_jitter: float = row(
        0.0,
        seconds("none"),
        WORKERS,
        "Add up to this many seconds to max_lifetime, at random for each worker, so that they are not replaced "
        "together.",
    )
    loop: str = row(
        "auto",
        choice("auto", "uvloop", "asyncio"),
        WORKERS,
        "The workers' event loop; auto is uvloop where it is installed.",
        also=("--asgi-loop",),
        aliases=("asgi_loop",),
    )
    http: str = row(
        "auto",
        choice("auto", "httptools", "h11", "h2", synonyms=_HTTP_NAMES),
        WORKERS,
        "h2 serves HTTP/2 beside HTTP/1.1: over TLS to clients that choose it (ALPN), without TLS to those that begin "
        "with its preface (prior knowledge). The others serve HTTP/1.1 alone, and name the parser that has to agree "
        "with the server's own reading of its heads, whose verdicts are the same; auto, and h2, take httptools where "
        "it is installed.",
        also=("--http-parser", "--http-protocols"),
        aliases=("http_parser", "http_protocols"),
    )

    # -- Development ---------------------------------------------------------------------------------------------
    reload: bool = row(
        False,
        boolean,
        DEVELOPMENT,
        "Reload when files change; for development. One worker serves, timeout and boot_timeout are off unless they "
        "are set, and graceful_timeout is a second.",
        reloadable=False,
    )
    reload_dirs: tuple[str, ...] = row(
        (),
        many(text("DIR", "a directory")),
        DEVELOPMENT,
        "Watch this directory, with those below it, instead of the one that the server works in and app_dir.",
        flags=("--reload-dir",),
    )
    reload_include: tuple[str, ...] = row(
        (),
        many(text("GLOB", "a pattern such as *.html")),
        DEVELOPMENT,
        "Watch files that match this pattern too (a directory: watch that too). Beside *.py, unless that is excluded.",
    )
    reload_exclude: tuple[str, ...] = row(
        (),
        many(text("GLOB", "a pattern such as test_*.py")),
        DEVELOPMENT,
        "Do not watch files and directories that match this pattern. Beside .*, .py[cod], .sw.* and ~*, unless those "
        "are included.",
    )
    reload_delay: float = row(
        0.05,
        seconds("at once"),
        DEVELOPMENT,
        "Reload when files have not changed any further for this long.",
    )
    reload_engine: str = row(
        "auto",
        choice("auto", "watchfiles", "poll", synonyms={"inotify": "watchfiles"}),
        DEVELOPMENT,
        "How changes are noticed: watchfiles (palfrey[reload]) is told of them by the system, poll looks at each file, "
        "which works on network and virtual file systems too; auto is watchfiles where it is installed.",
    )
    reload_extra_files: tuple[str, ...] = row(
        (),
        many(text("FILE", "a path")),
        DEVELOPMENT,
        "Watch this file too, whatever its name. The configuration file, env_file and log_config always are.",
        flags=("--reload-extra-file",),
    )

    # -- HTTP ----------------------------------------------------------------------------------------------------
    server_header: bool = row(True, boolean, HTTP, "Send a server header where the application sends none.")
    date_header: bool = row(True, boolean, HTTP, "Send a date header where the application sends none.")
    headers: tuple[tuple[str, str], ...] = row(
        (),
        many(header, separator=None),
        HTTP,
        "Send this header with each response where the application does not send it itself.",
        flags=("--header",),
    )
    proxy_headers: bool = row(
        True,
        boolean,
        HTTP,
        "Take the client's address and the scheme from what trusted proxies say: see forwarded_allow_ips and "
        "forwarded_fields.",
    )
    forwarded_allow_ips: str = row(
        "127.0.0.1,::1,unix",
        peers,
        HTTP,
        "The proxies that are believed: addresses, networks, paths of UNIX sockets, unix for all UNIX sockets, or * "
        "for everybody.",
        env=("FORWARDED_ALLOW_IPS",),
    )
    forwarded_fields: tuple[str, ...] = row(
        ("x-forwarded-for", "x-forwarded-proto"),
        some(
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "forwarded",
        ),
        HTTP,
        "The fields that these proxies are believed in. Name those that your proxy sets, and no others: what it passes "
        "on from its client is that client's own say. forwarded (RFC 7239) stands in the place of the first four.",
    )
    header_map: str = row(
        "keep",
        choice("keep", "drop", "refuse", synonyms={"dangerous": "keep"}),
        HTTP,
        "Request headers with an underscore in their name, which WSGI and CGI cannot tell from a dash: keep them, drop "
        "them, or refuse the request with 400.",
    )
    limit_concurrency: int = row(
        0, integer(0), HTTP, "Answer 503 when this many requests are in flight in a worker (0: no limit)."
    )
    timeout_keep_alive: float = row(
        5.0,
        seconds("close after each response"),
        HTTP,
        "Close a connection that has been idle for this long (0: after each response).",
        also=("--keep-alive",),
        aliases=("keepalive",),
    )
    timeout_first_byte: float = row(
        10.0, seconds("off"), HTTP, "Close a new connection whose client has said nothing for this long (0: off)."
    )
    timeout_request_header: float = row(
        10.0,
        seconds("off"),
        HTTP,
        "How long a client may take to send the head of a request, from its first byte on; then it is answered with "
        "408 (0: off).",
    )
    timeout_request_body: float = row(
        30.0,
        seconds("off"),
        HTTP,
        "How far a client may fall behind in sending a body that the application waits for: by standing still for "
        "this long, or by sending less than min_data_rate; then it is answered with 408 (0: off).",
    )
    timeout_write: float = row(
        60.0,
        seconds("off"),
        HTTP,
        "How far a client may fall behind in reading a response, likewise; then its connection is reset (0: off).",
    )
    min_data_rate: int = row(
        240,
        integer(0),
        HTTP,
        "Bytes a second below which a client falls behind with a body or a response (0: only when it stands still).",
    )
    timeout_linger: float = row(
        5.0,
        seconds("close at once"),
        HTTP,
        "How long to read on, and drop it, what a client sends while its connection is being closed: closed at once, "
        "it might never see its answer (0: close at once).",
    )
    limit_connection_requests: int = row(
        0,
        integer(0),
        HTTP,
        "Close a connection after this many requests (0: no limit; nothing grows with their number).",
        aliases=("keep_alive_max_requests",),
    )
    limit_read_ahead: int = row(
        65536,
        integer(0),
        HTTP,
        "How many bytes of a body that the application has not taken yet, or of requests that wait for their turn, "
        "are read from a connection; up to one read of the event loop's (256 KB) may come on top.",
    )
    ws: str = row(
        "auto",
        choice("auto", "none", synonyms={"websockets": "auto", "websockets-sansio": "auto", "wsproto": "auto"}),
        HTTP,
        "Whether requests for WebSockets are taken: auto, or none, which serves them as plain ones.",
    )
    ws_max_size: int = row(
        16777216,
        size("no limit"),
        HTTP,
        "Longest WebSocket message in bytes, over its fragments and inflated; a longer one closes the connection with "
        "1009. 0: no limit.",
        also=("--websocket-max-message-size",),
        aliases=("websocket_max_message_size",),
    )
    ws_max_frames: int = row(
        131072,
        integer(0),
        HTTP,
        "Most frames of one WebSocket message; more close the connection with 1008. 0: no limit.",
    )
    ws_max_queue: int = row(
        32,
        integer(0),
        HTTP,
        "WebSocket messages that may wait for the application before no more are read, beside limit_read_ahead's "
        "bytes. 0: that alone.",
    )
    ws_ping_interval: float = row(20.0, seconds("never"), HTTP, "How often a WebSocket's client is pinged. 0: never.")
    ws_ping_timeout: float = row(
        20.0,
        seconds("for ever"),
        HTTP,
        "How long a pinged client may say nothing before its WebSocket is closed with 1011. 0: for ever.",
    )
    ws_idle_timeout: float = row(
        0.0,
        seconds("for ever"),
        HTTP,
        "How long a WebSocket may carry no message before it is closed with 1001. 0: for ever.",
    )
    ws_per_message_deflate: bool = row(
        True, truth, HTTP, "Compress WebSocket messages for clients that offer it (permessage-deflate)."
    )
    ws_deflate_window_bits: int = row(
        12,
        integer(9, 15),
        HTTP,
        "log2 of the windows of permessage-deflate: memory of a WebSocket against the size of its messages. 12 costs "
        "some 40 KB.",
    )
    ws_deflate_takeover: bool = row(
        True,
        boolean,
        HTTP,
        "Whether a compressed message may refer to those before it: smaller messages, and the windows' memory for as "
        "long as the WebSocket lives.",
    )
    limit_request_line: int = row(
        8190, integer(64), HTTP, "Longest request line in bytes; a longer one is answered with 414."
    )
    limit_request_fields: int = row(
        100, integer(1), HTTP, "Most header fields in a request; more are answered with 431."
    )
    limit_request_field_size: int = row(
        8190,
        integer(64),
        HTTP,
        "Longest header field (name and value) in bytes; a longer one is answered with 431.",
        also=("--limit-request-field_size",),
    )
    limit_request_head: int = row(
        65536,
        integer(256),
        HTTP,
        "Longest head of a request, all lines together, in bytes; a longer one is answered with 431.",
    )
    limit_request_body: int = row(
        0, integer(0), HTTP, "Largest request body in bytes; a larger one is answered with 413 (0: no limit)."
    )

    # -- HTTP/2 --------------------------------------------------------------------------------------------------
    http2_max_concurrent_streams: int = row(
        100,
        integer(1, _WINDOW_MOST),
        HTTP2,
        "Requests that one connection may have in hand at a time; further ones are refused, and a client sends them "
        "again once others are done. Applications that work on for requests that were cancelled have as many places "
        "again.",
        aliases=("h2_max_concurrent_streams",),
    )
    http2_initial_window_size: int = row(
        262144,
        integer(1024, _WINDOW_MOST),
        HTTP2,
        "How many bytes of one request's body may come before the application takes any.",
        also=("--http2-initial-stream-window-size",),
    )
    http2_initial_connection_window_size: int = row(
        1048576,
        integer(65535, _WINDOW_MOST),
        HTTP2,
        "The same for all bodies of a connection together.",
    )
    http2_max_frame_size: int = row(
        16384,
        integer(16384, 16777215),
        HTTP2,
        "Longest frame, in bytes, that a client may send.",
        aliases=("h2_max_inbound_frame_size",),
    )
    http2_max_resets: int = row(
        500,
        integer(0),
        HTTP2,
        "How many requests of one connection may be reset before they are answered, by its client or by its fault; a "
        "thirtieth of it comes back each second. More close the connection (0: no limit).",
    )
    http2_max_control_frames: int = row(
        2000,
        integer(0),
        HTTP2,
        "How many frames that ask for nothing a connection may bring: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty "
        "DATA, unknown ones. A thirtieth of it comes back each second, and requests earn some. More close the "
        "connection (0: no limit).",
    )
    http2_max_continuations: int = row(
        32,
        integer(1),
        HTTP2,
        "How many CONTINUATION frames one head may take; more close the connection.",
    )

    # -- TLS -----------------------------------------------------------------------------------------------------
    ssl_certfile: str | None = row(
        None,
        path(expects="a PEM file"),
        TLS,
        "The certificate with its chain, in PEM form. Turns TLS on.",
        also=("--certfile",),
        aliases=("certfile",),
    )
    ssl_keyfile: str | None = row(
        None,
        path(expects="a PEM file"),
        TLS,
        "The certificate's private key, where it is in a file of its own.",
        also=("--keyfile",),
        aliases=("keyfile",),
    )
    ssl_keyfile_password: str | None = row(
        None, text("PASSWORD", "a password"), TLS, "The password of the private key.", secret=True
    )
    ssl_ca_certs: str | None = row(
        None,
        path(expects="a PEM file"),
        TLS,
        "The authorities that clients' certificates are checked against.",
        also=("--ca-certs",),
        aliases=("ca_certs",),
    )
    ssl_cert_reqs: int = row(
        0,
        numbered("none", "optional", "required"),
        TLS,
        "Whether clients are asked for a certificate: none (0), optional (1) or required (2), as ssl.CERT_*.",
        also=("--cert-reqs",),
        aliases=("cert_reqs",),
    )
    ssl_ciphers: str | None = row(
        None,
        text("LIST", "a list of ciphers"),
        TLS,
        "The ciphers of TLS 1.2, as OpenSSL lists them. Default: those with forward secrecy and authenticated "
        "encryption.",
        also=("--ciphers",),
        aliases=("ciphers",),
    )
    ssl_min_version: str = row(
        "1.2",
        choice("1.2", "1.3", synonyms=_TLS_VERSIONS),
        TLS,
        "The oldest version of TLS that clients may speak.",
    )
    ssl_handshake_timeout: float = row(
        10.0, seconds(), TLS, "How long a client may take to complete the TLS handshake."
    )
    ssl_reload_interval: float = row(
        0.0,
        seconds("never"),
        TLS,
        "Look at the TLS files this often, and when they have changed and fit together, reload as on HUP (0: never).",
    )

    # -- Process -------------------------------------------------------------------------------------------------
    daemon: bool = row(
        False,
        boolean,
        PROCESS,
        "Run in the background.",
        flags=("-D", "--daemon"),
        reloadable=False,
    )
    pidfile: str | None = row(
        None, path(), PROCESS, "Write the arbiter's process id to this file.", flags=("-p", "--pid"), reloadable=False
    )
    user: str | None = row(
        None,
        account("USER"),
        PROCESS,
        "Run the workers as this user, once the sockets are bound and the TLS key is read.",
        flags=("-u", "--user"),
        reloadable=False,
    )
    group: str | None = row(
        None, account("GROUP"), PROCESS, "Run the workers as this group.", flags=("-g", "--group"), reloadable=False
    )
    umask: int | None = row(
        None,
        octal("a mask", 0o777),
        PROCESS,
        "The mask of permissions for files that the server makes, in octal (022, 22 and 0o22 are the same).",
        flags=("-m", "--umask"),
        reloadable=False,
    )
    chdir: str | None = row(
        None,
        path("DIR", "a directory"),
        PROCESS,
        "Work in this directory; other relative paths start from it. A symbolic link in it is followed anew at each "
        "reload.",
        reloadable=False,
    )
    proc_name: str | None = row(
        None,
        text("NAME", "a name"),
        PROCESS,
        "What stands in brackets in the processes' titles. Default: the application.",
        flags=("-n", "--name"),
    )

    # -- Logging -------------------------------------------------------------------------------------------------
    log_level: str = row(
        "info",
        choice("critical", "error", "warning", "info", "debug", "trace"),
        LOGGING,
        "How much the error log tells.",
        aliases=("loglevel",),
    )
    log_config: str | dict[str, Any] | None = row(
        None,
        logging_configuration,
        LOGGING,
        "Configure Python's logging from this file: .json, .yaml (palfrey[yaml]) or .ini; in the configuration file "
        "also a dictionary.",
        also=("--log-config-json",),
        aliases=("logconfig", "logconfig_json", "logconfig_dict"),
    )
    access_log: bool = row(True, boolean, LOGGING, "Log each request.")
    accesslog: str | None = row(
        "-",
        path(expects="a path, or - for stdout"),
        LOGGING,
        "Where the access log goes: a file, or - for stdout. None in the configuration file turns it off.",
        flags=("--access-logfile",),
    )
    errorlog: str = row(
        "-",
        path(expects="a path, or - for stderr"),
        LOGGING,
        "Where the error log goes: a file, or - for stderr.",
        flags=("--error-logfile",),
        also=("--log-file",),
    )
    access_log_format: str | None = row(
        None,
        text("FORMAT", "uvicorn, combined, json, or a format of %(name)s atoms"),
        LOGGING,
        "The access log's lines: uvicorn (the default), combined, json, or in Gunicorn's atoms: %(h)s %(r)s %(s)s "
        '%(b)s %(D)s "%({user-agent}i)s" and so on.',
        flags=("--access-logformat",),
        also=("--access-log-format",),
    )
    request_id: str | None = row(
        None,
        free_field_name,
        LOGGING,
        'Give each request an id, which this response header, scope["state"]["request_id"] and the logs have. A '
        "trusted proxy's is taken from the request header of that name. x-request-id is a usual one. Default: no ids.",
    )
    use_colors: bool | None = row(None, boolean, LOGGING, "Colour the log. Default: on a terminal.")

    # -- Hooks ---------------------------------------------------------------------------------------------------
    on_starting: Hook | None = _hook_row("Before anything is bound, in the arbiter.", "server")
    on_reload: Hook | None = _hook_row("When a reload (HUP) begins, in the arbiter.", "server")
    when_ready: Hook | None = _hook_row(
        "When the server listens and its first workers serve, in the arbiter.", "server"
    )
    pre_fork: Hook | None = _hook_row("Before a worker is forked, in the arbiter.", "server", "worker")
    post_fork: Hook | None = _hook_row("After a worker was forked, in the worker.", "server", "worker")
    post_worker_init: Hook | None = _hook_row("When a worker has loaded the application and serves.", "worker")
    worker_int: Hook | None = _hook_row("When a worker is told to end at once, in the worker.", "worker")
    worker_abort: Hook | None = _hook_row("When a worker was stuck and is aborted, in the worker.", "worker")
    pre_exec: Hook | None = _hook_row(
        "Before the arbiter starts its successor in a binary upgrade (USR2), in the old arbiter.", "server"
    )
    child_exit: Hook | None = _hook_row("When a worker has ended, in the arbiter.", "server", "worker")
    worker_exit: Hook | None = _hook_row("When a worker ends, in the worker.", "server", "worker")
    nworkers_changed: Hook | None = _hook_row(
        "When the number of workers was set or changed, in the arbiter; old_value is None the first time.",
        "server",
        "new_value",
        "old_value",
    )
    on_exit: Hook | None = _hook_row("Before the arbiter ends.", "server")
    ssl_context: Hook | None = _hook_row(
        "Makes the TLS context: returns an ssl.SSLContext, or adjusts what default_ssl_context_factory() returns.",
        "config",
        "default_ssl_context_factory",
    )

    def binds(self) -> tuple[str, ...]:
        """The addresses to listen on, each in the form that `--bind` takes."""
        if self.bind:
            return self.bind
        if self.fd is not None:
            return (f"fd://{self.fd}",)
        if self.uds is not None:
            return (f"unix:{self.uds}",)
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return (f"{host}:{self.port}",)


BIND_GROUP: Final = ("bind", "host", "port", "uds", "fd")
"""Say one thing together: where to listen. The highest source that sets any of them decides alone."""


def _complete(field: dataclasses.Field[Any]) -> Row:
    found: Row = field.metadata["row"]
    name = field.name
    code = found.parser.shape is Shape.CODE
    flags = () if code else tuple(flag or "--" + name.replace("_", "-") for flag in found.flags)
    env = () if code else ("PALFREY_" + name.upper(), *found.env)
    return dataclasses.replace(found, name=name, type=str(field.type), flags=flags, env=env)


ROWS: Final[dict[str, Row]] = {field.name: _complete(field) for field in dataclasses.fields(Settings)}
"""Every row by its canonical name, in the order of the table."""

ARBITERS: Final = (
    *("workers", "max_requests", "max_memory", "max_lifetime", "request_timeout"),
    *("user", "group", "umask", "chdir", "proc_name", "daemon", "pidfile", "reload", "drain_delay"),
    *("ssl_reload_interval", *(row.name for row in ROWS.values() if row.group == HOOKS and row.name != "ssl_context")),
)
"""Settings that Palfrey's arbiter sees to, and that a process without it would pass over: a `user` above all, or a
hook."""

ALIASES: Final[dict[str, str]] = {alias: row.name for row in ROWS.values() for alias in row.aliases}
"""Other servers' names in the configuration file -> the canonical name."""


def canonical(name: str) -> str | None:
    """The canonical name of a setting by any of its names, or None."""
    return name if name in ROWS else ALIASES.get(name)
