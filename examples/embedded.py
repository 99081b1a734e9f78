"""A program with a loop of its own that also serves HTTP: a worker that polls, and a port that says how it is doing.

    python examples/embedded.py 8000

    curl http://127.0.0.1:8000/          # what the worker has done, as of now
    curl -X POST http://127.0.0.1:8000/  # give it something to do

The server is a part of the program, not the other way round: signals, logging and the loop are the program's.
"""

import asyncio
import json
import signal
import sys

import palfrey


class Worker:
    """Stands for whatever the program is there for."""

    def __init__(self):
        self.jobs = asyncio.Queue()
        self.done = 0

    async def run(self):
        while True:
            await self.jobs.get()
            self.done += 1

    async def app(self, scope, receive, send):
        """ASGI, in the worker's own loop: what it shows needs no lock and no copy. Any framework would do."""
        assert scope["type"] == "http"
        if scope["method"] == "POST":
            self.jobs.put_nowait("job")
        body = json.dumps({"waiting": self.jobs.qsize(), "done": self.done}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def main(port):
    """Two servers, one for the machine alone, and one that would be for others."""
    worker = Worker()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    inside = palfrey.Server(palfrey.Settings(port=port), worker.app)
    outside = palfrey.Server(palfrey.Settings(port=0, root_path="/worker", limit_concurrency=100), worker.app)
    async with inside, outside:
        working = asyncio.create_task(worker.run())
        print("Serving on", *inside.urls, *outside.urls, flush=True)
        await stopped.wait()
        working.cancel()
    print("All answered, goodbye", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
