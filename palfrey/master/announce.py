"""What the arbiter tells people and the service manager: the banner, and a line for each turn of the service's life.

Texts only; nothing is decided here. `Voice` never raises: whoever is told must not be able to stop the service.
"""

from __future__ import annotations

import importlib.util
import platform
import sys

from palfrey.config.settings import Settings
from palfrey.master.actions import Announce
from palfrey.master.bulletin import Bulletin, counted
from palfrey.master.generations import Generation
from palfrey.master.records import Departure, Setback
from palfrey.master.spawn import Child
from palfrey.observe.logging import LogSetup
from palfrey.version import __version__


def banner(generation: Generation) -> list[str]:
    """What is about to serve, and where: the lines of a start."""
    settings = generation.settings
    runtime = f"{platform.python_implementation()} {platform.python_version()}"
    why = "" if generation.cpus is None else f" (auto: {generation.cpus.why})"
    lines = [
        f"Palfrey {__version__} on {runtime}, {loop_name(settings)}, {parser_name(settings)}: "
        f"starting {counted(generation.workers)}{why} of {settings.app}"
    ]
    hint = " (press Ctrl-C to stop)" if sys.stderr is not None and sys.stderr.isatty() else ""
    lines += [f"Listening on {url}{hint}" for url in generation.urls]
    return lines


def loop_name(settings: Settings) -> str:
    """The event loop that workers will run; the arbiter must not import it to know."""
    if settings.loop != "auto":
        return settings.loop
    return "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"


def parser_name(settings: Settings) -> str:
    """The parser of HTTP/1.1; and HTTP/2, where that is spoken."""
    if settings.http == "h2":
        return "httptools, HTTP/2"
    return "httptools" if settings.http == "auto" else settings.http


_HALTED = (
    ". The roll-out has halted there: nothing that serves is given up, and the slot is tried again, less and less "
    "often. Send HUP once what lies on disk is mended, or is again what it was"
)
"""After what is wrong with a slot."""


