"""The application of the FastAPI benchmark: one route that answers a small JSON document."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello():
    return {"message": "Hello, world!", "numbers": [1, 2, 3]}
