"""A FastAPI application of some size: a hundred routes, each with models of its own, and the OpenAPI page of them all.

For memory and start-up time; `GET /` is small.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import create_model

ROUTES = 100

app = FastAPI()


def resource(number: int) -> APIRouter:
    router = APIRouter(prefix=f"/resource{number}")
    fields: dict[str, Any] = {f"field{index}": (int | str | None, None) for index in range(10)}
    taken = create_model(f"Taken{number}", **fields)
    given = create_model(f"Given{number}", id=(int, 0), **fields)

    async def put(item: int, body: taken) -> given:  # type: ignore[valid-type]
        return given(id=item, **dict(body))

    put.__annotations__ = {"item": int, "body": taken, "return": given}
    router.put("/{item}")(put)
    return router


for each in range(ROUTES):
    app.include_router(resource(each))


@app.get("/")
async def index() -> dict[str, str]:
    return {"hello": "world"}
