"""What the operator wants, obeyed: one method for each handler that `palfrey.master.signals.SIGNALS` names.

An order only tells the roster, the log and the workers what is wanted; what follows is the plan's business. Whatever
goes wrong in one leaves the service as it was. Once the service ends, orders that would change it are ignored.
"""

from __future__ import annotations

import signal
import time
import traceback

from palfrey.config.hooks import call_hook
from palfrey.errors import PalfreyError
from palfrey.master.desk import POOL, Desk
from palfrey.master.renewal import Renewal
from palfrey.master.signals import Command
from palfrey.master.upgrade import Upgrade

ECHO = 0.3
"""Seconds within which a second SIGINT is the first one's echo: the terminal sends one to the whole group, and npm and
make pass theirs on."""


class Orders:
    def __init__(self, desk: Desk, upgrade: Upgrade) -> None:
        self._desk = desk
        self._upgrade = upgrade
        self._quit_at: float | None = None

    def obey(self, command: Command) -> None:
        self._desk.log.debug("Received %s", command.name)
        getattr(self, f"on_{command.handler}")(command)

    # Stop

    def on_stop(self, command: Command) -> None:
        self._stop(command, fast=False)

    def on_quit(self, command: Command) -> None:
        """At once; told so again, without waiting for anybody."""
        now = time.monotonic()
        if self._quit_at is None:
            self._quit_at = now
        elif now - self._quit_at > ECHO and command.signum == signal.SIGINT:
            self._desk.roster.hurry()
        self._stop(command, fast=True)

    def _stop(self, command: Command, *, fast: bool) -> None:
        roster = self._desk.roster
        if not roster.ending and self._upgrade.leave(command):
            if fast:
                roster.stop(fast=True)
            return
        delay = 0.0 if fast else roster.depart(time.monotonic())
        if delay:
            self._desk.house.generations.withdraw()
            self._desk.voice.departs_in(command.name, delay)
            return
        if not roster.ending or (fast and not roster.fast):
            self._desk.voice.stops(command.name, self._desk.workers, fast=fast)
        roster.stop(fast=fast)

    # Reload

    def on_reload(self, command: Command) -> None:
        """But a developer's server ends with its terminal, whose end sends the same signal."""
        if self._desk.terminal is not None and self._desk.terminal.is_gone():
            self._stop(command, fast=True)
        elif not self._upgrade.come_back():
            self.reload()

    def reload(self, why: str = "") -> None:
        """Read everything anew and let a canary try it; or say why not. `why` is for the log."""
        desk = self._desk
        if desk.roster.leaving or self._upgrade.refuse_reload():
            return
        desk.voice.reloads(why)
        generations = desk.house.generations
        known = desk.resolved.notices if desk.house.settings.reload else ()  # a developer reads them once
        try:
            with desk.house.looking_anew():
                with desk.house.inbox.impatient(generations.current.settings.boot_timeout):
                    resolved = desk.load()
                candidate, stay = generations.propose(resolved)
            desk.resolved = resolved
        except PalfreyError as error:
            self._refuse(str(error), getattr(error, "detail", ""))
            return
        except Exception as error:
            self._refuse(f"an error of Palfrey's own, {error!r}", traceback.format_exc())
            return
        except BaseException as error:  # no signal's: a KeyboardInterrupt is of the configuration's own making
            self._refuse(f"reading the configuration raised {error!r}", traceback.format_exc())
            return
        for notice in resolved.notices:
            if notice not in known:
                desk.log.warning("%s", notice.message)
        for warning in candidate.notices:
            desk.log.warning("%s", warning)
        call_hook(candidate.settings, "on_reload", desk.view(), log=desk.log)
        desk.voice.tries(candidate.number, stay)
        desk.roster.reload(POOL, candidate.number, candidate.terms)

    def _refuse(self, reason: str, detail: str) -> None:
        """It did not come to a canary. One that an earlier reload has sent out is called back: it was superseded."""
        generations = self._desk.house.generations
        generations.withdraw()
        self._desk.roster.refused(POOL, reason)
        self._desk.voice.refuses(reason, detail, generations.current.number)

    # Scale

    def on_more(self, command: Command) -> None:
        self._scale(+1)

    def on_fewer(self, command: Command) -> None:
        self._scale(-1)

    def _scale(self, by: int) -> None:
        if not self._desk.roster.leaving and not self._desk.roster.succession.retired:
            self._desk.roster.scale(POOL, by)

    # Logs, upgrade

    def on_reopen(self, command: Command) -> None:
        if self._desk.house.logs.reopen():
            self._desk.log.info("Log files opened anew")
        for child in self._desk.spawner.everybody:
            child.channel.send("reopen")

    def on_upgrade(self, command: Command) -> None:
        self._upgrade.ask(command)

    def on_withdraw(self, command: Command) -> None:
        self._upgrade.withdraw(command)

    def on_child(self, command: Command) -> None:
        """It woke the loop, which reaps at every turn."""


class CertificateWatch:
    """A chore: certificates that were renewed are taken as if HUP had come."""

    def __init__(self, desk: Desk, orders: Orders) -> None:
        self._desk = desk
        self._orders = orders
        self._renewal = Renewal()

    @property
    def due(self) -> float | None:
        return self._renewal.due

    def look(self, now: float) -> None:
        if self._desk.roster.succession.under_way:  # a successor reads them anew; if none comes of it, we do
            return
        if self._renewal.wants_reload(self._desk.house.generations.current, now, self._desk.log):
            self._orders.reload()
