"""The storm's books: each kind of disagreement between clients, application and log is a problem of its own."""

from __future__ import annotations

from tests.chaos.audit import compare_books, read_log
from tests.support.loadresult import Outcome

LEDGER = {"1-1": Outcome.OK, "1-2": Outcome.KILLED, "1-3": Outcome.IDLE_CLOSE, "1-4": Outcome.UNPROCESSED}
JOURNAL = ["1-1 10", "1-2 11", "- 10"]
LOG = ["1-1 200 <10>", "- 404 <10>"]


def problems(journal: list[str] = JOURNAL, log: list[str] = LOG, dead: frozenset[int] = frozenset({11})) -> list[str]:
    return list(compare_books(LEDGER, journal, log, dead))


def test_books_that_agree() -> None:
    assert problems() == []


def test_what_a_killed_process_did_not_write_is_no_problem_and_what_another_did_not_is() -> None:
    assert problems(dead=frozenset()) == [
        "1 requests were begun by processes that were not killed, but not in the access log: 1-2"
    ]


def test_begun_twice() -> None:
    assert problems([*JOURNAL, "1-1 12"]) == ["1 requests were begun more than once: 1-1"]


def test_logged_twice() -> None:
    assert problems(log=[*LOG, LOG[0]]) == ["1 requests were in the access log more than once: 1-1"]


def test_a_race_that_was_none() -> None:
    (problem,) = problems([*JOURNAL, "1-3 10"], [*LOG, "1-3 200 <10>"])
    assert "given up as an idle-close race" in problem


def test_passed_over_but_begun() -> None:
    (problem,) = problems([*JOURNAL, "1-4 10"], [*LOG, "1-4 200 <10>"])
    assert "passed over" in problem


def test_an_answer_from_nowhere() -> None:
    (problem,) = problems(JOURNAL[1:])
    assert "never begun" in problem


def test_many_are_counted_and_some_named() -> None:
    ledger = {f"1-{number}": Outcome.OK for number in range(9)}
    (problem,) = compare_books(ledger, [], [], ())
    assert problem.endswith("1-0, 1-1, 1-2, 1-3, 1-4 and 4 more")


REFUSED = [
    "ERROR:    [master 1] Reload refused: importing 'stormy' failed: RuntimeError: broken on purpose",
    "Traceback (most recent call last):",
    "RuntimeError: broken on purpose",
]


def test_the_log_of_a_good_storm() -> None:
    lines = [*REFUSED, "INFO:     [master 1] Worker 2 (7) was killed by SIGKILL; its slot is filled again at once"]
    assert list(read_log(lines, {7})) == []


def test_a_traceback_of_our_own() -> None:
    lines = [*REFUSED, "ERROR:    [worker 1 5] Exception in ASGI application", "Traceback (most recent call last):"]
    assert list(read_log(lines, ())) == ["the log says: Traceback (most recent call last):"]


def test_somebody_else_died() -> None:
    lines = [
        "ERROR:    [master 1] Worker 2 (7) was killed by SIGSEGV; its slot is filled again at once",
        "ERROR:    [master 1] Worker 2 (8) has not answered for 8 s: aborted",
    ]
    assert [problem.split(" had touched ")[1] for problem in read_log(lines, {9})] == [
        "was killed by SIGSEGV; its slot is filled again at once",
        "Worker 2 (8) has not answered for 8 s: aborted".partition(") ")[2],
    ]
