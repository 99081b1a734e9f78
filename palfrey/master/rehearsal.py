"""The rules for a developer's pool (`Terms.develop`): nobody meets the old code, and it is in nobody's way. Pure.

They are among the rules of `palfrey/master/plan.py`. A new generation is tried beside the old one, as everywhere; but
from its first moment the old one's workers hold, and resume only if it is refused. And an application that takes
something for itself, a port or a lock on a file, cannot start beside its predecessor: where that is what the failure
names, the old workers quit, and it is tried once more, alone.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from palfrey.master.actions import Action, Hold, Quit, Resume, TryAgain
from palfrey.master.records import Phase, Pool

if TYPE_CHECKING:
    from palfrey.master.overdue import Clock
    from palfrey.master.roster import Roster

TAKEN = re.compile(
    rf"\[Errno ({errno.EADDRINUSE}|{errno.EAGAIN}|{errno.EBUSY})\]|address already in use"
    r"|database is locked|could not set lock",
    re.IGNORECASE,
)
"""What failures say of something that somebody else has: bind(2), flock(2), SQLite, DuckDB."""


def hold_back(roster: Roster, clock: Clock) -> Iterator[Action]:
    """Workers of older code than the newest there is take nothing new; if that was refused they serve on."""
    for pool in roster.pools.values():
        if not pool.terms.develop:
            continue
        newest = pool.candidate.generation if pool.candidate is not None else pool.generation
        for worker in roster.workers.values():
            if worker.pool != pool.name or worker.is_mold or worker.phase is not Phase.READY:
                continue
            if worker.held != (worker.generation < newest):
                yield Resume(worker.pid) if worker.held else Hold(worker.pid)


def make_room(roster: Roster, clock: Clock) -> Iterator[Action]:
    """The candidate found something taken: everybody else quits, and when they are gone it is tried again."""
    for pool in roster.pools.values():
        candidate = pool.candidate
        if candidate is None or candidate.failure is None or not is_in_the_way(pool):
            continue
        others = [worker for worker in roster.workers.values() if worker.pool == pool.name and not worker.is_mold]
        for worker in others:
            if worker.phase in (Phase.BOOTING, Phase.READY, Phase.DRAINING):
                yield Quit(worker.pid, "may have what the new code needs")
        if not others:
            yield TryAgain(pool.name, candidate.generation, candidate.failure.reason)


def is_in_the_way(pool: Pool) -> bool:
    """Whether the candidate's failure may be due to its predecessor: judged only when it has failed without."""
    candidate = pool.candidate
    if not pool.terms.develop or candidate is None or candidate.failure is None or candidate.alone:
        return False
    return TAKEN.search(f"{candidate.failure.reason}\n{candidate.failure.detail}") is not None
