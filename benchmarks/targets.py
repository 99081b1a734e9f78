"""The targets, as rows, and whether a run meets them.

A target compares Palfrey's median with that of others in the same run; where it names several, the fastest of them
counts. Nothing is rounded in Palfrey's favour: 1.595 does not meet 1.6. Where others took part of the core, the rates
and the processor time have to agree, or the target is undecided.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from benchmarks.figures import Ratio, disturbed, figure, ratio
from benchmarks.scenarios import SHAPES, shape_title

if TYPE_CHECKING:
    from benchmarks.results import Run

BOTH = ("uvicorn", "granian")
IN_PYTHON = ("uvicorn", "gunicorn")
FASTER: dict[tuple[str, ...], str] = {
    BOTH: "the faster of uvicorn and granian",
    IN_PYTHON: "the faster of uvicorn and gunicorn",
}


class Verdict(Enum):
    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"
    UNKNOWN = "not measured"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One row: Palfrey's rate in `scenario` is to be `at_least` times that of the fastest of `than`."""

    scenario: str
    title: str
    than: tuple[str, ...]
    at_least: float
    says: str

    def judge(self, run: Run) -> tuple[Verdict, str]:
        """The verdict, and the figures behind it."""
        ours = run.of(self.scenario, "palfrey")
        compared = [found for name in self.than if (found := ratio(ours, run.of(self.scenario, name))) is not None]
        if len(compared) < len(self.than):
            return Verdict.UNKNOWN, ""
        least: Ratio = min(compared, key=lambda each: each.value)
        by_cpu = min(each.by_cpu for each in compared)
        met, met_by_cpu = least.value >= self.at_least, by_cpu >= self.at_least
        verdict = Verdict.MET if met else Verdict.MISSED
        if met != met_by_cpu and any(disturbed(run.of(self.scenario, name)) for name in ("palfrey", *self.than)):
            verdict = Verdict.UNDECIDED
        return verdict, f"{least.value:.2f} ({least.low:.2f} to {least.high:.2f}), {by_cpu:.2f} by processor time"


@dataclass(frozen=True, kw_only=True)
class LatencyTarget:
    """The 99th percentile of latency is no worse than the other's."""

    scenario: str
    title: str
    than: str
    says: str

    def judge(self, run: Run) -> tuple[Verdict, str]:
        ours, theirs = figure(run.of(self.scenario, "palfrey")), figure(run.of(self.scenario, self.than))
        if ours is None or theirs is None:
            return Verdict.UNKNOWN, ""
        verdict = Verdict.MET if ours.p99 <= theirs.p99 else Verdict.MISSED
        return verdict, f"{ours.p99:.2f} ms, {self.than} {theirs.p99:.2f} ms"


@dataclass(frozen=True, kw_only=True)
class MemoryTarget:
    """An idle keep-alive connection costs at most so many bytes, or no more than the other's."""

    kind: str
    title: str
    at_most: int | None
    says: str
    scenario: str = "idle"

    def judge(self, run: Run) -> tuple[Verdict, str]:
        ours = run.idle.get("palfrey", {}).get(self.kind)
        theirs = run.idle.get("uvicorn", {}).get(self.kind)
        limit = self.at_most if self.at_most is not None else theirs
        if ours is None or limit is None:
            return Verdict.UNKNOWN, ""
        beside = "" if theirs is None else f", uvicorn {theirs / 1024:.1f} KB"
        return Verdict.MET if ours <= limit else Verdict.MISSED, f"{ours / 1024:.1f} KB{beside}"


def _beside(scenario: str, title: str, at_least: float, *than: str, says: str = "") -> Target:
    words = says or FASTER.get(than, than[0])
    return Target(scenario=scenario, title=title, than=than, at_least=at_least, says=f"≥ {at_least:g} × {words}")


FLOOR = "the constant write"
PICOWS = "picows's echo"

OVER_HTTP2 = (
    ("hello", "hello", 2.0, "granian", ""),
    ("hello", "hello", 15.0, "gunicorn", ""),
    ("hello", "hello", 1.5, "palfrey-http1", "its own HTTP/1.1"),
    ("varied", "15 headers, 1,000 paths", 1.3, "granian", ""),
    ("get-10k", "GET 10 KB", 1.5, "granian", ""),
    ("echo-10k", "POST 10 KB, echoed", 1.3, "granian", ""),
)
"""In each shape: scenario, title, at least, than, in words."""

TARGETS: tuple[Target | LatencyTarget | MemoryTarget, ...] = (
    _beside("hello", "hello, log off", 1.8, "uvicorn"),
    _beside("hello", "hello, log off", 1.6, "granian"),
    _beside("hello", "hello, log off", 0.55, "constant", says=FLOOR),
    _beside("hello-log", "hello, log on", 3.0, "uvicorn"),
    _beside("hello-log", "hello, log on", 0.85, "palfrey-quiet", says="Palfrey with its log off"),
    _beside("headers", "15 headers", 1.6, *BOTH),
    _beside("get-10k", "GET 10 KB", 1.7, *BOTH),
    _beside("echo-10k", "POST 10 KB, echoed", 1.6, *BOTH),
    _beside("stream", "stream of 10 x 1 KB", 1.5, *BOTH),
    _beside("file", "file of 50 KB", 1.5, "granian"),
    _beside("starlette", "Starlette, JSON", 1.35, *BOTH),
    _beside("fastapi", "FastAPI, JSON", 1.2, *BOTH),
    _beside("tls", "hello over TLS", 1.7, "uvicorn"),
    _beside("tls", "hello over TLS", 1.4, "granian"),
    _beside("wsgi", "WSGI hello, no threads", 1.1, "granian"),
    _beside("wsgi", "WSGI hello, no threads", 5.0, "waitress", says="waitress with its 4 threads"),
    _beside("wsgi-threads", "WSGI hello, 4 threads", 1.5, "waitress"),
    _beside("wsgi-threads", "WSGI hello, 4 threads", 2.0, "gthread", says="gunicorn -k gthread"),
    _beside("close", "new connection each", 1.2, "uvicorn"),
    _beside("close", "new connection each", 0.85, "constant", says=FLOOR),
    _beside("ws-echo-64", "WebSocket, 64 bytes", 1.5, *IN_PYTHON),
    _beside("ws-echo-64", "WebSocket, 64 bytes", 2.5, "granian"),
    _beside("ws-echo-64", "WebSocket, 64 bytes", 0.7, "picows", says=PICOWS),
    _beside("ws-echo-1k", "WebSocket, 1 KB", 1.5, *IN_PYTHON),
    _beside("ws-echo-1k", "WebSocket, 1 KB", 2.5, "granian"),
    _beside("ws-echo-1k", "WebSocket, 1 KB", 0.7, "picows", says=PICOWS),
    _beside("ws-deflate", "WebSocket, deflated", 1.2, "uvicorn"),
    LatencyTarget(scenario="hello", title="p99, hello, log off", than="uvicorn", says="≤ uvicorn's"),
    *(
        _beside(f"h2-{name}-{shape}", f"HTTP/2, {title}, {shape_title(shape)}", at_least, than, says=says)
        for name, title, at_least, than, says in OVER_HTTP2
        for shape in SHAPES
    ),
    MemoryTarget(kind="plain", title="idle connection, 3,500 open", at_most=2867, says="≤ 2.8 KB"),
    MemoryTarget(kind="tls", title="idle TLS connection", at_most=None, says="≤ uvicorn's"),
    MemoryTarget(kind="websocket", title="idle WebSocket", at_most=6 << 10, says="≤ 6 KB"),
)
