"""What systemd is told of the service, and when: readiness, one line of STATUS, signs of life, pleas for time.

    begins             STATUS=
    serves             READY=1, once every slot serves or has failed once (the plan's Announce)
    reload begins      RELOADING=1 MONOTONIC_USEC=, at once: Type=notify-reload compares it with when it sent HUP
    reload is over     READY=1; a refused one too, the old generation being as ready as it was, with why in STATUS
    stops              STOPPING=1
    time passes        WATCHDOG=1 at half of WATCHDOG_USEC, while the arbiter's loop turns and a worker's does
                       EXTEND_TIMEOUT_USEC=, while a start, a reload or a stop is under way

Whoever knows of an event says so by a method. `tell` is called at the end of every turn of the arbiter's loop, which
sleeps no longer than until `due`: it sends what is owed, as one datagram, and STATUS only where that has changed.

The watchdog is fed for the service, not for the process: when no worker's loop has turned for half of the watchdog's
time, it goes unfed, which is logged, and systemd restarts the whole. That is a last resort; the arbiter replaces
hanging workers by itself after `timeout`, if WatchdogSec= leaves it the time to.

More time is asked for in small portions, so that systemd finds an arbiter that hangs nearly as soon as without, and
only where the arbiter has a deadline of its own: with `boot_timeout` off, systemd's is the only one there is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from enum import Enum

from palfrey.master.casting import broken_mold
from palfrey.master.records import Phase, Pool
from palfrey.master.roster import Roster
from palfrey.system import systemd

HEARTBEAT = 1.0
"""Seconds between the heartbeats of a worker whose loop turns, by palfrey/workers/serving.py."""
EXTEND_EVERY = 10.0
"""Seconds after which more time is asked for again."""
EXTEND_BY = 30.0
"""Seconds that are asked for: two of the pleas may be late."""
RETRY = 1.0
"""Seconds until a manager that took no message is tried again, and until hanging workers are looked at again."""
HAND_OVER_PATIENCE = 5.0
"""Seconds for a manager that is busy to hear who the main process is."""
TRIES = 60
"""Tries after which a manager that never takes a message is left alone."""


class Stage(Enum):
    """Of the service, in the manager's eyes."""

    STARTING = "starting"
    SERVING = "serving"
    RELOADING = "reloading"
    STOPPING = "stopping"


