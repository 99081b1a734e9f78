"""A load client that accounts for every request: `python -m tests.support.loadclient --help`.

Some clients, each of one behaviour (tests/support/loadresult.py `Behaviour`), ask the application in
tests/support/loadapp.py at the same time. Each request carries an id that its answer must name; every answer is
compared with what was asked for, and every request gets exactly one `Outcome`.

What may be lost, and what is a fault, is decided in tests/support/loadexchange.py.

    result = await LoadClient(Options(port=8000)).run(stop)  # stop: an asyncio.Event that ends it early

tests/support/loadthread.py runs it in a thread, for tests that do something meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.support.graves import Graves
from tests.support.loadapp import stream_lines
from tests.support.loadexchange import Connection, Exchange
from tests.support.loadrequest import Request
from tests.support.loadresult import Behaviour, Outcome, Result
from tests.support.wire import ResponseReader, Wire

DEFAULT_MIX = (
    *[Behaviour.GET] * 5,
    *[Behaviour.ECHO] * 3,
    *[Behaviour.STREAM] * 2,
    *[Behaviour.PIPELINE] * 2,
    *[Behaviour.FRESH] * 3,
    Behaviour.HALF_CLOSE,
)
"""Dealt to the clients in turn: 64 clients are 4 rounds."""
TICK = 0.02
"""Seconds between two looks at whether this process is late."""
LAST_LOOK = 0.05
"""Seconds that a client watches its idle connection at the end: a late duplicate would show."""
BODY_SIZES = (0, 1, 100, 4_096, 40_000, 300_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run. It ends after `seconds`, after `requests`, or when it is told to, and finishes what is in flight."""

    host: str = "127.0.0.1"
    port: int = 0
    uds: str | None = None
    clients: int = 64
    seconds: float = 10.0
    requests: int | None = None
    mix: Sequence[Behaviour] = DEFAULT_MIX
    keep_alive: float = 5.0
    """The server's keep-alive timeout; think times go up to 1.3 of it."""
    brisk: float = 0.5
    """Share of think times that are next to none."""
    brisk_seconds: float = 0.05
    """Most seconds that those take; 0: no thought at all."""
    stream_seconds: float = 2.0
    trickle_seconds: float = 1.5
    """Most seconds that a request trickles."""
    pipeline: int = 5
    """Most requests in one write."""
    timeout: float = 15.0
    """Seconds for one answer, on top of what a stream takes, and for a connection to be made."""
    race_window: float = 0.25
    idle_close_after: float = 0.0
    """Seconds that the server has promised to keep an idle connection: an end before that is no race."""
    one_process: bool = False
    """Whether all answers on a connection have to come from one process."""
    until_refused: bool = False
    """Whether the first connection that is refused ends the run for all, and is no failure."""
    graves: Graves | None = None
    """The connections that were inside workers which somebody killed."""
    seed: int = 0


