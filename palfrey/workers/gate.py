"""Whose turn it is to accept: a worker takes a connection only while no other that could take it holds fewer.

Workers that watch one listening socket are woken alike, and who comes first would have it all. So each shows in the
scoreboard how many connections it holds while it accepts, and looks at the others' numbers before it takes more. It is
all advice, from numbers that may be a moment old: nobody waits for anybody. A worker that is not the one to take a
connection lets the others be first for a moment (`palfrey/workers/accept.py`) and takes it then if it is still there.
Those who were to be first and did not even look, since their loop is blocked or their process stopped, are asleep: one
connection is taken without counting them, and each time that they are found asleep still, twice as many. So a blocked
worker delays few, and one that only waits for its turn on a busy machine finds something left when that comes.

Workers are compared that listen on the very same sockets, of whatever generation. By itself a worker finds nobody.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from palfrey.observe.scoreboard import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palfrey.observe.scoreboard import Scoreboard
    from palfrey.system.sockets import Listener

SLACK = 4
"""By 2 to the minus so much a worker may hold more than the least: nothing below 16 connections, a sixteenth from there
on, which costs less than keeping it exact."""
COUNT_BITS = 32
COUNT = (1 << COUNT_BITS) - 1


class Gate:
    """One worker's. `admits` in its row is 0 while it does not accept, else the sockets' identity in the upper half and
    its connections, and one, in the lower: comparable in one sweep over the rows."""

    __slots__ = ("_asleep", "_base", "_board", "_least", "_looks", "_noted", "_row")

    def __init__(self, board: Scoreboard, index: int, listeners: Sequence[Listener]) -> None:
        """`index`: of this worker's row, which it alone writes."""
        self._board = board
        self._row = board.row(index)
        self._base = identity(listeners) << COUNT_BITS
        self._looks = 0
        self._least = 0
        """Of the numbers when last looked at, as they stand in the rows."""
        self._noted: dict[int, int] = {}
        self._asleep: dict[int, tuple[int, int, int]] = {}
        """Row to how often its process had looked when it was found asleep, and how many times it is passed over: from
        now on, and in all."""

    @property
    def alone(self) -> bool:
        """There is no other process, so that nobody looks at our numbers."""
        return self._board.reach == 1

    def show(self, held: int) -> None:
        """This worker accepts, and holds so many connections."""
        self._row.admits = self._base + held + 1

    def shut(self) -> None:
        """This worker does not accept: full, draining, or out of something."""
        self._row.admits = 0

    def room(self, held: int) -> int:
        """How many connections this worker may take now, that holds so many; 0 when it is for others to be first."""
        self._looks += 1
        self._row.looks = self._looks
        if not held:
            return 1  # nobody can have fewer
        numbers = self._board.column(Row.admits)
        if self._asleep:
            self._pass_over_sleepers(numbers)
        base = self._base
        self._least = min([number for number in numbers if 0 < number - base <= COUNT], default=base + held + 1)
        least = self._least - base - 1
        return max(0, least + (least >> SLACK) + 1 - held)

    def note(self) -> None:
        """Remember those who are to be first, by the last look."""
        looks = self._board.column(Row.looks)
        numbers = self._board.column(Row.admits)
        self._noted = {
            index: count
            for index, (number, count) in enumerate(zip(numbers, looks, strict=False))
            if number == self._least
        }

    def doubt(self) -> None:
        """A connection has waited for them in vain: those of the noted that have not looked are asleep."""
        looks = self._board.column(Row.looks)
        for index, count in self._noted.items():
            if index < len(looks) and looks[index] == count:
                _, _, times = self._asleep.get(index, (0, 0, 0))
                times = times * 2 or 1
                self._asleep[index] = (count, times, times)

    def _pass_over_sleepers(self, numbers: list[int]) -> None:
        looks = self._board.column(Row.looks)
        for index, (count, left, times) in list(self._asleep.items()):
            if index >= min(len(numbers), len(looks)) or looks[index] != count:
                del self._asleep[index]
            elif left:
                numbers[index] = 0
                self._asleep[index] = (count, left - 1, times)


def identity(listeners: Sequence[Listener]) -> int:
    """A number of 31 bits for these very sockets, the same in all processes that have inherited them."""
    inodes = sorted(os.fstat(listener.fileno()).st_ino for listener in listeners)
    return zlib.crc32(repr(inodes).encode()) & 0x7FFFFFFF
