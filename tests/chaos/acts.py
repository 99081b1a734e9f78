"""What is done to the server, one row each; every act waits until what it asked for is there, and says what came of it.

An act whose effect does not come raises `NothingHappened`: that is a finding, with the seed that shows it.
"""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palfrey.config.settings import ROWS
from tests.support.graves import stop

if TYPE_CHECKING:
    from tests.chaos.storm import Storm

ANSWERS = 10
"""That a new release has to give before the storm goes on."""
SURPLUS = 3
"""Most workers beyond those at the start."""


def reload(storm: Storm) -> str:
    release, since = storm.site.write_good(), storm.mark()
    storm.subject.tell(signal.SIGHUP)
    return storm.taken(release, since)


def reload_twice(storm: Storm) -> str:
    """The second supersedes the first, or, if that was quicker, follows it."""
    storm.site.write_good()
    storm.subject.tell(signal.SIGHUP)
    time.sleep(storm.chance.uniform(0, 0.5))
    release, since = storm.site.write_good(), storm.mark()
    storm.subject.tell(signal.SIGHUP)
    return "superseded; " + storm.taken(release, since)


def supersede_a_hanging_one(storm: Storm) -> str:
    storm.site.write_hanging()
    since = storm.mark()
    storm.subject.tell(signal.SIGHUP)
    storm.subject.line("trying it", since)
    time.sleep(storm.chance.uniform(0, 0.5))
    release, since = storm.site.write_good(), storm.mark()
    storm.subject.tell(signal.SIGHUP)
    return "a hanging import superseded; " + storm.taken(release, since)


def reload_broken(storm: Storm) -> str:
    broken, since = storm.site.write_broken(storm.chance), storm.mark()
    storm.subject.tell(signal.SIGHUP)
    storm.subject.line("Reload refused", since)
    return f"{broken}: refused"


def reload_amid_a_kill(storm: Storm) -> str:
    """Who is killed may be the canary, and the reload is then refused for it."""
    release, since = storm.site.write_good(), storm.mark()
    storm.subject.tell(signal.SIGHUP)
    time.sleep(storm.chance.uniform(0, 1.0))
    victim = storm.victim()
    killed = "nobody to kill"
    if victim is not None and storm.graves.bury(victim):
        os.kill(victim, signal.SIGKILL)
        killed = f"{victim} killed with {storm.graves.pids[victim]} connections"
    outcome = storm.subject.line("Reload refused|Generation [0-9]+ serves with", since)
    if "refused" in outcome[0]:
        storm.site.broken = ""  # what lies on disk is fit to serve
        return f"{killed}: refused"
    return f"{killed}; " + storm.taken(release, since)


def within_bounds(storm: Storm, by: int) -> str:
    """TTIN or TTOU, unless that would be too many or too few."""
    if storm.target >= storm.options.workers + SURPLUS:
        by = -1
    if storm.target <= max(1, storm.options.workers - 1):
        by = +1
    return more(storm) if by > 0 else fewer(storm)


def more(storm: Storm) -> str:
    since = storm.mark()
    storm.subject.tell(signal.SIGTTIN)
    storm.target += 1
    storm.subject.line(f"Workers: {storm.target},", since)
    if storm.site.broken:
        return f"{storm.target} workers wanted"
    storm.subject.line(rf"Worker {storm.target} \(\d+\) is ready", since)
    return f"{storm.target} workers"


def fewer(storm: Storm) -> str:
    since = storm.mark()
    storm.subject.tell(signal.SIGTTOU)
    storm.target -= 1
    storm.subject.line(f"Workers: {storm.target},", since)
    return f"{storm.target} workers"


def reopen(storm: Storm) -> str:
    since = storm.mark()
    storm.site.rotate()
    storm.subject.tell(signal.SIGUSR1)
    storm.subject.line("Log files opened anew", since)
    storm.subject.until(storm.site.access_log.exists, "a new access log")
    return "log rotated"


def kill(storm: Storm) -> str:
    victim = storm.victim()
    if victim is None or not storm.graves.bury(victim):
        return "nobody to spare"
    os.kill(victim, signal.SIGKILL)
    storm.wait_for_workers()
    return f"{victim} with {storm.graves.pids[victim]} connections"


def kill_mold(storm: Storm) -> str:
    """Nobody who serves notices; it is made anew from what lies on disk."""
    mold = storm.subject.mold()
    if mold is None:
        return "nobody preloads"
    if storm.site.broken or not storm.graves.bury(mold):
        return "not while the release on disk is broken"
    since = storm.mark()
    os.kill(mold, signal.SIGKILL)
    new = storm.subject.line(r"Mold \((\d+)\) is ready", since)[1]
    return f"{mold} made anew as {new}"


