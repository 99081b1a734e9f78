"""What is measured, by its name or a pattern."""

import pytest

from benchmarks.bench import EVERYTHING, chosen


def test_names_and_patterns_each_once_in_the_order_asked_for() -> None:
    assert chosen(["tls", "ws-echo-*", "ws-echo-1k", "idle"]) == [
        "tls",
        "ws-echo-64",
        "ws-echo-1k",
        "ws-echo-64k",
        "idle",
    ]
    assert chosen(["*"]) == list(EVERYTHING)


def test_what_nothing_matches_is_named() -> None:
    with pytest.raises(ValueError, match="no such scenario: h4-\\*, hallo"):
        chosen(["hello", "h4-*", "hallo"])
