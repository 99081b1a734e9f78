"""`scripts/bench hello`: Palfrey against uvicorn, in one run.

The servers are started in turn on one core, the load generator runs on another, and rounds alternate between the
servers, so that a busy neighbour disturbs both alike. Printed are every round, the medians, and the ratio of the
medians, which is the only figure that carries from one machine to the next.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile

from benchmarks.load import Load, generator, load
from benchmarks.servers import SERVERS, describe, installed, serving

SCENARIOS: dict[str, tuple[str, bool]] = {
    "hello": ("hello:app", False),
    "hello-log": ("hello:app", True),
}
"""name -> (application, whether the access log is on, to a file)."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenario", choices=sorted(SCENARIOS), nargs="?", default="hello")
    parser.add_argument("--rounds", type=int, default=7, help="rounds for each server (default 7)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of load in a round (default 4)")
    parser.add_argument("--connections", type=int, default=64, help="keep-alive connections (default 64)")
    parser.add_argument("--servers", default=",".join(SERVERS), help="which, comma-separated; the first is compared")
    options = parser.parse_args()
    names = options.servers.split(",")
    missing = [name for name in names if not installed(name)]
    if missing:
        raise SystemExit(f"not installed beside {sys.executable}: {', '.join(missing)}")
    server_core, load_core = _cores()
    _introduce(names, server_core, load_core)
    rounds = _run(options, names, server_core, load_core)
    _conclude(names, rounds)


def _cores() -> tuple[int | None, int | None]:
    """One core for the server and another for the load; None where the system cannot pin or has only one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def _introduce(names: list[str], server_core: int | None, load_core: int | None) -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load by {generator()}")
    print(", ".join(describe(name) for name in [*names, "uvloop", "httptools"]))
    if server_core is None:
        print("the processes cannot be pinned here: server and load share the cores, and the ratio says less")
    else:
        print(f"server on core {server_core}, load on core {load_core}")


def _run(
    options: argparse.Namespace, names: list[str], server_core: int | None, load_core: int | None
) -> dict[str, list[Load]]:
    app, logged = SCENARIOS[options.scenario]
    rounds: dict[str, list[Load]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            for name in names:
                log = os.path.join(folder, f"{name}.log") if logged else None
                with serving(name, app, server_core, log) as url:
                    load(url, options.connections, 1, load_core)  # warm-up, not counted
                    measured = load(url, options.connections, options.seconds, load_core)
                if log is not None and not os.path.getsize(log):
                    raise SystemExit(f"{name} wrote no access log: the scenario would measure something else")
                rounds[name].append(measured)
                errors = f", {measured.errors} ERRORS" if measured.errors else ""
                print(
                    f"round {turn + 1}  {name:10} {measured.rate:10,.0f}/s  p99 {measured.p99:6.2f} ms{errors}",
                    flush=True,
                )
    return rounds


def _conclude(names: list[str], rounds: dict[str, list[Load]]) -> None:
    medians = {name: statistics.median(one.rate for one in rounds[name]) for name in names}
    print()
    for name in names:
        errors = sum(one.errors for one in rounds[name])
        print(f"{name:10} median {medians[name]:10,.0f}/s, errors {errors}")
    for name in names[1:]:
        print(f"{names[0]} / {name}: {medians[names[0]] / medians[name]:.2f}")


if __name__ == "__main__":
    main()