def hang(storm: Storm) -> str:
    """A worker stands still until the arbiter gives it up."""
    victim = storm.victim()
    if victim is None or not storm.graves.bury(victim):
        return "nobody to spare"
    storm.subject.until(lambda: victim not in storm.subject.present(), f"an end of the stopped worker {victim}")
    storm.wait_for_workers()
    return f"{victim} with {storm.graves.pids[victim]} connections, given up by the arbiter"


def pause(storm: Storm) -> str:
    """A worker stands still for a moment: nothing may be lost."""
    victim = storm.victim()
    seconds = storm.chance.uniform(0.2, 1.5)
    if victim is None or not stop(victim):
        return "nobody to spare"
    time.sleep(seconds)
    os.kill(victim, signal.SIGCONT)
    return f"{victim} for {seconds:.1f} s"


def end_worker(storm: Storm) -> str:
    """An operator's TERM to a worker: it drains, and is replaced."""
    victim = storm.victim()
    if victim is None:
        return "nobody to spare"
    os.kill(victim, signal.SIGTERM)
    storm.subject.until(lambda: victim not in storm.subject.present(), f"an end of worker {victim}")
    storm.wait_for_workers()
    return str(victim)


def pause_arbiter(storm: Storm) -> str:
    seconds = storm.chance.uniform(0.2, 1.5)
    arbiter = storm.subject.arbiter
    if stop(arbiter):
        time.sleep(seconds)
        os.kill(arbiter, signal.SIGCONT)
    return f"for {seconds:.1f} s"


HOARD = 8
"""Requests that make a worker's memory too much, with room to spare."""
WEIGHED_WITHIN = 8.0
"""Seconds in which a worker has looked at its memory, unless it was replaced for another reason before."""


def hoard(storm: Storm) -> str:
    """A few requests that make a worker's memory grow, until one asks to be replaced for that.

    Few, since each counts towards max_requests as well: a worker that is asked and asked is replaced for those.
    """
    if storm.site.broken:
        return "not while the release on disk is broken"
    since = storm.mark()
    connection = http.client.HTTPConnection("127.0.0.1", storm.subject.port, timeout=60)
    again_at = 0.0

    def grown() -> bool:
        nonlocal again_at
        if time.monotonic() >= again_at:
            connection.close()
            for _ in range(HOARD):
                connection.request("GET", "/hoard", headers={"X-Request-Id": "-"})
                connection.getresponse().read()
            again_at = time.monotonic() + WEIGHED_WITHIN
        return any("max_memory" in line for line in storm.subject.lines[since:])

    try:
        storm.subject.until(grown, "a worker that is replaced for its memory")
    finally:
        connection.close()
    return "one worker replaced for its memory"


def upgrade(storm: Storm) -> str:
    release = storm.site.write_good()
    before = storm.subject.arbiter
    os.kill(before, signal.SIGUSR2)
    arbiter = storm.subject.until(lambda: storm.other_arbiter(before), "another arbiter in the pid file")
    storm.wait_for_release(release)
    storm.subject.until(lambda: storm.gone(before), f"an end of the old arbiter {before}")
    return f"arbiter {before} handed over to {arbiter}"


@dataclass(frozen=True, slots=True)
class Act:
    name: str
    do: Callable[[Storm], str]
    times: int = 1
    """In one round of all acts."""
    possible: Callable[[], bool] = lambda: True


ACTS: dict[str, Act] = {
    act.name: act
    for act in (
        Act("HUP", reload, 4),
        Act("HUP twice", reload_twice),
        Act("HUP over a hanging one", supersede_a_hanging_one),
        Act("HUP, broken", reload_broken, 2),
        Act("HUP and SIGKILL", reload_amid_a_kill),
        Act("TTIN", lambda storm: within_bounds(storm, +1), 3),
        Act("TTOU", lambda storm: within_bounds(storm, -1), 3),
        Act("USR1", reopen, 2),
        Act("SIGKILL", kill, 2),
        Act("SIGKILL to the mold", kill_mold),
        Act("SIGSTOP", hang),
        Act("SIGSTOP, SIGCONT", pause, 2),
        Act("TERM to a worker", end_worker, 2),
        Act("SIGSTOP, SIGCONT to the arbiter", pause_arbiter),
        Act("memory", hoard, possible=lambda: "max_memory" in ROWS),
        Act("USR2", upgrade, possible=lambda: "upgrade" in ROWS),
    )
}
