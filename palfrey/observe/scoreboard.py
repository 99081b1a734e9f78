"""The scoreboard: one row of shared memory for each process, by which they know of one another without speaking.

An anonymous shared mapping, made by the arbiter before it forks. Each row has a single writer, the process that it
was given to, and any number of readers, so there is no lock: a field is one aligned 64-bit word, which the machines
that Python runs on store whole. Readers may see two fields of different moments; nobody may depend on more.

The arbiter gives rows out (lowest free one first, `palfrey/master/spawn.py`), clears a row when its process has been
reaped, and reads heartbeats. The workers read one another's connection counts for gated accept. A new field is a new
line in `Row`; words up to `NUMBERS` are free.

Nothing here is written for each request: a worker's sweep writes its row once a second, and with it the oldest request
that its application has in hand. So a row costs the same at any load, and what it says is a second old at most, or as
old as the heartbeat when the loop hangs.

What a process counted outlives it: when its row is cleared, the counters are added to those of its pool, which are rows
of their own, written by the arbiter alone. `Scoreboard.total` is a pool's count since the start of the service.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from enum import IntEnum
from typing import overload

WORDS = 32
"""64-bit words in a row: 256 bytes, so that no two writers share a cache line (nor a pair that is fetched together)."""
NUMBERS = 16
"""Words for numbers; those behind them are the text."""
TEXT = (WORDS - NUMBERS) * 8
"""Bytes of text in a row."""
DEFAULT_ROWS = 1024
"""Rows made when nobody says otherwise. 256 KiB of address space; pages that no process writes to cost nothing."""
POOLS = 64
"""Pools whose dead processes are counted: the application's workers, and one for each further site."""


class State(IntEnum):
    """What the process of a row is doing, by its own account."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    STOPPING = 4
    """Connections are gone; lifespan shutdown runs."""
    MOLD = 5
    """No worker: it holds the application and forks workers."""


class _Int:
    """A signed 64-bit field."""

    __slots__ = ("word",)

    def __init__(self, word: int) -> None:
        self.word = word

    @overload
    def __get__(self, row: None, owner: type[Row]) -> _Int: ...
    @overload
    def __get__(self, row: Row, owner: type[Row]) -> int: ...
    def __get__(self, row: Row | None, owner: type[Row]) -> int | _Int:
        return self if row is None else row.ints[self.word]

    def __set__(self, row: Row, value: int) -> None:
        row.ints[self.word] = value


class _Float:
    """A double."""

    __slots__ = ("word",)

    def __init__(self, word: int) -> None:
        self.word = word

    @overload
    def __get__(self, row: None, owner: type[Row]) -> _Float: ...
    @overload
    def __get__(self, row: Row, owner: type[Row]) -> float: ...
    def __get__(self, row: Row | None, owner: type[Row]) -> float | _Float:
        return self if row is None else row.floats[self.word]

    def __set__(self, row: Row, value: float) -> None:
        row.floats[self.word] = value


class _Text:
    """What the row has room for of some bytes, which must not hold a NUL. A reader may see a mixture of two writes."""

    __slots__ = ()

    @overload
    def __get__(self, row: None, owner: type[Row]) -> _Text: ...
    @overload
    def __get__(self, row: Row, owner: type[Row]) -> bytes: ...
    def __get__(self, row: Row | None, owner: type[Row]) -> bytes | _Text:
        return self if row is None else bytes(row.bytes).partition(b"\0")[0]

    def __set__(self, row: Row, value: bytes) -> None:
        row.bytes[:] = value[:TEXT].ljust(TEXT, b"\0")


class Row:
    """One process's row. `ints` and `floats` are the same words under two readings, `bytes` those behind them."""

    __slots__ = ("bytes", "floats", "ints")

    pid = _Int(0)
    state = _Int(1)
    """A `State`."""
    generation = _Int(2)
    heartbeat = _Float(3)
    """time.monotonic() when the process's loop last turned; 0.0 before it first did."""
    connections = _Int(4)
    """Open connections, idle ones included."""
    in_flight = _Int(5)
    """Requests that the application is working on."""
    requests = _Int(6)
    """Requests begun since the process started."""
    lag = _Float(7)
    """Seconds by which the last sweep came late: how long whatever is due has to wait for the loop's turn."""
    oldest_since = _Float(8)
    """time.monotonic() when the oldest request that the application has in hand began; 0.0: there is none."""
    oldest = _Text()
    """That request's method and target, cut to what fits."""
    pool = _Int(9)
    """Where the process's counters go when it has ended: the pool's index, by `Scoreboard.pool`."""
    ended = _Int(10)
    """In a pool's row: processes whose counters are in it."""
    name = _Text()
    """In a pool's row: whose it is."""
    admits = _Int(11)
    """Connections at this moment, as gated accept compares them (`palfrey/workers/gate.py`); 0: it does not accept."""
    looks = _Int(12)
    """How often the process has looked whether a connection waits, while there were others: so its loop turns."""
    websockets = _Int(13)
    """Open ones: so many of the connections. Of the requests in flight they are some, until their applications end."""

    def __init__(self, ints: memoryview[int], floats: memoryview[float], text: memoryview[int]) -> None:
        self.ints = ints
        self.floats = floats
        self.bytes = text

    def clear(self) -> None:
        """Forget the process. For the arbiter, once the process has been reaped."""
        for word in range(WORDS):
            self.ints[word] = 0


