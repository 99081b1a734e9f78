"""Applications that only tests need."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response


class Stamp(BaseHTTPMiddleware):
    """Runs the application in a task of its own and hands its messages on, as every BaseHTTPMiddleware does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-stamp"] = "stamped"
        return response


def behind_middleware() -> Starlette:
    """A factory: the Starlette example behind the two middlewares that servers know best."""
    import starlette_app  # type: ignore[import-not-found]  # in examples/, by --app-dir

    return Starlette(
        routes=starlette_app.app.routes,
        lifespan=starlette_app.lifespan,
        middleware=[Middleware(GZipMiddleware, minimum_size=1), Middleware(Stamp)],
    )
