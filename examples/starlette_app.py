"""A Starlette application that uses what real ones use.

Run: palfrey --app-dir examples starlette_app:app --workers 2

Shown here: JSON, streams, uploads that are read as they arrive, state from the lifespan, work after
the response, files, a client that leaves, an endpoint in a thread, one that fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import threading
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
log = logging.getLogger("starlette_app")


@dataclass
class Shared:
    """What the requests of one worker have in common: made by the lifespan, one a process."""

    visits: int = 0
    jobs: dict[int, asyncio.Event] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def lifespan(app):
    log.info("lifespan: startup of process %d", os.getpid())
    yield {"shared": Shared()}
    log.info("lifespan: shutdown of process %d", os.getpid())


async def index(request):
    return JSONResponse({"framework": "starlette", "pid": os.getpid(), "worker": os.environ.get("PALFREY_WORKER")})


async def state(request):
    """`request.state` is this request's copy of what the lifespan yielded; the object in it is shared."""
    shared = request.state.shared
    shared.visits += 1
    own = getattr(request.state, "own", None)
    request.state.own = shared.visits
    return JSONResponse({"pid": os.getpid(), "visits": shared.visits, "left_by_another_request": own})


async def stream(request):
    """?parts=10&seconds=2: so many lines in so many seconds."""
    parts = int(request.query_params.get("parts", 10))
    pause = float(request.query_params.get("seconds", 2)) / parts

    async def lines():
        for number in range(1, parts + 1):
            yield f"part {number} of {parts}\n"
            await asyncio.sleep(pause)

    return StreamingResponse(lines(), media_type="text/plain")


async def events(request):
    """Server-sent events without an end, one every ?seconds=: the client is the one that stops."""
    pause = float(request.query_params.get("seconds", 0.05))

    async def ticks():
        try:
            for number in itertools.count(1):
                yield f"data: {number}\n\n"
                await asyncio.sleep(pause)
        finally:
            log.info("events: the client left")

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def wait(request):
    """A long poll for something that never happens, until the client has left: that is a message, too.

    A loop that asks `request.is_disconnected()` does the same, but not behind a BaseHTTPMiddleware.
    """
    log.info("wait: begun")
    while (await request.receive())["type"] != "http.disconnect":
        pass
    log.info("wait: the client left")
    return PlainTextResponse("nobody reads this")


async def upload(request):
    """The content never is in memory as a whole."""
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return JSONResponse({"sha256": digest.hexdigest(), "size": size})


async def form(request):
    """A multipart form; its file is spooled to disk by Starlette."""
    async with request.form() as fields:
        digest = hashlib.sha256()
        while chunk := await fields["file"].read(1 << 16):
            digest.update(chunk)
        return JSONResponse({"sha256": digest.hexdigest(), "size": fields["file"].size, "note": fields.get("note")})


async def start_job(request):
    """Answers at once; the work, which takes ?seconds=, is done after the response."""
    jobs = request.state.shared.jobs
    number = len(jobs) + 1
    jobs[number] = asyncio.Event()

    async def work(seconds):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(jobs[number].wait(), seconds)
        jobs[number].set()
        log.info("job %d: done", number)

    task = BackgroundTask(work, float(request.query_params.get("seconds", 0)))
    return JSONResponse({"job": number}, status_code=202, background=task)


async def see_job(request):
    """Jobs belong to a process: ask on the connection that started it."""
    job = request.state.shared.jobs.get(request.path_params["number"])
    if job is None:
        return JSONResponse({"error": "no such job in this process"}, status_code=404)
    if request.method == "DELETE":
        job.set()
    return JSONResponse({"done": job.is_set()})


def thread(request):
    """A function that is not async runs in a thread, so that it may wait for a disk or a database."""
    return JSONResponse({"main_thread": threading.current_thread() is threading.main_thread()})


async def file(request):
    return FileResponse(__file__, media_type="text/x-python")


async def error(request):
    raise RuntimeError("starlette_app fails as it was asked to")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", index),
        Route("/state", state),
        Route("/stream", stream),
        Route("/events", events),
        Route("/wait", wait),
        Route("/upload", upload, methods=["POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/jobs", start_job, methods=["POST"]),
        Route("/jobs/{number:int}", see_job, methods=["GET", "DELETE"]),
        Route("/thread", thread),
        Route("/file", file),
        Route("/error", error),
        Mount("/static", StaticFiles(directory=os.path.dirname(os.path.abspath(__file__)))),
    ],
)
