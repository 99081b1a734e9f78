"""The load generators: what is common to them, and wrk, which is C and outruns any Python server from one core."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cores import pin

if TYPE_CHECKING:
    from benchmarks.scenarios import Scenario

SCRIPTS = Path(__file__).parent
PATIENCE = 60
"""Seconds that a generator may take beyond its load."""
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What one run of the generator measured."""

    rate: float
    """Responses a second."""
    requests: int
    """Responses in all."""
    errors: int
    """Requests without a 2xx or 3xx answer: refused, cut, timed out, or another status."""
    p50: float
    """Milliseconds."""
    p99: float
    busy: float = 0.0
    """The share of its core that the generator used, 0 to 1: near 1 it was the limit, not the server."""


def require(program: str, package: str) -> None:
    """Ends the program, saying what to install, when this generator is not there."""
    if shutil.which(program) is None:
        raise SystemExit(f"the benchmarks need {program}: install your system's package {package}")


def load(url: str, scenario: Scenario, connections: int, seconds: int, core: int | None) -> Load:
    """Loads `url` as the scenario asks for, so long over so many connections, from one core."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for name, value in scenario.headers:
        command += ["-H", f"{name}: {value}"]
    if scenario.script:
        command += ["-s", str(SCRIPTS / scenario.script)]
    return read(*generate([*command, url], seconds, core))


def generate(command: list[str], seconds: int, core: int | None) -> tuple[str, float]:
    """Runs a generator that takes so many seconds, on one core: its output, and the share of the core that it used.
    Ends the program where it fails."""
    before, started = os.times(), time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + PATIENCE, check=False, preexec_fn=lambda: pin(core)
    )
    after, wall = os.times(), time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout, used / wall


def read(text: str, busy: float = 0.0) -> Load:
    """wrk's report -> figures. Ends the program where it is not understood."""
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = sum(int(count) for count in sockets.groups()) if sockets else 0
    statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors += int(statuses[1]) if statuses else 0
    return Load(
        rate=float(found(r"Requests/sec:\s+([\d.]+)", text, "wrk")),
        requests=int(found(r"(\d+) requests in ", text, "wrk")),
        errors=errors,
        p50=_percentile(50, text),
        p99=_percentile(99, text),
        busy=busy,
    )


def _percentile(which: int, text: str) -> float:
    match = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float(match[1]) * _MILLISECONDS[match[2]] if match else 0.0


def found(pattern: str, text: str, program: str) -> str:
    """What the pattern's group has in the program's output. Ends this one where it has nothing."""
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"{program}'s output is not understood:\n{text}")
    return match[1]
