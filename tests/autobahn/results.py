"""What came of the suite: kept in `results.json`, shown in docs/conformance.md.

Of a case two things are judged, what the server answered and how it closed; here the worse of both counts. A group is
run as a whole or in part; what was not run is neither good nor bad, and shown as such.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.autobahn.suite import Index

GROUPS = {
    "1": ("Framing", 16),
    "2": ("Pings and pongs", 11),
    "3": ("Reserved bits", 7),
    "4": ("Opcodes", 10),
    "5": ("Fragmentation", 20),
    "6": ("UTF-8", 145),
    "7": ("Closing handshake", 37),
    "9": ("Limits: up to 16 MiB", 54),
    "10": ("Auto-fragmentation", 1),
    "12": ("Compression: sizes", 90),
    "13": ("Compression: parameters", 126),
}
"""By the first number of a case: what it is about, and how many there are."""

GOOD, UNSURE, LAX, BAD, UNOFFERED = "OK", "INFORMATIONAL", "NON-STRICT", "FAILED", "UNIMPLEMENTED"
ORDER = (GOOD, UNSURE, UNOFFERED, LAX, BAD)
"""From the best to the worst. Whatever the suite calls otherwise (WRONG CODE, UNCLEAN) is a failure."""
WORDS = {UNSURE: "informational", UNOFFERED: "not offered", LAX: "not strict", BAD: "failed"}

BEGIN, END = "<!-- results: scripts/autobahn writes them -->", "<!-- end of the results -->"


@dataclass
class Result:
    """Of one server."""

    title: str
    date: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Group -> verdict -> cases."""
    exceptions: dict[str, str] = field(default_factory=dict)
    """Case -> verdict, where that is neither OK nor for want of an extension."""

    @property
    def clean(self) -> bool:
        """Everything that was run is OK, or informational by the suite's own judgement."""
        return all(verdict in (GOOD, UNSURE) for counts in self.counts.values() for verdict in counts)


def judge(title: str, date: str, index: Index) -> Result:
    """The suite's index as a result."""
    result = Result(title, date)
    counts = {group: Counter[str]() for group in GROUPS}
    for case in sorted(index, key=_numbers):
        verdict = _verdict(str(index[case]["behavior"]), str(index[case]["behaviorClose"]))
        counts[case.split(".")[0]][verdict] += 1
        if verdict not in (GOOD, UNOFFERED):
            result.exceptions[case] = verdict
    result.counts = {group: dict(found) for group, found in counts.items() if found}
    return result


def _verdict(*behaviors: str) -> str:
    return max((each if each in ORDER else BAD for each in behaviors), key=ORDER.index)


def _numbers(case: str) -> list[int]:
    return [int(number) for number in case.split(".")]


def load(path: Path) -> dict[str, Result]:
    """Results by the server's name."""
    if not path.exists():
        return {}
    return {name: Result(**found) for name, found in json.loads(path.read_text()).items()}


def save(path: Path, results: Mapping[str, Result]) -> None:
    path.write_text(json.dumps({name: asdict(result) for name, result in results.items()}, indent=1) + "\n")


# ---------------------------------------------------------------- as text


def table(results: Sequence[Result]) -> str:
    """The groups and what each server made of them."""
    rows = [["Cases", "About", *(result.title for result in results)], ["---"] * (len(results) + 2)]
    for group, (about, size) in GROUPS.items():
        rows.append([f"{group}.*", about, *(_cell(result, group, size) for result in results)])
    rows.append(["tested", "", *(result.date for result in results)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(result: Result, group: str, size: int) -> str:
    counts = result.counts.get(group)
    if not counts:
        return "not run"
    words = [f"{counts[GOOD]} OK"] if GOOD in counts else []
    words += [f"{counts[verdict]} {WORDS[verdict]}" for verdict in ORDER if verdict in counts and verdict != GOOD]
    run = sum(counts.values())
    return ", ".join(words) + (f" ({run} of {size} run)" if run < size else "")


def notes(results: Sequence[Result]) -> str:
    """The cases by number that are not strict, or failed."""
    lines = []
    for result in results:
        for verdict in (BAD, LAX):
            cases = [case for case, found in result.exceptions.items() if found == verdict]
            if cases:
                lines.append(f"- {result.title}, {WORDS[verdict]}: {', '.join(cases)}")
    return "\n".join(lines)


def write(path: Path, results: Sequence[Result]) -> None:
    """Replaces what stands between the marks of the document."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n\n".join(part for part in (BEGIN, table(results), notes(results), END) if part)
    path.write_text(before + text + after)
