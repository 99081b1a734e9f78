"""The application of the Starlette benchmark: one route that answers a small JSON document."""

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def hello(request):
    return JSONResponse({"message": "Hello, world!", "numbers": [1, 2, 3]})


app = Starlette(routes=[Route("/", hello)])
