"""Medians, ratios, and the flags that keep a bad round from hiding in them."""

import pytest

from benchmarks.figures import figure, ratio, servers_of

from .made import made_round, made_run


def test_the_median_and_the_spread_of_rounds() -> None:
    found = figure([made_round(rate=rate, p99=p99) for rate, p99 in ((100, 3), (90, 1), (250, 9))])
    assert found is not None
    assert (found.rate, found.low, found.high, found.p99, found.spread, found.flags) == (100, 90, 250, 3, 1.6, ())


def test_no_rounds_have_no_figure() -> None:
    assert figure([]) is None


def test_errors_are_summed_and_said() -> None:
    found = figure([made_round(errors=3), made_round(), made_round(errors=4)])
    assert found is not None
    assert found.errors == 7
    assert found.flags == ("7 errors in 2 of 3 rounds",)


@pytest.mark.parametrize(
    ("facts", "flag"),
    [
        ({"log_lines": 0.0}, "lines a response"),
        ({"log_lines": 2.0}, "lines a response"),
        ({"load_busy": 0.99}, "load generator was the limit"),
        ({"others": 0.4}, "others took over a tenth"),
        ({"rate": 0.0}, "no response"),
    ],
)
def test_what_makes_a_figure_say_less_is_flagged(facts: dict[str, float], flag: str) -> None:
    found = figure([made_round(**facts)])
    assert found is not None
    assert len(found.flags) == 1
    assert flag in found.flags[0]


def test_a_log_with_a_line_a_response_is_not_flagged() -> None:
    found = figure([made_round(log_lines=1.001)])
    assert found is not None
    assert not found.flags


def test_a_ratio_is_of_the_medians_and_spans_the_turns() -> None:
    ours = [made_round(turn=turn, rate=rate, cpu=5) for turn, rate in enumerate((200, 300, 400))]
    theirs = [made_round(turn=turn, rate=rate, cpu=20) for turn, rate in enumerate((100, 100, 400))]
    found = ratio(ours, theirs)
    assert found is not None
    assert (found.value, found.low, found.high, found.by_cpu) == (3.0, 1.0, 3.0, 4.0)


def test_no_ratio_to_who_did_not_answer() -> None:
    assert ratio([made_round()], []) is None
    assert ratio([], [made_round()]) is None
    assert ratio([made_round()], [made_round(rate=0.0)]) is None


def test_servers_in_the_order_of_their_first_rounds() -> None:
    run = made_run(
        made_round(server="b"), made_round(server="a"), made_round(server="b"), made_round("tls", server="c")
    )
    assert servers_of(run, "hello") == ["b", "a"]
