"""What became of every request of a load run: outcomes, who answered, how long it took, what failed.

`Result` is live: a test may look at `generations` while the run goes on. At the end `issued` equals the sum of
the outcomes; `unaccounted` says by how much it does not.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

KEPT_FAILURES = 200
"""Failures kept with their details; all are counted."""


class Behaviour(Enum):
    """What one client does with its connections."""

    GET = "get"
    """Keep-alive GETs, with think times around the keep-alive timeout."""
    ECHO = "echo"
    """Keep-alive POSTs of various sizes, with Content-Length or chunked; the echo is compared."""
    STREAM = "stream"
    """Keep-alive GETs of a response that takes its time, compared line by line."""
    PIPELINE = "pipeline"
    """Several GETs in one write; the answers must come in order, each once."""
    FRESH = "fresh"
    """A new connection for each request, closed by the server (Connection: close)."""
    TRICKLE = "trickle"
    """Keep-alive GETs and POSTs that are sent a few bytes at a time."""
    HALF_CLOSE = "half-close"
    """A new connection for each request, whose sending half is closed right after it."""


class Outcome(Enum):
    """What became of one request."""

    OK = "ok"
    IDLE_CLOSE = "idle-close race"
    """It crossed the server's closing of an idle connection (RFC 9112 section 9.3.1). Sent again."""
    UNPROCESSED = "unprocessed after close"
    """Pipelined behind a request whose answer said Connection: close (RFC 9112 section 9.6). Sent again."""
    KILLED = "inside a killed worker"
    """On a connection that a worker held when it was killed from outside."""
    REFUSED = "refused"
    """The connection was refused."""
    NOBODY = "refused after the end"
    """The connection was refused, by which the clients were to see that the service had ended."""
    LOST = "lost"
    """No answer, or part of one."""
    MIXED = "mixed"
    """An answer that belongs to another request, or is not what was asked for."""
    STATUS = "bad status"
    """An answer other than 200."""
    TIMEOUT = "timeout"

    @property
    def harmless(self) -> bool:
        """Whether a server that loses nothing may have it."""
        return self in {Outcome.OK, Outcome.IDLE_CLOSE, Outcome.UNPROCESSED, Outcome.KILLED, Outcome.NOBODY}


@dataclass(frozen=True, slots=True)
class Failure:
    """One request, or one connection (`request` is ""), that went wrong."""

    behaviour: Behaviour
    outcome: Outcome
    request: str
    detail: str
    at: float
    """Seconds since the run began."""

    def __str__(self) -> str:
        return f"{self.at:8.3f} s  {self.behaviour.value} {self.request}: {self.outcome.value}: {self.detail}"


@dataclass(slots=True)
class Seen:
    """When a generation or a process answered."""

    answers: int
    first: float
    last: float


