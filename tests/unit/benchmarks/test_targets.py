"""Targets are met or missed by the figures, without rounding."""

import pytest

from benchmarks.scenarios import SCENARIOS
from benchmarks.targets import TARGETS, LatencyTarget, MemoryTarget, Target, Verdict

from .made import made_round, made_run

FASTER = Target(scenario="hello", title="", than=("uvicorn", "granian"), at_least=1.6, says="")


@pytest.mark.parametrize(("rate", "verdict"), [(160.0, Verdict.MET), (159.5, Verdict.MISSED)])
def test_the_fastest_of_those_named_counts(rate: float, verdict: Verdict) -> None:
    run = made_run(made_round(rate=rate), made_round(server="uvicorn", rate=50), made_round(server="granian", rate=100))
    assert FASTER.judge(run)[0] is verdict


def test_what_was_not_measured_is_not_met() -> None:
    assert FASTER.judge(made_run(made_round(), made_round(server="uvicorn", rate=1)))[0] is Verdict.UNKNOWN


@pytest.mark.parametrize(("others", "verdict"), [(0.0, Verdict.MET), (0.5, Verdict.UNDECIDED)])
def test_on_a_shared_core_processor_time_has_to_agree(others: float, verdict: Verdict) -> None:
    ours = made_round(rate=200, cpu=10, others=others)
    theirs = (made_round(server=name, rate=100, cpu=12, others=others) for name in ("uvicorn", "granian"))
    assert FASTER.judge(made_run(ours, *theirs))[0] is verdict


def test_latency() -> None:
    target = LatencyTarget(scenario="hello", title="", than="uvicorn", says="")
    theirs = made_round(server="uvicorn", p99=3.0)
    assert target.judge(made_run(made_round(p99=3.0), theirs))[0] is Verdict.MET
    assert target.judge(made_run(made_round(p99=3.1), theirs))[0] is Verdict.MISSED
    assert target.judge(made_run(theirs))[0] is Verdict.UNKNOWN


def test_memory_by_a_number_and_by_another_server() -> None:
    run = made_run()
    by_number = MemoryTarget(kind="plain", title="", at_most=2867, says="")
    by_other = MemoryTarget(kind="tls", title="", at_most=None, says="")
    assert by_number.judge(run)[0] is by_other.judge(run)[0] is Verdict.UNKNOWN
    run.idle = {"palfrey": {"plain": 2868, "tls": 9000}, "uvicorn": {"plain": 8000, "tls": 9000}}
    assert by_number.judge(run) == (Verdict.MISSED, "2.8 KB, uvicorn 7.8 KB")
    assert by_other.judge(run)[0] is Verdict.MET


def test_every_target_is_of_a_scenario_and_its_contestants() -> None:
    for target in TARGETS:
        if isinstance(target, Target):
            assert {"palfrey", *target.than} <= set(SCENARIOS[target.scenario].contestants)
