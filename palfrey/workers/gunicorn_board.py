"""The numbers by which workers take turns at accepting (gate.py), where Gunicorn is the arbiter and has no scoreboard.

Gunicorn makes each worker's object before the fork. The first one brings a scoreboard into the arbiter, which all
workers inherit, and each is given a row of it: a new one, or that of a worker whose end the arbiter has seen.
"""

from __future__ import annotations

from typing import Any

from palfrey.observe.scoreboard import Scoreboard

ROWS = 1024
"""More workers than that, old ones that drain included, take what comes."""


class Board:
    """One an arbiter."""

    def __init__(self) -> None:
        self.scoreboard = Scoreboard(ROWS)
        self._owners: list[Any] = []

    def give(self, heartbeat: Any) -> int | None:
        """A row for the worker whose `tmp` this is; None where there is no more. For the arbiter, before the fork.

        Gunicorn closes the heartbeat file of a worker when it has ended.
        """
        for row, owner in enumerate(self._owners):
            if _is_closed(owner):
                self._owners[row] = heartbeat
                self.scoreboard.row(row).clear()
                return row
        if len(self._owners) == ROWS:
            return None
        self._owners.append(heartbeat)
        self.scoreboard.reach = len(self._owners)
        return len(self._owners) - 1


def _is_closed(heartbeat: Any) -> bool:
    try:
        heartbeat.fileno()
    except ValueError:
        return True
    return False