@dataclass(slots=True)
class Result:
    """The account of one run."""

    began: float = field(default_factory=time.monotonic)
    issued: int = 0
    """Requests sent, those sent again included, and those whose connection was refused."""
    outcomes: Counter[tuple[Behaviour, Outcome]] = field(default_factory=Counter)
    connections: int = 0
    closed_idle: int = 0
    """Connections that the server closed while nothing was asked on them: its keep-alive timeout."""
    generations: dict[str, Seen] = field(default_factory=dict)
    pids: dict[int, Seen] = field(default_factory=dict)
    latencies: dict[Behaviour, list[float]] = field(default_factory=dict)
    """Seconds from the write to the answer's end."""
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    violations: int = 0
    """Failures of a connection rather than a request, such as bytes that nobody asked for."""
    races: list[str] = field(default_factory=list)
    """The idle-close races: when, and how close it was."""
    ledger: dict[str, Outcome] = field(default_factory=dict)
    """What became of each request, by its id."""
    answered: threading.Condition = field(default_factory=threading.Condition)
    """Notified of each answer."""

    def wait_for(self, seen: Callable[[], bool], seconds: float) -> bool:
        """Waits, in another thread than the run's, until the answers are such; False when they were not by then."""
        with self.answered:
            return self.answered.wait_for(seen, seconds)

    def count(self, outcome: Outcome, behaviour: Behaviour | None = None) -> int:
        """How many requests (of one behaviour) ended so."""
        return sum(n for (b, o), n in self.outcomes.items() if o is outcome and behaviour in {None, b})

    @property
    def unaccounted(self) -> int:
        """Requests without an outcome: 0 after a run, or the client itself is at fault."""
        return self.issued - sum(self.outcomes.values())

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, mixed up, refused, late or left without account."""
        return not self.failed and not self.violations and not self.unaccounted

    def note(self, behaviour: Behaviour, outcome: Outcome, request: str, detail: str = "") -> None:
        """Accounts for one request."""
        self.outcomes[behaviour, outcome] += 1
        self.ledger[request] = outcome
        if not outcome.harmless:
            self.failed += 1
            self._keep(behaviour, outcome, request, detail)

    def note_violation(self, behaviour: Behaviour, detail: str) -> None:
        """Accounts for a connection on which something happened that belongs to no request."""
        self.violations += 1
        self._keep(behaviour, Outcome.MIXED, "", detail)

    def note_answer(self, behaviour: Behaviour, pid: int, generation: str, seconds: float) -> None:
        """Remembers who answered, and how fast."""
        now = time.monotonic() - self.began
        for seen in (
            self.generations.setdefault(generation, Seen(0, now, now)),
            self.pids.setdefault(pid, Seen(0, now, now)),
        ):
            seen.answers += 1
            seen.last = now
        self.latencies.setdefault(behaviour, []).append(seconds)
        with self.answered:
            self.answered.notify_all()

    def latency(self, percent: float, *behaviours: Behaviour) -> float:
        """A percentile in seconds (100: the maximum), of these behaviours, or of all that do not take their time."""
        wanted = behaviours or tuple(b for b in Behaviour if b not in {Behaviour.STREAM, Behaviour.TRICKLE})
        found = sorted(seconds for behaviour in wanted for seconds in self.latencies.get(behaviour, ()))
        return found[max(0, math.ceil(len(found) * percent / 100) - 1)] if found else 0.0

    def as_dict(self) -> Mapping[str, Any]:
        """For JSON."""
        return {
            "clean": self.clean,
            "issued": self.issued,
            "unaccounted": self.unaccounted,
            "outcomes": {o.value: self.count(o) for o in Outcome},
            "behaviours": {b.value: {o.value: n for o in Outcome if (n := self.outcomes[b, o])} for b in Behaviour},
            "connections": self.connections,
            "closed_idle": self.closed_idle,
            "violations": self.violations,
            "generations": {name: seen.answers for name, seen in self.generations.items()},
            "pids": {str(pid): seen.answers for pid, seen in self.pids.items()},
            "latency": {name: self.latency(p) for name, p in (("p50", 50), ("p99", 99), ("max", 100))},
            "failures": [str(failure) for failure in self.failures],
        }

    def __str__(self) -> str:
        lines = [f"{self.issued} requests on {self.connections} connections; {'clean' if self.clean else 'NOT CLEAN'}"]
        for behaviour in Behaviour:
            counts = [f"{n} {o.value}" for o in Outcome if (n := self.outcomes[behaviour, o])]
            if counts:
                lines.append(f"  {behaviour.value:<11} {', '.join(counts)}")
        p50, p99, most = (self.latency(p) * 1000 for p in (50, 99, 100))
        lines.append(
            f"  latency     p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {most:.1f} ms (without streams and trickles)"
        )
        lines.append(f"  idle        {self.closed_idle} connections closed by the server while idle")
        generations = ", ".join(f"{name or '-'}: {seen.answers}" for name, seen in self.generations.items())
        lines.append(f"  generations {generations or 'none'}; {len(self.pids)} processes")
        if self.unaccounted:
            lines.append(f"  unaccounted {self.unaccounted}")
        shown = [f"  {failure}" for failure in self.failures[:20]]
        more = self.failed + self.violations - len(shown)
        return "\n".join([*lines, *shown, *([f"  and {more} failures more"] if more > 0 else [])])

    def _keep(self, behaviour: Behaviour, outcome: Outcome, request: str, detail: str) -> None:
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(Failure(behaviour, outcome, request, detail, time.monotonic() - self.began))
