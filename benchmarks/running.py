"""Measures: for each scenario, rounds that alternate between the contestants, each in a process of its own.

Alternation has a busy neighbour disturb all alike; a fresh process for each round takes in the luck of memory layout
and hash seeds. Each round is: start, check the answer, one second of warm-up, the load, stop.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import http2_load, load, websocket_load
from benchmarks.cores import Cores, Meter, wait_for_quiet
from benchmarks.results import Round
from benchmarks.scenarios import Scenario
from benchmarks.servers import CONTESTANTS, Wanted, free_port, serving

WARM_UP = 1
"""Seconds of load that are not counted."""
PROBES = 1
"""Requests that check the answer before the load; they are logged, too."""


@dataclass(frozen=True)
class Plan:
    """How to measure."""

    rounds: int
    seconds: int
    connections: int
    cores: Cores
    patience: float = 0.0
    """Seconds that each round waits for the cores to be quiet, at most."""


def measure(
    scenario: Scenario, contestants: Iterable[str], plan: Plan, folder: Path, report: Callable[[Round], None]
) -> None:
    """All rounds of one scenario; each is reported as it is done. `folder` is for what is made once: certificates, the
    WebSocket load generator."""
    names = list(contestants)
    for turn in range(plan.rounds):
        # Turned by one each time, so that nobody always runs after the same neighbour.
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            report(_round(scenario, name, turn, plan, folder))


def _round(scenario: Scenario, name: str, turn: int, plan: Plan, folder: Path) -> Round:
    server_core = plan.cores[0]
    with tempfile.TemporaryDirectory(prefix="palfrey-bench-") as temporary:
        own = Path(temporary)
        log = own / "access.log" if scenario.log and name != "palfrey-quiet" else None
        certificate, key = certificates(folder) if scenario.tls else (None, None)
        asked = replace(scenario, http2=None) if CONTESTANTS[name].http1 else scenario
        wanted = Wanted(asked, free_port(), own, log, certificate, key)
        with serving(name, wanted, server_core) as pid:
            wait_for_quiet(plan.cores, plan.patience)
            warm = _load(wanted, plan, WARM_UP, folder)
            meter = Meter(pid, server_core)
            done = _load(wanted, plan, plan.seconds, folder, warm.rate)
            used = meter.read()
        lines = _lines(log) if log is not None else None
    return Round(
        scenario=scenario.name,
        server=name,
        turn=turn,
        rate=done.rate,
        requests=done.requests,
        errors=done.errors,
        p50=done.p50,
        p99=done.p99,
        cpu=round(used.seconds / done.requests * 1e6, 3) if done.requests else 0.0,
        others=round(used.others, 3),
        load_busy=round(done.busy, 3),
        log_lines=None if lines is None else _per_response(lines, warm.requests + done.requests + PROBES, plan),
    )


def _load(wanted: Wanted, plan: Plan, seconds: int, folder: Path, rate: float = 0.0) -> load.Load:
    """`rate` is what the warm-up has reached, for the generator that is told a number of requests."""
    scenario, core = wanted.scenario, plan.cores[1]
    if scenario.http2 is not None:
        return http2_load.load(wanted.url, scenario, seconds, rate, core, wanted.folder)
    if scenario.websocket is None:
        return load.load(wanted.url, scenario, plan.connections, seconds, core)
    program = websocket_load.compiled(folder)
    return websocket_load.load(program, wanted.port, scenario, plan.connections, seconds, core)


def _per_response(lines: int, responses: int, plan: Plan) -> float:
    """Lines a response, without those of responses that were on their way when one of the two loads ended."""
    surplus = min(max(0, lines - responses), 2 * plan.connections)
    return round((lines - surplus) / responses, 3)


def _lines(path: Path) -> int:
    """After the server has ended, so that whatever it held back is written."""
    count = 0
    with open(path, "rb") as log:
        while piece := log.read(1 << 20):
            count += piece.count(b"\n")
    return count


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key (PKCS #8, which all servers read), made once in the folder."""
    import trustme
    from cryptography.hazmat.primitives import serialization

    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not certificate.exists():
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(certificate)
        private = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        pkcs8 = serialization.PrivateFormat.PKCS8
        key.write_bytes(private.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()))
    return certificate, key
