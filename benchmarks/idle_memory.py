"""What an idle keep-alive connection or WebSocket costs a server in memory.

    python -m benchmarks.idle_memory [palfrey uvicorn granian gunicorn] [--connections 3500] [--kind websocket]

Each server is started with one worker, warmed up, and asked once over each of so many connections, which then stay
open; over a WebSocket, without compression, one message is echoed once. The figure is by how much the resident memory
of its processes has grown, a connection. What the kernel holds for the sockets is not in it, and is the same for all.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from websockets.frames import Frame, Opcode

from benchmarks.running import certificates
from benchmarks.servers import APPS, free_port

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HELLO = b"Hello, world!"
PLAIN, TLS, WEBSOCKET = "plain", "tls", "websocket"
KINDS = (PLAIN, TLS, WEBSOCKET)
CONNECTIONS = 3500
STAY = 300
"""Seconds of keep-alive: longer than the measurement."""
WARM_UP = 50
"""Connections, opened and closed again: what a server allocates once is not counted."""

_QUIET = "--no-access-log --log-level warning"

SERVERS: dict[str, tuple[str, str]] = {
    "palfrey": (
        f"palfrey {{app}} --port {{port}} --timeout-keep-alive {STAY} {_QUIET}",
        "--ssl-certfile {} --ssl-keyfile {}",
    ),
    "uvicorn": (
        f"uvicorn {{app}} --port {{port}} --ws websockets-sansio --timeout-keep-alive {STAY} {_QUIET}",
        "--ssl-certfile {} --ssl-keyfile {}",
    ),
    "granian": (  # which answers no more than 1024 connections at a time otherwise
        "granian {app} --interface asgi --http 1 --port {port} --backlog 16384 --backpressure 16384",
        "--ssl-certificate {} --ssl-keyfile {}",
    ),
    "gunicorn": (
        f"gunicorn {{app}} -k asgi -b 127.0.0.1:{{port}} --keep-alive {STAY}",
        "--certfile {} --keyfile {}",
    ),
}
"""Module and arguments, and what to add for TLS."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", help=f"of: {', '.join(SERVERS)} (default: palfrey uvicorn)")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--kind", choices=KINDS, default=PLAIN)
    options = parser.parse_args()
    allow_files(2 * options.connections)
    for name in options.servers or ("palfrey", "uvicorn"):
        if name not in SERVERS:
            parser.error(f"no such server: {name}")
        grown = measure(name, options.connections, options.kind)
        print(f"{name:10} {grown / options.connections / 1024:6.2f} KB a connection", flush=True)


def allow_files(count: int) -> None:
    """Lets this process, and the servers that it starts, open so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def measure(name: str, connections: int, kind: str) -> int:
    """Bytes by which the server has grown with so many idle connections of one of `KINDS`."""
    port = free_port()
    command, for_tls = SERVERS[name]
    with tempfile.TemporaryDirectory() as folder:
        words = command.format(port=port, app="websocket:echo" if kind == WEBSOCKET else "hello:app").split()
        if kind == TLS:
            words += for_tls.format(*certificates(Path(folder))).split()
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=APPS,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(APPS.parents[1]), str(APPS)])},
            stdout=subprocess.DEVNULL,
        )
        try:
            return _measure(process, port, connections, kind)
        finally:
            process.terminate()
            process.wait(20)


def _measure(process: subprocess.Popen[bytes], port: int, connections: int, kind: str) -> int:
    _wait_for(port)
    for sock in _open(port, WARM_UP, kind):
        sock.close()
    before = _settled(process)
    clients = _open(port, connections, kind)
    grown = _settled(process) - before
    for sock in clients:
        sock.settimeout(0.0)
        try:
            gone = sock.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            gone = False
        if gone:
            raise SystemExit("connections were closed before they were measured")
        sock.close()
    return grown


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("the server does not listen")


def _open(port: int, count: int, kind: str) -> list[socket.socket]:
    """So many connections that have been answered once."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    made = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 10)
        if kind == TLS:
            sock = context.wrap_socket(sock)
        if kind == WEBSOCKET:
            _ask(sock, HANDSHAKE, b"\r\n\r\n")
            _ask(sock, Frame(Opcode.BINARY, HELLO).serialize(mask=True), HELLO)
        else:
            _ask(sock, REQUEST, HELLO)
        made.append(sock)
    return made


def _ask(sock: socket.socket, said: bytes, answer: bytes) -> None:
    """Returns when it has been answered."""
    sock.sendall(said)
    got = b""
    while answer not in got:
        piece = sock.recv(65536)
        if not piece:
            raise SystemExit(f"not answered: {got!r}")
        got += piece


def _settled(process: subprocess.Popen[bytes]) -> int:
    """Resident bytes of the server's processes, once they do not change any more."""
    last, same = 0, 0
    while same < 10:
        root = psutil.Process(process.pid)
        now = sum(each.memory_info().rss for each in (root, *root.children(recursive=True)))
        last, same = now, same + 1 if now == last else 0
        time.sleep(0.05)
    return last


if __name__ == "__main__":
    main()
