"""A Django project in one file, served over WSGI.

Run: palfrey --app-dir examples django_wsgi_app:application --workers 2 --threads 8

Shown here: views that wait in a thread of their own, JSON, streams, uploads raw and as forms, files, a view that fails.
`django_app.py` is the same over ASGI.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")

if not settings.configured:
    settings.configure(
        DEBUG=False,
        SECRET_KEY="an example has no secrets",
        ALLOWED_HOSTS=["127.0.0.1", "localhost", "[::1]"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        USE_TZ=True,
    )


def index(request):
    return JsonResponse(
        {
            "framework": "django",
            "worker": os.environ.get("PALFREY_WORKER"),
            "thread": threading.current_thread().name,
            "multithread": request.environ["wsgi.multithread"],
        }
    )


def stream(request):
    """?parts=10: so many lines, sent as they are made."""
    parts = int(request.GET.get("parts", 10))
    lines = (f"part {number} of {parts}\n" for number in range(1, parts + 1))
    return StreamingHttpResponse(lines, content_type="text/plain")


def upload(request):
    digest, size = hashlib.sha256(), 0
    while chunk := request.read(1 << 16):
        digest.update(chunk)
        size += len(chunk)
    return JsonResponse({"sha256": digest.hexdigest(), "size": size})


def form(request):
    digest = hashlib.sha256()
    for chunk in request.FILES["file"].chunks():
        digest.update(chunk)
    return JsonResponse({"sha256": digest.hexdigest(), "note": request.POST["note"]})


def file(request):
    return FileResponse(open(__file__, "rb"), content_type="text/x-python")  # through wsgi.file_wrapper


def error(request):
    raise RuntimeError("django_wsgi_app fails as it was asked to")


urlpatterns = [
    path("", index),
    path("stream", stream),
    path("upload", upload),
    path("form", form),
    path("file", file),
    path("error", error),
]

django.setup()
application = get_wsgi_application()
