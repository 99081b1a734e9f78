"""The books against each other, after the end: what the clients saw, what the application began, what was logged.

Three accounts are kept by three parties that cannot see one another: the clients' ledger (an outcome for each request
id), the journal (the application writes an id down before it does anything else) and the server's access log. Where
they differ something was lost, done twice, or done in vain, and only a kill can be the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tests.support.loadresult import Outcome

SHOWN = 5
"""Ids that a problem names."""
NOT_BEGUN = {
    Outcome.IDLE_CLOSE: "given up as an idle-close race, although the application had begun them",
    Outcome.UNPROCESSED: "passed over behind an announced close, although the application had begun them",
    Outcome.NOBODY: "refused, although the application had begun them",
    Outcome.REFUSED: "refused, although the application had begun them",
}
"""What must not be in the journal, or the server is the one that lost it."""
_UNEXPECTED = re.compile(r"\((\d+)\) (was killed by .*|exited with status .*)")
_FORCED = re.compile(r"\((\d+)\) (.*: (?:aborted|killed).*)")
_RECORD = re.compile(r"[A-Z]+: +\[")
_NEVER = ("error of Palfrey's own", "Cut short", "Traceback", "Cannot accept", "Cannot serve", "CRITICAL")
_BROKEN = ("cannot serve", "Reload refused")


def compare_books(
    ledger: Mapping[str, Outcome], journal: Iterable[str], log: Iterable[str], dead: Collection[int]
) -> Iterator[str]:
    """Every disagreement. `dead`: the killed processes, which took with them what they had not written yet."""
    begun = [line.split() for line in journal]
    logged = [line.split() for line in log]
    by = {name: int(pid) for name, pid in begun}
    times = Counter(name for name, _ in begun if name in ledger)
    lines = Counter(name for name, *_ in logged if name in ledger)
    yield from _several("begun more than once", [name for name, count in times.items() if count > 1])
    yield from _several("in the access log more than once", [name for name, count in lines.items() if count > 1])
    for outcome, what in NOT_BEGUN.items():
        yield from _several(what, [name for name, became in ledger.items() if became is outcome and name in by])
    answered = [name for name, became in ledger.items() if became is Outcome.OK]
    yield from _several("answered, but never begun by the application", [name for name in answered if name not in by])
    unlogged = [name for name in by if name in ledger and name not in lines and by[name] not in dead]
    yield from _several("begun by processes that were not killed, but not in the access log", unlogged)


def read_log(lines: Sequence[str], dead: Collection[int]) -> Iterator[str]:
    """What the server's own log says of things that must not happen. `dead`: those that we killed or stopped."""
    broken = False
    for line in lines:
        if _RECORD.match(line):
            broken = False
        if any(word in line for word in _BROKEN):
            broken = True  # the block below it holds the traceback of an application that was broken on purpose
        elif not broken and any(word in line for word in _NEVER):
            yield f"the log says: {line}"
        died = _FORCED.search(line) or _UNEXPECTED.search(line)
        if died and int(died[1]) not in dead and "exited with status 9" not in line:
            yield f"a worker that nobody had touched {died[2]}"


def _several(what: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"{len(names)} requests were {what}: {', '.join(names[:SHOWN])}{more}"