class Voice:
    """The log and the service manager; what happens is told to both."""

    def __init__(self, logs: LogSetup, bulletin: Bulletin) -> None:
        self.logs = logs
        self.bulletin = bulletin

    def starts(self, generation: Generation) -> None:
        for line in banner(generation):
            self.logs.error.info("%s", line)
        self.bulletin.begins()

    def serves(self, standing: Announce, main_pid: int | None) -> None:
        """How a generation stands. `main_pid` when systemd does not know which process is the main one."""
        text = f"Generation {standing.generation} serves with {standing.ready} of {counted(standing.target)}"
        if standing.ready == standing.target:
            self.logs.error.info("%s", text)
        else:
            self.logs.error.warning(
                "%s%s: %s%s",
                text,
                f", and what served before it with {standing.older}" if standing.older else "",
                standing.cause,
                _HALTED if standing.older else "; it is tried again, less and less often",
            )
        self.bulletin.serves(main_pid)

    def reloads(self, why: str = "") -> None:
        self.logs.error.info("Reloading%s", f": {why}" if why else "")
        self.bulletin.reloads()

    def tries(self, generation: int, stay: list[str]) -> None:
        self._says_what_stays(stay)
        self.logs.error.info(
            "Generation %d: trying it in one worker; nothing else changes until that is ready", generation
        )

    def _says_what_stays(self, stay: list[str]) -> None:
        if stay:
            self.logs.error.warning("Changed, but only a new start applies it: %s", ", ".join(stay))

    def takes_over(self, before: Generation, current: Generation) -> None:
        self.logs.error.info("Generation %d is fit to serve and takes over", current.number)
        self.bulletin.adopts()
        self._says_where(before, current)

    def _says_where(self, before: Generation, current: Generation) -> None:
        for url in current.urls:
            if url not in before.urls:
                self.logs.error.info("Listening on %s", url)
        for url in before.urls:
            if url not in current.urls:
                self.logs.error.info("No longer listening on %s", url)

    def refuses(self, reason: str, detail: str, serving: int) -> None:
        """A reload came to nothing: one block that says why, and that nothing was lost."""
        self.logs.error.error(
            "Reload refused: %s%s\nGeneration %d serves on as before; mend it and send HUP again",
            reason,
            below(detail),
            serving,
        )
        self.bulletin.refuses(reason)

    def suspends(self, reason: str) -> None:
        self.logs.error.warning(
            "Workers that serve are not replaced until a reload succeeds: what lies on disk was refused, and may not "
            "serve (%s). Mend it and send HUP",
            reason,
        )

    def departs_in(self, signal_name: str, delay: float) -> None:
        """The service is not ready any more, and serves all the same for a while (drain_delay)."""
        self.logs.error.info(
            "Stopping (%s) in %g s (drain_delay): not ready any more, serving all that comes until then; %s again "
            "stops now",
            signal_name,
            delay,
            signal_name,
        )
        self.bulletin.stops()

    def stops(self, why: str, workers: int, *, fast: bool) -> None:
        manner = "they end at once" if fast else "they finish what they have begun"
        self.logs.error.info("Stopping (%s): %s; %s", why, counted(workers), manner)
        self.bulletin.stops()

    def gives_up(self, reason: str, detail: str, *, on_terminal: bool) -> None:
        """The service cannot start. `on_terminal`: the log is somewhere else, so the terminal has to be told too."""
        self.logs.error.critical("Cannot serve: %s%s", reason, below(detail))
        if on_terminal and sys.stderr is not None:
            sys.stderr.write(f"palfrey: {reason}{below(detail)}\n")
        self.bulletin.stops(reason)

    def failed(self, child: Child, reason: str, detail: str, setback: Setback) -> None:
        """A worker said why it cannot serve: in full the first time, and after that counted."""
        again = _again(setback.times)
        self.logs.error.error(
            "%s (%d) cannot serve%s: %s; it is tried again %s%s",
            child.label.capitalize(),
            child.pid,
            f" {again}" if again else "",
            reason,
            _after(setback.retry_in, setback.waits),
            "" if again else below(detail),
        )

    def cannot_fork(self, label: str, reason: str, setback: Setback) -> None:
        again = _again(setback.times)
        row = f" ({again})" if again else ""
        self.logs.error.error(
            "%s %s%s; it is tried again %s", label.capitalize(), reason, row, _after(setback.retry_in, setback.waits)
        )

    def departs(self, child: Child, departure: Departure, *, ending: bool) -> None:
        """The exit of a worker: a surprise is an error, what was ordered is news for the curious."""
        name, log = child.label.capitalize(), self.logs.error
        if departure.cut_short:
            log.error("%s (%d) %s while it drained; %s", name, child.pid, departure.cause, _cut(child))
            return
        if departure.expected or ending:
            log.debug("%s (%d) %s", name, child.pid, departure.cause)
            return
        again = _again(departure.times)
        row = f" {again}" if again else ""
        if departure.failures > 1 and not again and not departure.waits:
            row = f", {departure.failures} failures in a row"
        after = _after(departure.retry_in, departure.waits)
        follows = f"its slot is filled again {after}"
        if child.is_mold:
            refused = ", which the last reload refused" if self.bulletin.refusal else ""
            follows = f"it is made anew {after}, from what lies on disk{refused}; its workers serve on"
        log.error("%s (%d) %s%s; %s", name, child.pid, departure.cause, row, follows)

    def suspects(self, child: Child, reason: str, now: float, *, stopped: bool) -> None:
        """A worker may hang and is told to show its stacks."""
        what = "it is stopped, as by SIGSTOP, and cannot show its stacks" if stopped else "its stacks follow"
        self.logs.error.warning(
            "%s (%d) %s: %s; %s", child.label.capitalize(), child.pid, reason, what, _oldest(child, now)
        )

    def forces(self, child: Child, reason: str, now: float, *, kill: bool) -> None:
        """A worker is aborted or killed; with a kill goes what it held."""
        held = _cut(child) if kill else _oldest(child, now)
        way = "killed" if kill else "aborted"
        self.logs.error.error("%s (%d) %s: %s; %s", child.label.capitalize(), child.pid, reason, way, held)


def _cut(child: Child) -> str:
    """What is lost with a worker, by its last word."""
    row = child.row
    return f"{counted(row.connections, 'connection')} and {counted(row.in_flight, 'request')} are lost with it"


def _oldest(child: Child, now: float) -> str:
    """The oldest request that a worker has in hand, by its own last word, which may be a while ago."""
    row = child.row
    if not row.heartbeat:
        return "it has not served yet"
    said = f"as of {now - row.heartbeat:.1f} s ago"
    if not row.oldest_since:
        return f"it had no request in hand {said}"
    request = ascii(row.oldest)[2:-1]
    return f"its oldest request, {said}: {request}, begun {now - row.oldest_since:.1f} s ago"


def _again(times: int) -> str:
    """Empty the first time."""
    if times < 2:
        return ""
    ending = "th" if 10 < times % 100 < 20 else {1: "st", 2: "nd", 3: "rd"}.get(times % 10, "th")
    return f"again, {times}{ending} time in a row"


def _after(seconds: float, waits: bool) -> str:
    if waits:
        return "when files have changed"
    return f"in {seconds:.1f} s" if seconds else "at once"


def below(detail: str) -> str:
    return "\n" + detail.rstrip("\n") if detail else ""
