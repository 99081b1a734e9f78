"""A load of HTTP/2 that accounts for every request: some connections, each shared by several users at a time.

A connection is one of `Client` (tests/support/http2.py), so that whatever the server sends is checked, frame by frame.
What a client of RFC 9113 section 6.8 does is done here: after GOAWAY a connection is left and another one made; what
was asked on streams above the last is asked again, what was asked on the others has to be answered. Some connections
are *late*: they neither answer PING nor see the first GOAWAY, and ask on for a moment behind the last one, as if the
server's words took their time to arrive.

    with Http2Load(port=8000) as load:       # in a thread of its own
        load.wait_for(lambda: load.generations["2"] > 100, 30)
    load.stop()                              # ends what is in flight; then look at `ok` and `failures`

The application (`APP`, to be served as `counted:app`) is tests/support/loadapp.py, and writes the id of each request
that it begins to a file: none may be there twice.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from ssl import SSLContext
from types import TracebackType
from typing import Self

from tests.support.graves import Graves
from tests.support.http2 import Client, Cut, SocketLink
from tests.support.http2frames import END_STREAM, MAX_WINDOW, Answer, Kind, Setting, data, headers
from tests.support.http2ledger import Malformed

APP = '''\
"""The load's application, and a list of what has been begun."""
import os
from tests.support.loadapp import app as inner

