"""One batch of a load client's requests on one connection, from the write to the last answer, and what became of each.

The one loss that HTTP/1.1 allows is narrow, and counted apart. A request is an idle-close race only if its
connection had served before and was idle when the request was written, not a byte came back, and the end came
within `race_window` of the write: a server that closed before it saw the request. A later end means that the
server had it and lost it; and so does one that came before the connection had been idle for `idle_close_after`, which
is the server's promise to keep it. A machine that made this very process wait is no reason to blame a server: what the
client's own loop was late by (`LoadClient.lateness`) is added to each of these.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.loadrequest import Request, check_lines, what_is_wrong
from tests.support.loadresult import Behaviour, Outcome
from tests.support.wire import Ended, Head, Malformed, ResponseReader, Wire

if TYPE_CHECKING:
    from tests.support.loadclient import Client


@dataclass(slots=True)
class Connection:
    """A connection of one client."""

    wire: Wire
    reader: ResponseReader
    answered: int = 0
    pid: int = 0
    """Of the process that answers on it."""
    over: bool = False
    """Whether it must not be used again."""


class Exchange:
    """One batch of requests on one connection, from the write to the last answer."""

    def __init__(self, client: Client, connection: Connection, batch: list[Request]) -> None:
        self.client, self.connection, self.batch = client, connection, batch
        self.options, self.result = client.options, client.result
        self.wire = connection.wire
        self.was_idle = connection.answered > 0
        self.received_before = self.wire.received
        self.written_at = time.monotonic()
        self.idle = self.written_at - connection.wire.changed_at

    async def run(self) -> list[Request]:
        """Accounts for every request of the batch; the ones to be sent again."""
        writing = asyncio.ensure_future(self._write())
        again: list[Request] = []
        try:
            for position, request in enumerate(self.batch):
                rest = self.batch[position + 1 :]
                try:
                    async with asyncio.timeout(self._patience(request)):
                        head = await self._answer(request)
                except (Ended, Malformed, TimeoutError) as error:
                    again = self._broken([request, *rest], error)
                    break
                if head.closes:
                    again = self._passed_over(rest)
                    await self._see_it_end()
                    break
            else:
                await self._finish()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        return again

    def _patience(self, request: Request) -> float:
        return self.options.timeout + (self.options.stream_seconds if request.behaviour is Behaviour.STREAM else 0)

    async def _write(self) -> None:
        self.written_at = time.monotonic()
        first = self.batch[0]
        pause = self.client.random.uniform(0, self.options.trickle_seconds / first.drops) if first.drops else 0.0
        if len(self.batch) > 1:
            self.wire.write(b"".join(piece for request in self.batch for piece in self._pieces(request)))
        else:
            for number, piece in enumerate(self._pieces(self.batch[0])):
                if number:
                    await asyncio.sleep(pause or self.client.random.choice((0, 0, 0.01)))
                self.wire.write(piece)
        if self.batch[0].behaviour is Behaviour.HALF_CLOSE:
            self.wire.write_eof()

    def _pieces(self, request: Request) -> list[bytes]:
        return request.pieces(self.client.authority)

    async def _answer(self, request: Request) -> Head:
        """Reads one answer whole and accounts for its request."""
        head = await self.connection.reader.head()
        body = bytearray()
        async for piece in self.connection.reader.body(head):
            body += piece
            check_lines(request, head, body)
        seconds = time.monotonic() - self.written_at
        self.connection.answered += 1
        if head.status != 200:
            self.result.note(request.behaviour, Outcome.STATUS, request.id, f"{head.status}: {bytes(body[:80])!r}")
        elif wrong := what_is_wrong(request, head, bytes(body)) or self._who(head):
            self.result.note(request.behaviour, Outcome.MIXED, request.id, wrong)
            self.connection.over = True
        else:
            self.result.note(request.behaviour, Outcome.OK, request.id)
            pid, generation = int(head.fields["x-pid"]), head.fields["x-generation"]
            self.result.note_answer(request.behaviour, pid, generation, seconds)
        return head

    def _who(self, head: Head) -> str:
        """What is wrong with who answers; "" when nothing is."""
        before, self.connection.pid = self.connection.pid, int(head.fields["x-pid"])
        if self.options.one_process and before not in {0, self.connection.pid}:
            return f"process {self.connection.pid} answers on a connection of process {before}"
        return ""

    def _broken(self, left: list[Request], error: Exception) -> list[Request]:
        """The connection gave no (whole) answer to the first of `left`, so none to the others."""
        self.connection.over = True
        answered = len(self.batch) - len(left)
        silent = self.wire.received == self.received_before
        late = self.wire.ended_at - self.written_at
        graves = self.options.graves
        if graves is not None and graves.claims(self.wire.port, self.wire.made_at):
            for request in left:
                self.result.note(request.behaviour, Outcome.KILLED, request.id)
            return []
        if isinstance(error, Ended) and silent and self._was_a_race(late):
            for request in left:
                self.result.note(request.behaviour, Outcome.IDLE_CLOSE, request.id)
            at, first = self.written_at - self.result.began, left[0]
            self.result.races.append(
                f"{at:8.3f} s  {first.behaviour.value} {first.id}: {self.idle:.3f} s of rest, closed after {late:.4f} s"
            )
            return left
        if isinstance(error, TimeoutError):
            outcome, detail = Outcome.TIMEOUT, f"{self.wire.received - self.received_before} bytes had come"
        elif isinstance(error, Malformed):
            outcome, detail = Outcome.MIXED, str(error)
        else:
            outcome = Outcome.LOST
            kind = "reused" if self.was_idle else "new"
            progress = "not a byte" if silent else f"{answered} answers and a part"
            idle = f" after {self.idle:.3f} s of rest" if self.was_idle else ""
            detail = f"{error} after {late:.3f} s on a {kind} connection{idle}, {progress}"
        self.result.note(left[0].behaviour, outcome, left[0].id, detail)
        for request in left[1:]:
            self.result.note(request.behaviour, Outcome.LOST, request.id, f"behind {left[0].id}: {outcome.value}")
        return []

    def _was_a_race(self, late: float) -> bool:
        """Whether the server may have closed the connection before it saw the request, which came after such a rest."""
        ours = self.client.load.lateness(self.wire.changed_at)
        kept = self.idle + ours >= self.options.idle_close_after
        return self.was_idle and kept and late <= self.options.race_window + ours

    def _passed_over(self, rest: list[Request]) -> list[Request]:
        self.connection.over = True
        for request in rest:
            self.result.note(request.behaviour, Outcome.UNPROCESSED, request.id)
        return rest

    async def _finish(self) -> None:
        """The batch is answered. A connection that we half-closed has to end now."""
        if self.batch[0].behaviour is Behaviour.HALF_CLOSE or self.batch[-1].last:
            self.connection.over = True
            await self._see_it_end()

    async def _see_it_end(self) -> None:
        """After its last answer nothing may come but the end."""
        try:
            async with asyncio.timeout(self.options.timeout):
                while not self.wire.ended:
                    await self.wire.change()
        except TimeoutError:
            self.result.note_violation(self.client.behaviour, "still open long after its last answer")
        if self.wire.buffer:
            surplus = bytes(self.wire.buffer[:80])
            self.result.note_violation(self.client.behaviour, f"bytes after the last answer: {surplus!r}")
