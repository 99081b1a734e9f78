"""This process as the successor of another arbiter, from its start until that one has left.

What it hears and says is in upgrade.py, which is the other side of the line. Until the service is handed over this
process changes nothing that belongs to the other: not the pid file, not the files of UNIX sockets, and the service
manager hears nothing of it. It asks for the service when all its workers are ready, so that at no time fewer serve.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from palfrey.master.succession import Predecessor

if TYPE_CHECKING:
    from palfrey.master.desk import Desk


class Heir:
    """Does nothing in a process that was simply started."""

    def __init__(self, desk: Desk, pool: str) -> None:
        self._desk = desk
        self._pool = pool

    def begin(self) -> None:
        """Listen to the predecessor, and go on with the number of workers that its operator has set."""
        desk, heritage = self._desk, self._desk.house.heritage
        if heritage is None:
            return
        desk.roster.predecessor = Predecessor(heritage.predecessor)
        desk.bulletin.silent = True
        desk.ears.listen(heritage.channel, self._hear)
        configured, wanted = heritage.workers
        if desk.roster.pools[self._pool].terms.workers == configured:
            desk.roster.scale(self._pool, wanted - configured)
        desk.log.info("Process %d goes on serving until this one is ready", heritage.predecessor)

    @property
    def waits(self) -> bool:
        """Another process is the service, and serves."""
        before = self._desk.roster.predecessor
        return before is not None and not before.leaving

    def is_short(self) -> None:
        """Some workers are ready, and others have failed."""
        before = self._desk.roster.predecessor
        assert before is not None
        self._desk.log.warning("Process %d serves on until all workers of this one are ready", before.pid)

    def say_that_we_stop(self) -> None:
        heritage, before = self._desk.house.heritage, self._desk.roster.predecessor
        if heritage is not None and not heritage.channel.send("stopping") and before is not None:
            before.heard = True  # it is gone, or as good as

    def _hear(self) -> None:
        desk, heritage, before = self._desk, self._desk.house.heritage, self._desk.roster.predecessor
        assert heritage is not None
        assert before is not None
        for message in heritage.channel.receive():
            if message["kind"] == "yours":
                before.leaving = True
                self._take_over(None)
            elif message["kind"] == "heard":
                before.heard = True
        if not heritage.channel.closed:
            return
        desk.ears.forget(heritage.channel)
        heritage.channel.close()
        desk.roster.predecessor = None
        if before.leaving or desk.roster.ending:
            desk.log.info("Process %d has left", before.pid)
        else:
            desk.log.warning("Process %d has gone without handing over; this one is the service now", before.pid)
            self._take_over(os.getpid())

    def _take_over(self, main_pid: int | None) -> None:
        """The service is ours, and so are its names. `main_pid` when the service manager was not told."""
        self._desk.house.take_over()
        self._desk.bulletin.silent = False
        if self._desk.roster.pools[self._pool].announced is not None:
            self._desk.opens()
            self._desk.bulletin.serves(main_pid)