class Bulletin:
    """`notify` sends; False when the message was not taken."""

    def __init__(self, notify: Callable[..., bool] = systemd.notify, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.stage = Stage.STARTING
        self.refusal = ""
        """Why the last reload was refused, for as long as none has succeeded."""
        self.upgrade = ""
        """How a binary upgrade stands, in words; "" while there is none."""
        self.due: float | None = None
        """When `tell` has to be called at the latest, by time.monotonic()."""
        self.silent = False
        """Another process speaks for the service."""
        self._heard = bool(environ.get("NOTIFY_SOCKET"))
        self._notify = notify
        self._watchdog = systemd.watchdog(environ)
        self._feed_at: float | None = None
        """When the watchdog is to be fed next; None until there is a service to watch."""
        self._starving = False
        self._extend_at: float | None = 0.0
        self._ready_owed = False
        self._main_pid: int | None = None
        self._last_words = ""
        """Why the service ends, where that was not ordered."""
        self._said = ""
        self._tries = TRIES

    # Events

    def begins(self) -> None:
        self._say_now(systemd.status_state("Starting"))

    def serves(self, main_pid: int | None = None) -> None:
        """It was announced how a generation stands: in place, short of somebody, or not any more. `main_pid` when
        systemd does not know which process is the main one."""
        self._main_pid = main_pid
        if self.stage is not Stage.SERVING or main_pid is not None:
            self._is_ready()

    def reloads(self) -> None:
        self._move(Stage.RELOADING)
        self._ready_owed = False
        self._say_now(systemd.reloading_state("Reloading"))

    def declines(self) -> None:
        """HUP came and means no reload now. Whoever sent it through systemd (Type=notify-reload) waits all the same."""
        self.reloads()
        self._is_ready()

    def adopts(self) -> None:
        """The reload has brought a generation that is fit; it is not in place everywhere yet."""
        self.refusal = ""
        if self.stage is Stage.RELOADING:
            self._ready_owed = False

    def refuses(self, reason: str) -> None:
        """The reload came to nothing."""
        self.refusal = reason
        self._is_ready()

    def hand_over(self, pid: int) -> bool:
        """Another process is the service, and systemd's main process, from now on. It listens to that one alone then
        (NotifyAccess=main), so we have to say it, and nothing more. False when systemd did not take it, which will
        take our end for the service's: so for this once the arbiter waits."""
        taken = not self._heard or self.silent or self._notify(systemd.main_pid_state(pid), patience=HAND_OVER_PATIENCE)
        self.silent = True
        return taken

    def take_back(self) -> None:
        """That other process is no more."""
        self.silent = False
        self.serves(os.getpid())

    def stops(self, why: str = "") -> None:
        """The service begins to end; `why` where nobody has ordered that."""
        self._move(Stage.STOPPING)
        self._last_words = why
        self._ready_owed = False
        self._say_now(systemd.stopping_state(why or "Stopping"))

    def _is_ready(self) -> None:
        """In a reload it is said once no canary is waited for: it may be the old generation that was announced."""
        self._ready_owed = True

    def _move(self, stage: Stage) -> None:
        if stage is not self.stage:
            self.stage = stage
            self._extend_at = None if stage is Stage.SERVING else 0.0

    # The end of each turn

    def tell(self, roster: Roster, now: float, log: logging.Logger) -> None:
        """Send what is owed by now, and set `due`."""
        self.due = None
        if not self._heard or self.silent:
            return
        if self._ready_owed and not any(pool.candidate for pool in roster.pools.values()):
            self._move(Stage.SERVING)
        ready = self._ready_owed and self.stage is Stage.SERVING
        status = self._last_words or describe(roster, self.stage, self.refusal, self.upgrade)
        told = status != self._said
        lines = [
            systemd.ready_state(main_pid=self._main_pid) if ready else "",
            systemd.status_state(status) if told or ready else "",
            systemd.alive_state() if self._feeds(roster, now, log) else "",
            systemd.extend_state(EXTEND_BY) if self._extends(roster, now) else "",
        ]
        text = "\n".join(filter(None, lines))
        if not text or self._say_now(text):
            self._ready_owed, self._said = self._ready_owed and not ready, status
        elif self._tries:
            self._tries -= 1
            self._feed_at = now if self._feed_at is not None else None
            self._at(now + RETRY)
        else:
            self._heard = False
            log.warning("systemd takes no messages at NOTIFY_SOCKET; it is told nothing more")
            self.due = None

    def _say_now(self, text: str) -> bool:
        if not self._heard or self.silent:
            return False
        taken = self._notify(text)
        if taken:
            self._tries = TRIES
        return taken

    def _at(self, when: float) -> None:
        self.due = when if self.due is None else min(self.due, when)

    def _feeds(self, roster: Roster, now: float, log: logging.Logger) -> bool:
        """Whether to give the sign of life now; systemd watches from the first READY=1 until STOPPING=1."""
        if self._watchdog is None or self.stage in (Stage.STARTING, Stage.STOPPING):
            return False
        half = self._watchdog / 2
        if self._feed_at is None:
            self._feed_at = now
        if now < self._feed_at:
            self._at(self._feed_at)
            return False
        fresh = max(half, 3 * HEARTBEAT)
        healthy = any_healthy(roster, now - fresh)
        if healthy:
            self._feed_at = now + half
            self._at(self._feed_at)
        else:
            self._at(now + min(RETRY, half))
        if healthy is self._starving:
            self._starving = not healthy
            if healthy:
                log.info("A worker answers again: systemd's watchdog is fed")
            else:
                log.error(
                    "No worker serves and answers: systemd's watchdog is not fed. It ends the service within %g s "
                    "unless one does",
                    half,
                )
        return healthy

    def _extends(self, roster: Roster, now: float) -> bool:
        if self._extend_at is None or not self._is_bounded(roster):
            return False
        due = now >= self._extend_at
        if due:
            self._extend_at = now + EXTEND_EVERY
        self._at(self._extend_at)
        return due

    def _is_bounded(self, roster: Roster) -> bool:
        """Whether what is under way has a deadline of ours."""
        if self.stage is Stage.STOPPING:
            return True
        terms = [pool.candidate.terms if pool.candidate else pool.terms for pool in roster.pools.values()]
        return all(each.boot_timeout for each in terms)


def any_healthy(roster: Roster, since: float) -> bool:
    """Whether the loop of a serving worker has turned after that time. Where a successor's workers serve in place of
    ours, they are its business."""
    return roster.succession.retired or any(
        max(worker.heartbeat, worker.ready_at or 0.0) >= since
        for worker in roster.workers.values()
        if worker.phase is Phase.READY and not worker.is_mold
    )


def describe(roster: Roster, stage: Stage, refusal: str = "", upgrade: str = "") -> str:
    """The service in one line, for `systemctl status`."""
    if roster.ending:
        return f"Stopping: {counted(sum(not worker.is_mold for worker in roster.workers.values()))} left"
    parts = [_pool(roster, pool, stage) for pool in roster.pools.values()]
    if roster.leaving:
        parts.insert(0, "Not ready any more, stopping soon")
    if refusal:
        parts.append(f"the last reload was refused: {refusal}")
    if any(pool.suspended and pool.suspension_told for pool in roster.pools.values()):
        parts.append("nobody who serves is replaced until a reload succeeds")
    if upgrade:
        parts.append(upgrade)
    return "; ".join(parts)


def _pool(roster: Roster, pool: Pool, stage: Stage) -> str:
    serving = [
        worker
        for worker in roster.workers.values()
        if worker.phase is Phase.READY and worker.pool == pool.name and not worker.is_mold
    ]
    current = {worker.slot for worker in serving if worker.generation == pool.generation and worker.slot < pool.target}
    older = {worker.slot for worker in serving if worker.generation < pool.generation and worker.slot < pool.target}
    count = f"{len(current)} of {counted(pool.target)}"
    if stage is Stage.STARTING:
        text = f"Starting: {count} ready"
    else:
        text = f"Generation {pool.generation} serves with {count}"
    if older - current:
        text += f", an older one with {len(older - current)}"
    for slot in pool.wanted():
        if slot.number in current or slot.last is None:
            continue
        if slot.number not in older or slot.fails_with(pool.generation):
            row = f" ({slot.failures} failures in a row)" if slot.failures > 2 else ""
            halted = ", where the roll-out has halted" if slot.number in older else ""
            text += f"; {slot.last.of(f'worker {slot.number + 1}')}{row}{halted}"
            break
    mold = broken_mold(roster, pool)
    if mold is not None and mold.last is not None:
        text += f"; {mold.last.of(mold.label)}"
    if pool.candidate is not None:
        text += f"; generation {pool.candidate.generation} is tried"
    return text


def counted(count: int, what: str = "worker") -> str:
    """ "1 worker", "2 workers" """
    return f"1 {what}" if count == 1 else f"{count} {what}s"
