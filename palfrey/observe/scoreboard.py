"""The scoreboard: one row of shared memory for each process, by which they know of one another without speaking.

An anonymous shared mapping, made by the arbiter before it forks. Each row has a single writer, the process that it
was given to, and any number of readers, so there is no lock: a field is one aligned 64-bit word, which the machines
that Python runs on store whole. Readers may see two fields of different moments; nobody may depend on more.

The arbiter gives rows out (lowest free one first, `palfrey/master/spawn.py`), clears a row when its process has been
reaped, and reads heartbeats. The workers read one another's connection counts for gated accept. A new field is a new
line in `Row`; words up to `WORDS` are free.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from enum import IntEnum
from typing import overload

WORDS = 16
"""64-bit words in a row: 128 bytes, so that no two writers share a cache line (nor a pair that is fetched together)."""
DEFAULT_ROWS = 1024
"""Rows made when nobody says otherwise. 128 KiB of address space; pages that no process writes to cost nothing."""


class State(IntEnum):
    """What the process of a row is doing, by its own account."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    STOPPING = 4
    """Connections are gone; lifespan shutdown runs."""


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


class Row:
    """One process's row. `ints` and `floats` are the same words under two readings."""

    __slots__ = ("floats", "ints")

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

    def __init__(self, ints: memoryview[int], floats: memoryview[float]) -> None:
        self.ints = ints
        self.floats = floats

    def clear(self) -> None:
        """Forget the process. For the arbiter, once the process has been reaped."""
        for word in range(WORDS):
            self.ints[word] = 0


class Scoreboard:
    """`rows` rows and, before them, one that the arbiter alone writes: how far the given-out rows reach."""

    __slots__ = ("_memory", "_rows", "_shared")

    def __init__(self, rows: int = DEFAULT_ROWS) -> None:
        self._memory = mmap.mmap(-1, (rows + 1) * WORDS * 8)
        view = memoryview(self._memory)
        ints, floats = view.cast("q"), view.cast("d")
        self._shared = ints[:WORDS]
        spans = [slice(start * WORDS, (start + 1) * WORDS) for start in range(1, rows + 1)]
        self._rows = [Row(ints[span], floats[span]) for span in spans]

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

    def live(self) -> Iterator[Row]:
        """The rows that a process owns at the moment."""
        return (row for row in self._rows[: self.reach] if row.pid)
