"""The load generator: wrk, or h2load over HTTP/1.1 where wrk is missing. Both are C and outrun any Python server."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks.servers import pin


@dataclass(frozen=True)
class Load:
    """What one run measured."""

    rate: float
    """Responses a second."""
    errors: int
    """Requests without a 2xx answer: refused, cut, timed out, or another status."""
    p99: float
    """Milliseconds; 0 where the generator does not tell."""


def generator() -> str:
    """The generator at hand. Ends the program, saying what to install, when there is none."""
    for name in ("wrk", "h2load"):
        if shutil.which(name):
            return name
    raise SystemExit("the benchmark needs wrk (Debian and Homebrew: package wrk) or h2load (nghttp2-client)")


def load(url: str, connections: int, seconds: int, core: int | None) -> Load:
    """Loads `url` for so long over so many keep-alive connections, from one core."""
    run = {"wrk": _wrk, "h2load": _h2load}[generator()]
    return run(url, connections, seconds, core)


def _output(command: list[str], seconds: int, core: int | None) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 30, check=True, preexec_fn=lambda: pin(core)
    )
    return done.stdout


def _wrk(url: str, connections: int, seconds: int, core: int | None) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    text = _output(command, seconds, core)
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", text))
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = sum(int(count) for count in sockets.groups()) if sockets else 0
    statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors += int(statuses[1]) if statuses else 0
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return Load(rate, errors, float(p99[1]) * scale[p99[2]] if p99 else 0.0)


def _h2load(url: str, connections: int, seconds: int, core: int | None) -> Load:
    command = ["h2load", "--h1", "-t1", f"-c{connections}", f"-D{seconds}", url]
    text = _output(command, seconds, core)
    rate = float(_found(r"finished in [^,]+, ([\d.]+) req/s", text))
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    return Load(rate, sum(int(count) for count in failed.groups()) if failed else 0, 0.0)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"the load generator's output is not understood:\n{text}")
    return match[1]
