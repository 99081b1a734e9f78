"""A run as data: what it was made on, and every round of it; one JSON file each in benchmarks/results.

Nothing is averaged before it is written. A reader of the file has all that the report was made of.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Round:
    """One contestant under one load."""

    scenario: str
    server: str
    turn: int
    rate: float
    """Responses a second."""
    requests: int
    errors: int
    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Microseconds of processor time a response, the server's whole process tree."""
    others: float
    """The share of the server's core that other processes took meanwhile, 0 to 1."""
    load_busy: float
    """The share of its own core that the load generator used."""
    log_lines: float | None = None
    """Lines of access log a response; None where no log was asked for."""


@dataclass(kw_only=True)
class Run:
    """One call of `scripts/bench`."""

    started: str
    """ISO 8601, UTC."""
    python: str
    """`3.13`."""
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: int
    connections: int
    rounds: list[Round] = field(default_factory=list)
    idle: dict[str, dict[str, float]] = field(default_factory=dict)
    """Contestant -> "plain", "tls" or "websocket" -> bytes of an idle keep-alive connection."""

    def of(self, scenario: str, server: str) -> list[Round]:
        return [each for each in self.rounds if each.scenario == scenario and each.server == server]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    def default_path(self) -> Path:
        stamp = self.started[:16].replace(":", "")
        return FOLDER / f"{stamp}-python{self.python}.json"


def read(path: Path) -> Run:
    """Raises ValueError for a file of another format."""
    data: dict[str, Any] = json.loads(path.read_text())
    if data.pop("format", None) != FORMAT:
        raise ValueError(f"{path.name} is not of format {FORMAT}: measure again with `scripts/bench all`")
    rounds = [Round(**each) for each in data.pop("rounds")]
    return Run(**data, rounds=rounds)


def newest(paths: list[Path]) -> dict[str, Run]:
    """Python version -> the newest run under it, oldest version first. Runs are never mixed with one another."""
    runs = {run.python: run for run in sorted(map(read, paths), key=lambda run: run.started)}
    return dict(sorted(runs.items(), key=lambda item: [int(number) for number in item[0].split(".")]))
