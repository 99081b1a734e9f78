"""What the access log is told of a request, made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def facts(**changes: Any) -> Any:
    """Of a GET that was answered, begun at 10.0."""
    return SimpleNamespace(
        **{
            "client": ("127.0.0.1", 53412),
            "method": "GET",
            "target": b"/path?query",
            "http_version": "1.1",
            "status": 200,
            "body_bytes": 13,
            "started": 10.0,
            "request_id": "",
            "request_headers": [(b"host", b"example.org"), (b"user-agent", b"curl/8"), (b"referer", b"http://a/")],
            "response_headers": [(b"Content-Type", b"text/plain"), (b"x-one", b"1")],
            **changes,
        }
    )
