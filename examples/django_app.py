"""A Django project in one file, served over ASGI.

Run: palfrey --app-dir examples django_app:application --workers 2

Shown here: views that are async and views that run in a thread, JSON, streams, uploads raw and as forms, files, work
after the response, a client that leaves, a view that fails. Django has no lifespan; Palfrey finds that out by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import threading

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
log = logging.getLogger("django_app")

if not settings.configured:
    settings.configure(
        DEBUG=False,
        SECRET_KEY="an example has no secrets",
        ALLOWED_HOSTS=["127.0.0.1", "localhost", "[::1]"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        USE_TZ=True,
    )

jobs: dict[int, asyncio.Event] = {}
running: set[asyncio.Task[None]] = set()
"""asyncio itself holds tasks weakly."""


async def index(request):
    return JsonResponse({"framework": "django", "pid": os.getpid(), "worker": os.environ.get("PALFREY_WORKER")})


async def stream(request):
    """?parts=10&seconds=2: so many lines in so many seconds."""
    parts = int(request.GET.get("parts", 10))
    pause = float(request.GET.get("seconds", 2)) / parts

    async def lines():
        for number in range(1, parts + 1):
            yield f"part {number} of {parts}\n"
            await asyncio.sleep(pause)

    return StreamingHttpResponse(lines(), content_type="text/plain")


async def events(request):
    """Server-sent events without an end, one every ?seconds=: the client is the one that stops."""
    pause = float(request.GET.get("seconds", 0.05))

    async def ticks():
        try:
            for number in itertools.count(1):
                yield f"data: {number}\n\n"
                await asyncio.sleep(pause)
        finally:
            log.info("events: the client left")

    return StreamingHttpResponse(ticks(), content_type="text/event-stream")


async def wait(request):
    """A long poll for something that never happens; Django cancels the view when the client is gone."""
    log.info("wait: begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.info("wait: the client left")
        raise


def upload(request):
    """Django spools the content to disk before the view begins; a sync view reads it from there, in a thread."""
    digest, size = hashlib.sha256(), 0
    while chunk := request.read(1 << 16):
        digest.update(chunk)
        size += len(chunk)
    return JsonResponse({"sha256": digest.hexdigest(), "size": size})


def form(request):
    """A multipart form; a large file is in a temporary one by now."""
    digest, file = hashlib.sha256(), request.FILES["file"]
    for chunk in file.chunks():
        digest.update(chunk)
    return JsonResponse({"sha256": digest.hexdigest(), "size": file.size, "note": request.POST.get("note")})


async def start_job(request):
    """Answers at once; the work, which takes ?seconds=, goes on as a task of its own."""
    number = len(jobs) + 1
    jobs[number] = asyncio.Event()

    async def work(seconds):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(jobs[number].wait(), seconds)
        jobs[number].set()
        log.info("job %d: done", number)

    task = asyncio.create_task(work(float(request.GET.get("seconds", 0))))
    running.add(task)
    task.add_done_callback(running.discard)
    return JsonResponse({"job": number}, status=202)


async def see_job(request, number):
    """Jobs belong to a process: ask on the connection that started it."""
    if number not in jobs:
        return JsonResponse({"error": "no such job in this process"}, status=404)
    if request.method == "DELETE":
        jobs[number].set()
    return JsonResponse({"done": jobs[number].is_set()})


def thread(request):
    """A view that is not async runs in a thread, so that it may wait for a disk or a database."""
    return JsonResponse({"main_thread": threading.current_thread() is threading.main_thread()})


def file(request):
    return FileResponse(open(__file__, "rb"), content_type="text/x-python")  # Django closes it


async def error(request):
    raise RuntimeError("django_app fails as it was asked to")


urlpatterns = [
    path("", index),
    path("stream", stream),
    path("events", events),
    path("wait", wait),
    path("upload", upload),
    path("form", form),
    path("jobs", start_job),
    path("jobs/<int:number>", see_job),
    path("thread", thread),
    path("file", file),
    path("error", error),
]

django.setup()
application = get_asgi_application()
