"""The other floor: nginx, one process, `return 200` (a file where the content is longer than a constant may be)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.servers import Wanted

CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log {log};
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}{ssl}{http2};
        {certificate}
        location / {{ {answer} }}
    }}
}}
"""


def command(wanted: Wanted) -> list[str]:
    """Writes the configuration into the round's folder; gives the command line."""
    scenario = wanted.scenario
    folder = wanted.folder
    long = len(scenario.answer) > 1024
    if long:
        (folder / "content").write_bytes(scenario.answer)
    text = CONFIGURATION.format(
        folder=folder,
        port=wanted.port,
        log=wanted.log or "off",
        # As root its worker would be another user, who may not read the folder.
        user="user root;" if os.geteuid() == 0 else "",
        ssl=" ssl" if wanted.certificate else "",
        http2=" http2" if scenario.http2 else "",
        certificate=f"ssl_certificate {wanted.certificate}; ssl_certificate_key {wanted.key};"
        if wanted.certificate
        else "",
        answer=f"root {folder}; rewrite ^ /content break;" if long else f'return 200 "{scenario.answer.decode()}";',
    )
    configuration = Path(folder, "nginx.conf")
    configuration.write_text(text)
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(configuration)]
