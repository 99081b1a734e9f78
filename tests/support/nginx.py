"""The system's nginx with conf/nginx.conf: addresses, times and comments changed, everything else as it stands there.

`nginx(folder, upstream)` runs one as the current user, in the foreground, until the `with` ends. Its listening sockets
are made here and handed down (in the way that a new nginx takes over from an old one), so that no port has to be
guessed, and a request may be sent before it is up. What it has said is in `errors()`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "conf" / "nginx.conf"

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

FRAME = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temporary}
    include {folder}/site.conf;
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(slots=True)
class Nginx:
    """A running one."""

    port: int
    tls_port: int
    log: Path

    def errors(self) -> list[str]:
        """What it has complained about: answers that did not come, for one."""
        return [line for line in self.log.read_text().splitlines() if "using inherited sockets" not in line]


def site(
    upstream: str, ports: Sequence[int], certificate: str = "", with_lines: Sequence[str] = (), http2: str = ""
) -> str:
    """conf/nginx.conf for this machine. `with_lines`: beginnings of commented lines that are to be in force. `http2`:
    where else than in the file it is to be spoken, with "clients" (over TLS), or with the "upstream"."""
    text = EXAMPLE.read_text()
    if http2 == "upstream":
        # nginx has no other way to speak it than this, which does not mind what is asked.
        text = re.sub(r"proxy_pass http:", "grpc_pass grpc:", text)
        text = re.sub(r"^( +)proxy_set_header (?!Connection|Upgrade)", r"\1grpc_set_header ", text, flags=re.MULTILINE)
    changes = [
        (r"server 127\.0\.0\.1:8000;", f"server {upstream};"),
        (r"listen 80;", f"listen 127.0.0.1:{ports[0]};"),
        (r"keepalive_timeout 15s;", "keepalive_timeout 1s;"),
    ]
    if certificate:
        with_lines = (*with_lines, "listen 443 ssl", "ssl_certificate")
        changes += [
            (r"listen 443 ssl;", f"listen 127.0.0.1:{ports[1]} ssl{' http2' if http2 == 'clients' else ''};"),
            (r"ssl_certificate(_key)? \S+;", rf"ssl_certificate\1 {certificate};"),
        ]
    for line in with_lines:
        text, count = re.subn(rf"# ({re.escape(line)})", r"\1", text)
        assert count, f"the example has no commented line {line!r}"
    if "location /shop/" in with_lines:
        start = text.index("location /shop/")
        text = text[:start] + text[start:].replace("    # ", "    ")
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        assert count, f"the example has no {pattern!r}"
    return text


@contextlib.contextmanager
def nginx(
    folder: Path, upstream: str, certificate: str = "", with_lines: Sequence[str] = (), http2: str = ""
) -> Iterator[Nginx]:
    """Runs nginx in front of `upstream` ("127.0.0.1:8000", "unix:/path"), with TLS as well given a certificate."""
    binary = shutil.which("nginx")
    assert binary is not None
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2 if certificate else 1)]
        ports = [each.getsockname()[1] for each in sockets]
        user = pwd.getpwuid(os.geteuid()).pw_name
        frame = FRAME.format(
            folder=folder,
            user=f"user {user};" if os.geteuid() == 0 else "",
            temporary=" ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY),
        )
        (folder / "nginx.conf").write_text(frame)
        (folder / "site.conf").write_text(site(upstream, ports, certificate, with_lines, http2))
        running = Nginx(ports[0], ports[-1], folder / "error.log")
        log = stack.enter_context(running.log.open("wb"))
        process = subprocess.Popen(
            [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"],
            stderr=log,
            stdin=subprocess.DEVNULL,
            pass_fds=[each.fileno() for each in sockets],
            env={**os.environ, "NGINX": "".join(f"{each.fileno()};" for each in sockets)},
        )
        try:
            yield running
            assert process.poll() is None, running.log.read_text()
        finally:
            process.terminate()
            process.wait(20)