class LoadClient:
    """One run of the load."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.result = Result()
        """Live while `run()` goes on."""
        self._ids = itertools.count(1)
        self._stop = asyncio.Event()
        self._late: deque[tuple[float, float]] = deque(maxlen=10_000)

    async def run(self, stop: asyncio.Event | None = None) -> Result:
        """Runs until time, count or `stop` ends it; then waits for the answers in flight."""
        self._stop = stop or asyncio.Event()
        self.result = Result()
        timer = asyncio.get_running_loop().call_later(self.options.seconds, self._stop.set)
        watch = asyncio.ensure_future(self._watch_ourselves())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.options.clients):
                    behaviour = self.options.mix[number % len(self.options.mix)]
                    group.create_task(Client(self, behaviour, number).run())
        finally:
            timer.cancel()
            watch.cancel()
        return self.result

    def lateness(self, since: float) -> float:
        """Seconds by which this process itself was late, at worst, from then on."""
        return max((late for at, late in self._late if at >= since), default=0.0)

    async def _watch_ourselves(self) -> None:
        while True:
            asked = time.monotonic()
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if now - asked > 2 * TICK:
                self._late.append((now, now - asked - TICK))

    def is_over(self) -> bool:
        """Whether no new request may be begun; enough requests end the run for all."""
        if self.options.requests is not None and self.result.issued >= self.options.requests:
            self._stop.set()
        return self._stop.is_set()

    def end(self) -> None:
        """No new request is begun."""
        self._stop.set()

    async def stopped(self) -> None:
        """Waits until the run is to end."""
        await self._stop.wait()

    def next_id(self) -> str:
        """An id that no other request of this run has."""
        return f"{self.options.seed}-{next(self._ids)}"


class Client:
    """One client: asks, compares, thinks, asks again."""

    def __init__(self, load: LoadClient, behaviour: Behaviour, number: int) -> None:
        self.load, self.behaviour, self.options = load, behaviour, load.options
        self.random = random.Random(f"{load.options.seed}/{number}")
        self.authority = "load" if self.options.uds else f"{self.options.host}:{self.options.port}"
        self.connection: Connection | None = None

    @property
    def result(self) -> Result:
        return self.load.result

    async def run(self) -> None:
        again: list[Request] = []
        try:
            while again or not self.load.is_over():
                if not again:
                    await self._think()
                    if self.load.is_over():
                        break
                batch = again or self._batch()
                # What is sent again goes one by one, so that nothing can be passed over twice.
                again = await self._ask(batch[:1] if again else batch) + (batch[1:] if again else [])
            await self._watch_idle(LAST_LOOK)
        finally:
            if self.connection is not None:
                self.connection.wire.close()

    async def _think(self) -> None:
        """Waits a random time, seeing whether anything happens on the idle connection meanwhile."""
        limit = self.options.keep_alive
        dice = self.random.random()
        brisk = self.options.brisk
        if dice < brisk and not self.options.brisk_seconds:
            self._look_at_idle()
            return
        if dice < brisk:
            seconds = self.random.uniform(0, self.options.brisk_seconds)
        elif dice < brisk + 0.3 * (1 - brisk):
            seconds = max(0.0, limit + self.random.uniform(-0.01, 0.01))
        else:
            seconds = self.random.uniform(0, 1.3) * limit
        try:
            async with asyncio.timeout(seconds):
                watching = asyncio.ensure_future(self._watch_idle(seconds))
                try:
                    await self.load.stopped()
                finally:
                    watching.cancel()
        except TimeoutError:
            pass
        self._look_at_idle()

    async def _watch_idle(self, seconds: float) -> None:
        """Waits for bytes or the end on the idle connection, and accounts for them."""
        if self.connection is not None:
            try:
                await asyncio.wait_for(self.connection.wire.change(), seconds)
            except TimeoutError:
                pass
            self._look_at_idle()

    def _look_at_idle(self) -> None:
        connection = self.connection
        if connection is None:
            return
        if surplus := bytes(connection.wire.buffer[:80]):
            self.result.note_violation(self.behaviour, f"bytes that nobody asked for: {surplus!r}")
            connection.over = True
        elif connection.wire.ended:
            self.result.closed_idle += 1
            self._look_at_the_time(connection.wire)
            connection.over = True
        if connection.over:
            connection.wire.close()
            self.connection = None

    def _look_at_the_time(self, wire: Wire) -> None:
        """Whether an idle connection was kept for as long as was promised."""
        rest, promised = wire.ended_at - wire.changed_at, self.options.idle_close_after
        graves = self.options.graves
        if rest + self.load.lateness(wire.changed_at) < promised and not (
            graves is not None and graves.claims(wire.port, wire.made_at)
        ):
            self.result.note_violation(self.behaviour, f"closed after {rest:.3f} s of rest, and not {promised:g} s")

    def _batch(self) -> list[Request]:
        count = self.random.randint(2, self.options.pipeline) if self.behaviour is Behaviour.PIPELINE else 1
        return [self._request() for _ in range(count)]

    def _request(self) -> Request:
        name = self.load.next_id()
        if self.behaviour is Behaviour.STREAM:
            seconds = self.options.stream_seconds
            return Request(self.behaviour, "GET", f"/stream?seconds={seconds}", name, lines=stream_lines(seconds))
        if self.behaviour is Behaviour.ECHO or (self.behaviour is Behaviour.HALF_CLOSE and self.random.random() < 0.5):
            body = self.random.randbytes(self.random.choice(BODY_SIZES))
            return Request(self.behaviour, "POST", "/echo", name, body, chunks=self._chunks(len(body)))
        if self.behaviour is Behaviour.TRICKLE:
            drops = self.random.randint(2, 20)
            if self.random.random() < 0.5:
                return Request(self.behaviour, "POST", "/echo", name, self.random.randbytes(100), drops=drops)
            return Request(self.behaviour, "GET", "/id", name, drops=drops)
        return Request(self.behaviour, "GET", "/id", name, last=self.behaviour is Behaviour.FRESH)

    def _chunks(self, size: int) -> tuple[int, ...]:
        if not size or self.random.random() < 0.5:
            return ()
        cuts = sorted({0, size, *(self.random.randrange(size) for _ in range(self.random.randint(0, 4)))})
        return tuple(end - start for start, end in itertools.pairwise(cuts))

    async def _ask(self, batch: list[Request]) -> list[Request]:
        """Sends the batch in one write, accounts for each request, and returns those to be sent again."""
        self._look_at_idle()
        self.result.issued += len(batch)
        connection = self.connection or await self._connect(batch)
        if connection is None:
            return []
        self.connection = connection
        again = await Exchange(self, connection, batch).run()
        if connection.over:
            connection.wire.close()
            self.connection = None
        return [replace(request, id=self.load.next_id()) for request in again]

    async def _connect(self, batch: list[Request]) -> Connection | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.options.timeout):
                if self.options.uds is not None:
                    _, wire = await loop.create_unix_connection(Wire, self.options.uds)
                else:
                    _, wire = await loop.create_connection(Wire, self.options.host, self.options.port)
        except OSError as error:  # TimeoutError is one
            kinds = {ConnectionRefusedError: Outcome.REFUSED, TimeoutError: Outcome.TIMEOUT}
            outcome = kinds.get(type(error), Outcome.LOST)
            if outcome is Outcome.REFUSED and self.options.until_refused:
                outcome = Outcome.NOBODY
                self.load.end()
            for request in batch:
                self.result.note(self.behaviour, outcome, request.id, f"no connection: {error or outcome.value}")
            await asyncio.sleep(0.01)
            return None
        self.result.connections += 1
        return Connection(wire, ResponseReader(wire))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: prints the account; 0 when it is clean, 1 when not."""
    import argparse
    import signal

    parser = argparse.ArgumentParser(
        prog="python -m tests.support.loadclient", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--uds", help="a UNIX socket instead of host and port")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--requests", type=int, help="end after so many")
    parser.add_argument("--keep-alive", type=float, default=5.0, help="the server's keep-alive timeout (%(default)s)")
    parser.add_argument("--stream-seconds", type=float, default=2.0)
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds for one answer (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=[b.value for b in Behaviour], help="behaviours; repeatable")
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args(arguments))
    as_json, only = given.pop("json"), given.pop("only")
    if only:
        given["mix"] = [Behaviour(name) for name in only]

    async def run() -> Result:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await LoadClient(Options(**given)).run(stop)

    result = asyncio.run(run())
    print(json.dumps(result.as_dict(), indent=2) if as_json else result)
    return 0 if result.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
