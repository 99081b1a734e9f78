"""A Pyramid application, served over WSGI.

Run: palfrey --app-dir examples pyramid_app:app --workers 2 --threads 8

Shown here: JSON, streams, an upload, a form, a file, a view that fails. The settings that waitress takes from a Paste
file go into palfrey.conf.py: `threads`, `host`, `port`.
"""

from __future__ import annotations

import hashlib
import os
import threading

from pyramid.config import Configurator
from pyramid.response import FileResponse, Response


def index(request):
    return {
        "framework": "pyramid",
        "worker": os.environ.get("PALFREY_WORKER"),
        "thread": threading.current_thread().name,
        "multithread": request.environ["wsgi.multithread"],
    }


def stream(request):
    """?parts=10: so many lines, sent as they are made."""
    parts = int(request.params.get("parts", 10))
    lines = (f"part {number} of {parts}\n".encode() for number in range(1, parts + 1))
    return Response(app_iter=lines, content_type="text/plain")


def upload(request):
    digest, size = hashlib.sha256(), 0
    while chunk := request.body_file.read(1 << 16):
        digest.update(chunk)
        size += len(chunk)
    return {"sha256": digest.hexdigest(), "size": size}


def form(request):
    file = request.POST["file"].file
    return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "note": request.POST["note"]}


def file(request):
    return FileResponse(__file__, request, content_type="text/x-python")  # through wsgi.file_wrapper


def error(request):
    raise RuntimeError("pyramid_app fails as it was asked to")


PAGES = [
    ("/", index, "json"),
    ("/stream", stream, None),
    ("/upload", upload, "json"),
    ("/form", form, "json"),
    ("/file", file, None),
    ("/error", error, None),
]

with Configurator() as config:
    for path, view, renderer in PAGES:
        config.add_route(path, path)
        config.add_view(view, route_name=path, renderer=renderer)
    app = config.make_wsgi_app()
