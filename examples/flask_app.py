"""A Flask application, served over WSGI: its signature says so, and Palfrey finds that out by itself.

Run: palfrey --app-dir examples flask_app:app --workers 2 --threads 8

Shown here: JSON, streams, an upload read while it arrives, a form, a file, a long wait that notices that its client has
left, a view that fails.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time

from flask import Flask, Response, request, send_file

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
log = logging.getLogger("flask_app")

app = Flask(__name__)


@app.get("/")
def index():
    return {
        "framework": "flask",
        "worker": os.environ.get("PALFREY_WORKER"),
        "thread": threading.current_thread().name,
        "multithread": request.environ["wsgi.multithread"],
    }


@app.get("/stream")
def stream():
    """?parts=10: so many lines. What Flask iterates over is sent part by part, as fast as the client takes it."""
    parts = request.args.get("parts", 10, int)
    return Response((f"part {number} of {parts}\n" for number in range(1, parts + 1)), content_type="text/plain")


@app.post("/upload")
def upload():
    digest, size = hashlib.sha256(), 0
    while chunk := request.stream.read(1 << 16):
        digest.update(chunk)
        size += len(chunk)
    return {"sha256": digest.hexdigest(), "size": size}


@app.post("/form")
def form():
    file = request.files["file"]
    return {"sha256": hashlib.file_digest(file.stream, "sha256").hexdigest(), "note": request.form["note"]}


@app.get("/file")
def file():
    return send_file(__file__, mimetype="text/x-python")  # through wsgi.file_wrapper


@app.get("/events")
def events():
    """Server-sent events without an end: the client is the one that stops. Each holds a thread as long as it lasts."""

    def ticks():
        try:
            number = 0
            while True:
                number += 1
                yield f"data: {number}\n\n"
                time.sleep(0.02)
        finally:
            log.info("events: the client left")

    return Response(ticks(), content_type="text/event-stream")


@app.get("/wait")
def wait():
    """A long computation, which need not go on when nobody waits for it any more."""
    gone = request.environ["palfrey.client_disconnected"]
    log.info("wait: begun")
    while not gone():
        time.sleep(0.02)
    log.info("wait: the client left")
    return "too late"


@app.get("/error")
def error():
    raise RuntimeError("flask_app fails as it was asked to")
