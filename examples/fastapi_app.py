"""A FastAPI application that uses what real ones use.

Run: palfrey --app-dir examples fastapi_app:app --workers 2, and open http://127.0.0.1:8000/docs

Shown here: validated JSON, dependencies with a clean-up, streams, uploads as forms and raw, state from the lifespan,
work after the response, files, a client that leaves, an endpoint in a thread, one that fails.
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
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
log = logging.getLogger("fastapi_app")


@dataclass
class Shared:
    """What the requests of one worker have in common: made by the lifespan, one a process."""

    visits: int = 0
    jobs: dict[int, asyncio.Event] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    log.info("lifespan: startup of process %d", os.getpid())
    yield {"shared": Shared()}
    log.info("lifespan: shutdown of process %d", os.getpid())


app = FastAPI(title="Palfrey's FastAPI example", lifespan=lifespan)
app.mount("/static", StaticFiles(directory=os.path.dirname(os.path.abspath(__file__))))


def shared(request: Request) -> Shared:
    return request.state.shared


async def session():
    """Opened for a request and closed after it, as a database's would be, whatever the endpoint does."""
    log.info("session: opened")
    try:
        yield "a session"
    except Exception as error:
        log.info("session: rolled back after %s", type(error).__name__)
        raise
    finally:
        log.info("session: closed")


class Item(BaseModel):
    name: str
    price: float


@app.get("/")
async def index():
    return {"framework": "fastapi", "pid": os.getpid(), "worker": os.environ.get("PALFREY_WORKER")}


@app.post("/items", status_code=201)
async def make_item(item: Item, session: Annotated[str, Depends(session)]):
    if item.price < 0:
        raise ValueError("fastapi_app fails as it was asked to, inside a session")
    return item


@app.get("/state")
async def state(request: Request, shared: Annotated[Shared, Depends(shared)]):
    """`request.state` is this request's copy of what the lifespan yielded; the object in it is shared."""
    shared.visits += 1
    own = getattr(request.state, "own", None)
    request.state.own = shared.visits
    return {"pid": os.getpid(), "visits": shared.visits, "left_by_another_request": own}


@app.get("/stream")
async def stream(parts: int = 10, seconds: float = 2):
    """So many lines in so many seconds."""

    async def lines():
        for number in range(1, parts + 1):
            yield f"part {number} of {parts}\n"
            await asyncio.sleep(seconds / parts)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/events")
async def events(seconds: float = 0.05):
    """Server-sent events without an end, one every so many seconds: the client is the one that stops."""

    async def ticks():
        try:
            for number in itertools.count(1):
                yield f"data: {number}\n\n"
                await asyncio.sleep(seconds)
        finally:
            log.info("events: the client left")

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/wait")
async def wait(request: Request):
    """A long poll for something that never happens, given up when the client is."""
    log.info("wait: begun")
    while not await request.is_disconnected():  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(0.05)
    log.info("wait: the client left")


@app.post("/upload")
async def upload(request: Request):
    """The raw content, which never is in memory as a whole."""
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return {"sha256": digest.hexdigest(), "size": size}


@app.post("/form")
async def form(file: Annotated[UploadFile, File()], note: Annotated[str | None, Form()] = None):
    """A multipart form; its file is spooled to disk by Starlette."""
    digest = hashlib.sha256()
    while chunk := await file.read(1 << 16):
        digest.update(chunk)
    return {"sha256": digest.hexdigest(), "size": file.size, "note": note}


@app.post("/jobs", status_code=202)
async def start_job(tasks: BackgroundTasks, shared: Annotated[Shared, Depends(shared)], seconds: float = 0):
    """Answers at once; the work is done after the response."""
    number = len(shared.jobs) + 1
    ended = shared.jobs[number] = asyncio.Event()

    async def work():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), seconds)
        ended.set()
        log.info("job %d: done", number)

    tasks.add_task(work)
    return {"job": number}


@app.api_route("/jobs/{number}", methods=["GET", "DELETE"])
async def see_job(number: int, request: Request, shared: Annotated[Shared, Depends(shared)]):
    """Jobs belong to a process: ask on the connection that started it."""
    job = shared.jobs.get(number)
    if job is None:
        raise HTTPException(404, "no such job in this process")
    if request.method == "DELETE":
        job.set()
    return {"done": job.is_set()}


@app.get("/thread")
def thread():
    """A function that is not async runs in a thread, so that it may wait for a disk or a database."""
    return {"main_thread": threading.current_thread() is threading.main_thread()}


@app.get("/file")
async def file():
    return FileResponse(__file__, media_type="text/x-python")


@app.get("/error")
async def error():
    raise RuntimeError("fastapi_app fails as it was asked to")
