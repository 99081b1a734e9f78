"""Rounds and runs made up for tests."""

from benchmarks.results import Round, Run


def made_round(
    scenario: str = "hello", server: str = "palfrey", turn: int = 0, rate: float = 100.0, **facts: float
) -> Round:
    return Round(
        scenario=scenario,
        server=server,
        turn=turn,
        rate=rate,
        requests=int(facts.get("requests", rate * 3)),
        errors=int(facts.get("errors", 0)),
        p50=facts.get("p50", 1.0),
        p99=facts.get("p99", 2.0),
        cpu=facts.get("cpu", 10.0),
        others=facts.get("others", 0.0),
        load_busy=facts.get("load_busy", 0.5),
        log_lines=facts.get("log_lines"),
    )


def made_run(*rounds: Round, python: str = "3.13", started: str = "2026-11-20T08:00:00+00:00") -> Run:
    return Run(
        started=started,
        python=python,
        machine={"processor": "Abacus", "cores": "2", "system": "Linux 6", "python": f"CPython {python}.0"},
        versions={"palfrey": "0.1.0", "uvicorn": "0.54.0", "wrk": ""},
        seconds=3,
        connections=64,
        rounds=list(rounds),
    )