begun = os.open("begun", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def app(scope, receive, send):
    if scope["type"] == "http":
        name = dict(scope["headers"]).get(b"x-request-id", b"")
        if name:
            os.write(begun, name + b"\\n")
    await inner(scope, receive, send)
'''

PATIENCE = 30.0
"""Seconds for one answer."""
LATE = 0.05
"""Seconds that the last GOAWAY takes to arrive at those that are late."""
LARGEST = 16_000
"""Bytes of a request's content: all that are in flight at a time fit into the server's windows."""


class Again(Exception):
    """The server has not begun this request, and says so."""


class Killed(Exception):
    """The connection was inside a worker that the test has killed."""


class Connection:
    """One connection, with those who wait for its answers."""

    def __init__(self, load: Http2Load, client: Client, link: SocketLink, late: bool) -> None:
        self.load, self.client, self.link = load, client, link
        self.late = late
        self.leaving = False
        self.pid = ""
        self._last = MAX_WINDOW
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self.reading = asyncio.ensure_future(self._read())

    async def ask(self, name: str, method: str, path: str, content: bytes) -> Answer:
        """Raises Again, Killed or Cut."""
        client = self.client
        stream = client.new_stream()
        block = client.block(client.fields(method, path, ("x-request-id", name)))
        future = self._waiting[stream] = asyncio.get_running_loop().create_future()
        await client.send(headers(stream, block, 0x4 if content else 0x5))
        if content:
            # Apart, so that a GOAWAY may come in between.
            await asyncio.sleep(0)
            await client.send(data(stream, content, END_STREAM))
        async with asyncio.timeout(PATIENCE):
            await future
        return client.answer(stream)

    async def _read(self) -> None:
        client = self.client
        error: Exception = Cut("the connection has ended")
        try:
            while (frame := await client.next()) is not None:
                client.frames.clear()
                if frame.kind == Kind.GOAWAY:
                    self._note_goaway(frame.number, frame.code)
                elif frame.stream and frame.kind in {Kind.DATA, Kind.HEADERS, Kind.RST_STREAM}:
                    self._note_answer(frame.stream)
            if self._last == MAX_WINDOW:
                raise Cut("the connection ended before GOAWAY had named the last stream")
        except (Cut, Malformed) as raised:
            error = raised
        graves = self.load.graves
        if graves.claims(self.link.wire.port, self.link.wire.made_at):
            error = Killed()
        elif isinstance(error, Malformed) or self._last == MAX_WINDOW:
            self.load.note(f"connection of process {self.pid}: {error}")
        self._leave()
        self.link.close()
        for stream in list(self._waiting):
            self._settle(stream, error)

    def _note_goaway(self, last: int, code: int) -> None:
        if code:
            self.load.note(f"GOAWAY with code {code}")
        self.load.goaways += 1
        self._last = last
        if not self.late:
            self._leave()
        elif last < MAX_WINDOW:
            asyncio.get_running_loop().call_later(LATE, self._leave)

    def _leave(self) -> None:
        """The server's GOAWAY has arrived."""
        self.leaving = True
        for stream in [each for each in self._waiting if each > self._last]:
            self._settle(stream, Again())

    def _note_answer(self, stream: int) -> None:
        answer = self.client.answer(stream)
        if answer.code is not None and not answer.ended:
            refused = answer.code == 7  # REFUSED_STREAM (RFC 9113 section 8.7)
            self._settle(stream, Again() if refused else Cut(f"stream {stream} was reset with code {answer.code}"))
        elif answer.ended:
            self._settle(stream, None)

    def _settle(self, stream: int, error: Exception | None) -> None:
        future = self._waiting.pop(stream, None)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


class Http2Load:
    """See the module. What it counts may be looked at while it runs."""

    def __init__(
        self,
        port: int,
        *,
        connections: int = 8,
        users: int = 6,
        late: int = 2,
        tls: SSLContext | None = None,
        name: str = "",
        pause: float = 0.01,
    ) -> None:
        """`late`: how many of the connections are. `users` share each. `name` is the server's, for TLS."""
        self._port, self._tls, self._name = port, tls, name
        self.pause = pause
        self.busy = pause < 0.1
        self._connections, self._users, self._late = connections, users, late
        self.ok: set[str] = set()
        self.killed: set[str] = set()
        self.again = self.goaways = self.made = self.refused = 0
        self.generations: Counter[str] = Counter()
        self.pids: Counter[str] = Counter()
        self.failures: list[str] = []
        self.graves = Graves()
        self._answered = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="http2 load")
        self._error: BaseException | None = None
        self._count = 0

    # ------------------------------------------------------------ from the test

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Asks nothing more, and waits for what is in flight."""
        self.__exit__(None, None, None)

    def wait_for(self, seen: Callable[[], bool], seconds: float = PATIENCE) -> None:
        with self._answered:
            enough = self._answered.wait_for(lambda: seen() or bool(self.failures), seconds)
        assert enough, f"not within {seconds} s: {self}"
        assert not self.failures, str(self)

    def wait_for_answers(self, generation: int, count: int = 100) -> None:
        """So many more of this generation's."""
        until = self.generations[str(generation)] + count
        self.wait_for(lambda: self.generations[str(generation)] >= until)

    def check(self, begun: str) -> None:
        """The account balances: `begun` is what the applications have begun, an id a line."""
        assert not self.failures, str(self)
        times = Counter(begun.split())
        twice = [name for name, count in times.items() if count > 1]
        assert not twice, f"executed more than once: {twice[:10]}"
        assert self.ok <= times.keys()
        # What is begun and not answered was inside a worker that was killed.
        assert times.keys() - self.ok <= self.killed, f"begun in vain: {sorted(times.keys() - self.ok)[:10]}"

    def __str__(self) -> str:
        counts = f"{len(self.ok)} answered on {self.made} connections, {self.goaways} GOAWAY, {self.again} asked again"
        more = f"{len(self.killed)} killed, {self.refused} refused; generations {dict(self.generations)}"
        return "\n".join([f"{counts}, {more}", *self.failures[:20]])

    # ------------------------------------------------------------ in the thread

    def note(self, failure: str) -> None:
        self.failures.append(failure)

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error
            self.note(f"{type(error).__name__}: {error}")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(Group(self, number, number < self._late).run(self._users))

    def over(self) -> bool:
        return self._stop.is_set()

    def end(self) -> None:
        """Nobody listens any more."""
        self.refused += 1
        self._stop.set()

    def next_name(self) -> str:
        self._count += 1
        return f"r{self._count}"

    async def connect(self, late: bool) -> Connection:
        link = await SocketLink.connect(("127.0.0.1", self._port), self._tls, self._name)
        client = Client(link)
        client.polite = not late
        await client.begin((Setting.INITIAL_WINDOW_SIZE, 65535))
        self.made += 1
        return Connection(self, client, link, late)

    def answered(self, name: str, pid: str, generation: str) -> None:
        self.ok.add(name)
        self.pids[pid] += 1
        self.generations[generation] += 1
        with self._answered:
            self._answered.notify_all()


class Group:
    """Those who share one connection, and the next one when it is left."""

    def __init__(self, load: Http2Load, number: int, late: bool) -> None:
        self._load, self._late = load, late
        self._random = random.Random(number)
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._left: list[Connection] = []

    async def run(self, users: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(users):
                group.create_task(self._user())
        for connection in [*self._left, *([self._connection] if self._connection else [])]:
            connection.leaving = True
            connection.link.close()
            connection.reading.cancel()

    async def _user(self) -> None:
        load = self._load
        while not load.over():
            await self._one(load.next_name())
            # The late ones have something on its way at every moment, whatever that moment brings.
            await asyncio.sleep(0 if self._late and load.busy else self._random.uniform(0, 2 * load.pause))

    async def _one(self, name: str) -> None:
        """One request, asked as often as it takes."""
        load = self._load
        dice = self._random.random()
        content = b""
        if dice < 0.6:
            method, path = "GET", "/id"
        elif dice < 0.95:
            method, path, content = "POST", "/echo", self._random.randbytes(self._random.choice((1, 100, LARGEST)))
        else:
            method, path = "GET", "/stream?seconds=1"
        while True:
            try:
                connection = await self._connect()
            except ConnectionRefusedError:
                load.end()
                return
            except (OSError, Cut) as error:
                load.note(f"{name}: no connection: {error!r}")
                return
            try:
                answer = await connection.ask(name, method, path, content)
            except Again:
                load.again += 1
                continue
            except Killed:
                load.killed.add(name)
                return
            except (Cut, TimeoutError) as error:
                load.note(f"{name} {method} {path} of process {connection.pid}: {error!r}")
                return
            self._look_at(connection, name, answer, content)
            return

    async def _connect(self) -> Connection:
        async with self._connecting:
            if self._connection is not None and self._connection.leaving:
                self._left.append(self._connection)
                self._connection = None
            if self._connection is None:
                self._connection = await self._load.connect(self._late)
            return self._connection

    def _look_at(self, connection: Connection, name: str, answer: Answer, content: bytes) -> None:
        load = self._load
        body, answer.pieces = answer.body, []
        pid = answer["x-pid"]
        connection.pid = connection.pid or pid
        if answer.status != 200 or answer["x-request-id"] != name:
            load.note(f"{name}: {answer.status}, for {answer.all('x-request-id')}")
        elif content and body != content:
            load.note(f"{name}: {len(content)} bytes came back as {len(body)}")
        elif pid != connection.pid:
            load.note(f"{name}: process {pid} answers on a connection of process {connection.pid}")
        else:
            load.answered(name, pid, answer["x-generation"])