class Scoreboard:
    """`rows` rows and, before them, those that the arbiter alone writes: how far the given-out rows reach, and one for
    each pool with what its dead processes have counted."""

    __slots__ = ("_memory", "_pools", "_rows", "_shared", "_words")

    def __init__(self, rows: int = DEFAULT_ROWS) -> None:
        self._memory = mmap.mmap(-1, (1 + POOLS + rows) * WORDS * 8)
        view = memoryview(self._memory)
        ints, floats = view.cast("q"), view.cast("d")
        made = []
        for first in range(0, len(ints), WORDS):
            numbers, text = slice(first, first + WORDS), slice((first + NUMBERS) * 8, (first + WORDS) * 8)
            made.append(Row(ints[numbers], floats[numbers], view[text]))
        self._shared = made[0].ints
        self._pools = made[1 : 1 + POOLS]
        self._rows = made[1 + POOLS :]
        self._words = ints[(1 + POOLS) * WORDS :]

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Row:
        """The row of that index, 0 to len - 1. Raises IndexError beyond."""
        return self._rows[index]

    @property
    def reach(self) -> int:
        """One more than the highest row given out: readers of all processes need look no further."""
        return self._shared[0]

    @reach.setter
    def reach(self, rows: int) -> None:
        self._shared[0] = rows

    def column(self, field: _Int) -> list[int]:
        """One number of each row that has been given out, by index: the cheapest look at all processes."""
        return self._words[field.word : self.reach * WORDS : WORDS].tolist()

    def live(self) -> Iterator[Row]:
        """The rows that a process owns at the moment."""
        return (row for row in self._rows[: self.reach] if row.pid)

    # Pools

    def pool(self, name: str) -> int:
        """The index of the pool of that name, which is given one if it has none: for the arbiter. Raises IndexError
        when there are more pools than `POOLS`."""
        for index, row in enumerate(self._pools):
            if row.name in (b"", name.encode()):
                row.name = name.encode()
                return index
        raise IndexError(f"more than {POOLS} pools")

    def fold(self, row: Row) -> None:
        """The process of this row has ended: its counters become its pool's. For the arbiter, before `clear`."""
        total = self._pools[row.pool]
        total.requests += row.requests
        total.ended += 1

    def total(self, pool: int) -> int:
        """Requests that the pool has begun since the service started, by the living and the dead."""
        return self._pools[pool].requests + sum(row.requests for row in self.live() if row.pool == pool)

    def ended(self, pool: int) -> int:
        """How many processes of the pool have ended."""
        return self._pools[pool].ended
