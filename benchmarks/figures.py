"""From rounds to figures: medians, ratios, spreads, and what a figure must not hide."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.results import Round, Run

SATURATED = 0.97
"""A load generator that used more of its core than this was the limit itself."""
DISTURBED = 0.1
"""Others on the server's core beyond this share: the round says less."""
LINES_AROUND_ONE = (0.98, 1.02)
"""Access log lines a response, which is to be about one."""


@dataclass(frozen=True)
class Figure:
    """All rounds of one contestant in one scenario."""

    rate: float
    """Median, responses a second."""
    low: float
    high: float
    p99: float
    """Median of the rounds' 99th percentiles, milliseconds."""
    cpu: float
    """Median microseconds of processor time a response."""
    errors: int
    flags: tuple[str, ...]
    """What is wrong with it, in words; empty when nothing is."""

    @property
    def spread(self) -> float:
        """Highest to lowest round, as a share of the median."""
        return (self.high - self.low) / self.rate if self.rate else 0.0


def figure(rounds: list[Round]) -> Figure | None:
    """None without rounds. Errors are summed, never averaged away."""
    if not rounds:
        return None
    rates = [each.rate for each in rounds]
    return Figure(
        rate=statistics.median(rates),
        low=min(rates),
        high=max(rates),
        p99=statistics.median(each.p99 for each in rounds),
        cpu=statistics.median(each.cpu for each in rounds),
        errors=sum(each.errors for each in rounds),
        flags=tuple(_flags(rounds)),
    )


def _flags(rounds: list[Round]) -> list[str]:
    flags = []
    errors = sum(each.errors for each in rounds)
    if errors:
        flags.append(f"{errors} errors in {sum(each.errors > 0 for each in rounds)} of {len(rounds)} rounds")
    silent = sum(not each.requests for each in rounds)
    if silent:
        flags.append(f"no response in {silent} of {len(rounds)} rounds")
    low, high = LINES_AROUND_ONE
    odd = [each.log_lines for each in rounds if each.log_lines is not None and not low <= each.log_lines <= high]
    if odd:
        flags.append(f"its access log has {odd[0]:.2f} lines a response")
    if statistics.median(each.load_busy for each in rounds) > SATURATED:
        flags.append("the load generator was the limit")
    shared = sum(each.others > DISTURBED for each in rounds)
    if shared:
        flags.append(f"others took over a tenth of the core in {shared} of {len(rounds)} rounds")
    return flags


def disturbed(rounds: list[Round]) -> bool:
    """Whether others took so much of the core in a typical round that its rate says less."""
    return statistics.median(each.others for each in rounds) > DISTURBED


@dataclass(frozen=True)
class Ratio:
    """One contestant's rate over another's."""

    value: float
    """Of the medians."""
    low: float
    """Of the rounds, each against the other's in the same turn."""
    high: float
    by_cpu: float
    """The other's processor time a response over ours: what `value` would be if each had its core to itself. Where
    the machine is shared it is the steadier of the two."""


def ratio(ours: list[Round], theirs: list[Round]) -> Ratio | None:
    """None unless both have rounds with responses."""
    if not ours or not theirs:
        return None
    below = statistics.median(each.rate for each in theirs)
    if not below:
        return None
    by_turn = {each.turn: each.rate for each in theirs}
    paired = [each.rate / by_turn[each.turn] for each in ours if by_turn.get(each.turn)]
    value = statistics.median(each.rate for each in ours) / below
    own = statistics.median(each.cpu for each in ours)
    by_cpu = statistics.median(each.cpu for each in theirs) / own if own else 0.0
    return Ratio(value, min(paired, default=value), max(paired, default=value), by_cpu)


def servers_of(run: Run, scenario: str) -> list[str]:
    """Who took part, in the order of their first rounds."""
    return list(dict.fromkeys(each.server for each in run.rounds if each.scenario == scenario))
