"""The HTTP/2 load generator: h2load of nghttp2, which is C, and its report as figures.

Told a number of requests it counts all that go without an answer; told a time it stops, and says nothing of connections
that were lost. So a time is for the warm-up only, and the rate it reached gives the number for what is measured.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import Load, found, generate

if TYPE_CHECKING:
    from benchmarks.scenarios import Scenario

STALLED = 10
"""Seconds after which a connection on which nothing comes is given up; its requests are errors."""
NETWORK = "-1"
"""The status of a request that got none."""


def load(url: str, scenario: Scenario, seconds: int, rate: float, core: int | None, folder: Path) -> Load:
    """Loads `url` as the scenario asks for, from one core: with as many requests as `rate` would answer in so many
    seconds, or just so long where it is 0. `folder` is for h2load's files."""
    http2 = scenario.streams
    in_flight = http2.connections * http2.streams
    log = folder / "h2load.tsv"
    log.unlink(missing_ok=True)
    bound = f"-n{max(in_flight, round(rate * seconds))}" if rate else f"-D{seconds}"
    command = ["h2load", f"-c{http2.connections}", f"-m{http2.streams}", bound, f"-N{STALLED}", f"--log-file={log}"]
    for name, value in scenario.headers:
        command += ["-H", f"{name}: {value}"]
    if scenario.content:
        content = folder / "h2load.content"
        content.write_bytes(scenario.content)
        command += ["-d", str(content)]
    if http2.paths:
        targets = folder / "h2load.targets"
        targets.write_text("".join(f"{url}items/{number}?page={number}\n" for number in range(http2.paths)))
        command += ["-i", str(targets)]
    else:
        command.append(url)
    text, busy = generate(command, seconds, core)
    return read(text, log.read_text() if log.exists() else "", busy)


def read(text: str, log: str = "", busy: float = 0.0) -> Load:
    """h2load's report, and its log for the latencies -> figures. Ends the program where it is not understood.

    `failed` counts whatever is neither 2xx nor 3xx: `errored`, which is all without a status, and `timeout` are in it.
    """
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    statuses = re.search(r"status codes: \d+ 2xx, (\d+) 3xx", text)
    if counts is None or statuses is None:
        raise SystemExit(f"h2load's output is not understood:\n{text}")
    succeeded, failed, errored = (int(counts[which]) for which in (1, 2, 3))
    p50, p99 = _percentiles(log.splitlines())
    return Load(
        rate=float(found(r"finished in .*?, ([\d.]+) req/s", text, "h2load")),
        requests=succeeded + failed - errored,
        errors=failed + int(statuses[1]),
        p50=p50,
        p99=p99,
        busy=busy,
    )


def _percentiles(lines: Iterable[str]) -> tuple[float, float]:
    """Of "begun, status, microseconds" with tabs between: milliseconds that 50% and 99% of the answered ones took."""
    rows = (line.split("\t") for line in lines)
    taken = [int(micros) / 1000 for _, status, micros in rows if status != NETWORK]
    if len(taken) < 2:
        return 0.0, 0.0
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return cuts[49], cuts[98]
