"""`scripts/bench`: measures Palfrey against other servers, and renders what was measured.

    scripts/bench hello tls               two scenarios, printed
    scripts/bench ws-echo-64 ws-deflate   WebSockets (needs a C compiler, and zlib with its headers)
    scripts/bench 'h2-*'                  HTTP/2 (needs h2load, of nghttp2)
    scripts/bench idle                    memory of idle connections
    scripts/bench all --rounds 5          every scenario, kept as JSON in benchmarks/results
    scripts/bench report [FILE ...]       docs/benchmarks.md and its figures from the newest run of each Python

Only ratios carry from one machine to the next.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import tempfile
from pathlib import Path

from benchmarks import idle_memory, load
from benchmarks.cores import choose
from benchmarks.figures import figure, ratio, servers_of
from benchmarks.machine import machine, python_series, versions
from benchmarks.report import write
from benchmarks.results import FOLDER, Round, Run, newest
from benchmarks.running import Plan, measure
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import CONTESTANTS, installed

IDLE = "idle"
"""Not a scenario of requests: see idle_memory.py."""
EVERYTHING = (*SCENARIOS, IDLE)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = ", ".join(EVERYTHING)
    parser.add_argument(
        "what", nargs="*", default=["hello"], help=f"all, report, or scenarios (or patterns) of: {what}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each server (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of load in a round (default 3)")
    parser.add_argument(
        "--connections", type=int, default=64, help="connections at a time (default 64; of HTTP/2 see its scenarios)"
    )
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait for quiet cores before a round")
    parser.add_argument("--servers", help=f"which, comma-separated, of: {','.join(CONTESTANTS)}")
    parser.add_argument("--json", type=Path, help="keep the run in this file (default for all: benchmarks/results)")
    options = parser.parse_args()
    if options.what[0] == "report":
        _report([Path(each) for each in options.what[1:]])
        return
    try:
        names = chosen(["*"] if options.what == ["all"] else options.what)
    except ValueError as error:
        parser.error(f"{error}; there are {what}")
    _measure(options, names)


def chosen(patterns: list[str]) -> list[str]:
    """What is named, or matched, each once. Raises ValueError for what nothing matches."""
    found = {pattern: fnmatch.filter(EVERYTHING, pattern) for pattern in patterns}
    unknown = [pattern for pattern in patterns if not found[pattern]]
    if unknown:
        raise ValueError(f"no such scenario: {', '.join(unknown)}")
    return list(dict.fromkeys(name for pattern in patterns for name in found[pattern]))


def _report(paths: list[Path]) -> None:
    runs = newest(paths or sorted(FOLDER.glob("*.json")))
    if not runs:
        raise SystemExit("nothing has been measured yet: `scripts/bench all`")
    for path in write(runs):
        print(path)


def _measure(options: argparse.Namespace, names: list[str]) -> None:
    scenarios = [SCENARIOS[name] for name in names if name != IDLE]
    if any(scenario.http2 for scenario in scenarios):
        load.require("h2load", "nghttp2-client")
    if any(scenario.websocket is None for scenario in scenarios):
        load.require("wrk", "wrk")
    wanted = options.servers.split(",") if options.servers else list(CONTESTANTS)
    missing = [name for name in wanted if name not in CONTESTANTS or not installed(name)]
    if missing:
        raise SystemExit(f"not installed (or not known): {', '.join(missing)}; see --servers, scripts/env bench")
    plan = Plan(options.rounds, options.seconds, options.connections, choose(), options.patience)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run = Run(
        started=started,
        python=python_series(),
        machine=machine(),
        versions=versions(),
        seconds=plan.seconds,
        connections=plan.connections,
    )
    keep = options.json or (run.default_path() if options.what == ["all"] else None)
    _introduce(run, plan)

    def report(done: Round) -> None:
        run.rounds.append(done)
        print(_line(done), flush=True)
        if keep is not None:
            run.save(keep)

    with tempfile.TemporaryDirectory(prefix="palfrey-bench-") as folder:
        for name in names:
            if name == IDLE:
                _measure_idle(run, wanted)
                continue
            scenario = SCENARIOS[name]
            print(f"\n{scenario.title}")
            measure(scenario, [each for each in scenario.contestants if each in wanted], plan, Path(folder), report)
            _conclude(run, name)
    if keep is not None:
        run.save(keep)
        print(f"\nkept in {keep}")


def _measure_idle(run: Run, wanted: list[str]) -> None:
    print("\nmemory of an idle keep-alive connection, or WebSocket")
    idle_memory.allow_files(2 * idle_memory.CONNECTIONS)
    for name in (name for name in idle_memory.SERVERS if name in wanted):
        for kind in idle_memory.KINDS:
            grown = idle_memory.measure(name, idle_memory.CONNECTIONS, kind) / idle_memory.CONNECTIONS
            run.idle.setdefault(name, {})[kind] = round(grown, 1)
            print(f"{name:13} {kind:9} {grown / 1024:6.2f} KB", flush=True)


def _introduce(run: Run, plan: Plan) -> None:
    print(", ".join(run.machine.values()))
    print(", ".join(f"{name} {number}" for name, number in run.versions.items() if number))
    server_core, load_core = plan.cores
    if server_core is None:
        print("the processes cannot be pinned here: server and load share the cores, and the ratio says less")
    else:
        print(f"server on core {server_core}, load on core {load_core}")


def _line(done: Round) -> str:
    errors = f"  {done.errors} ERRORS" if done.errors else ""
    return (
        f"round {done.turn + 1}  {done.server:13} {done.rate:10,.0f}/s  p99 {done.p99:6.2f} ms  "
        f"{done.cpu:6.2f} us of processor time  others {done.others:4.0%}{errors}"
    )


def _conclude(run: Run, scenario: str) -> None:
    servers = servers_of(run, scenario)
    ours = run.of(scenario, servers[0]) if servers else []
    for name in servers:
        found = figure(run.of(scenario, name))
        compared = ratio(ours, run.of(scenario, name))
        if found is None or compared is None:
            continue
        flags = f"  ({'; '.join(found.flags)})" if found.flags else ""
        print(
            f"{name:13} median {found.rate:10,.0f}/s  {servers[0]} / it: {compared.value:5.2f} "
            f"({compared.low:.2f} to {compared.high:.2f}), by processor time {compared.by_cpu:5.2f}{flags}"
        )


if __name__ == "__main__":
    main()
