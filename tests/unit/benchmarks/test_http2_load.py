"""h2load's report and log, as figures; and what it is told."""

from pathlib import Path

import pytest

from benchmarks import http2_load
from benchmarks.http2_load import load, read
from benchmarks.load import Load
from benchmarks.scenarios import BROWSER, SCENARIOS

CLEAN = """\
starting benchmark...
spawning thread #0: 8 total client(s). 50000 total requests
Application protocol: h2c
progress: 100% done

finished in 1.52s, 66289.03 req/s, 2.53MB/s
requests: 50000 total, 50000 started, 50000 done, 50000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 50000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 3.83MB (4019312) total, 883.62KB (904829) headers (space savings 91.74%), 1.25MB (1305889) data
                     min         max         mean         sd        +/- sd
time for request:      260us     18.05ms      1.89ms      1.06ms    95.67%
time for connect:      127us       458us       257us       104us    75.00%
time to 1st byte:     3.53ms      3.89ms      3.75ms       109us    75.00%
req/s           :    8204.44     8346.90     8287.99       54.53    62.50%
"""
NUMBERS, STATUSES = CLEAN.splitlines()[6:8]


def report(numbers: str, statuses: str) -> str:
    return CLEAN.replace(NUMBERS, f"requests: {numbers}").replace(STATUSES, f"status codes: {statuses}")


def logged(*rows: tuple[int, int]) -> str:
    return "".join(f"1795179769414719\t{status}\t{micros}\n" for status, micros in rows)


def test_a_clean_report_with_its_log() -> None:
    done = read(CLEAN, logged(*((200, 10 * each) for each in range(101))), 0.5)
    assert done == Load(rate=66289.03, requests=50000, errors=0, p50=0.5, p99=0.99, busy=0.5)


@pytest.mark.parametrize(
    ("numbers", "statuses", "requests", "errors"),
    [
        # Statuses that say no.
        (
            "100 total, 100 started, 100 done, 0 succeeded, 100 failed, 0 errored, 0 timeout",
            *("0 2xx, 0 3xx, 40 4xx, 60 5xx", 100, 100),
        ),
        # Streams that were reset behind a head with 200.
        (
            "100 total, 100 started, 100 done, 90 succeeded, 10 failed, 10 errored, 0 timeout",
            *("100 2xx, 0 3xx, 0 4xx, 0 5xx", 90, 10),
        ),
        # A server that is gone: what was never asked is lost, too.
        (
            "500 total, 228 started, 100 done, 100 succeeded, 400 failed, 400 errored, 0 timeout",
            *("100 2xx, 0 3xx, 0 4xx, 0 5xx", 100, 400),
        ),
        # One that stands still: those that timed out are among the others.
        (
            "500 total, 228 started, 100 done, 100 succeeded, 400 failed, 400 errored, 128 timeout",
            *("100 2xx, 0 3xx, 0 4xx, 0 5xx", 100, 400),
        ),
        # A redirection answers none of the scenarios.
        (
            "100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout",
            *("0 2xx, 100 3xx, 0 4xx, 0 5xx", 100, 100),
        ),
    ],
)
def test_every_kind_of_error_counts_once(numbers: str, statuses: str, requests: int, errors: int) -> None:
    done = read(report(numbers, statuses))
    assert (done.requests, done.errors) == (requests, errors)


def test_latency_is_of_those_with_an_answer() -> None:
    done = read(CLEAN, logged((200, 1000), (-1, 0), (200, 1000), (-1, 90_000_000)))
    assert (done.p50, done.p99) == (1.0, 1.0)


def test_without_an_answer_there_is_no_latency() -> None:
    done = read(CLEAN.replace("66289.03", "0.00"), logged((-1, 5)))
    assert (done.rate, done.p50, done.p99) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("without", ["finished in", "succeeded", "status codes:"])
def test_a_report_that_is_not_understood_ends_the_program(without: str) -> None:
    with pytest.raises(SystemExit, match="h2load's output is not understood"):
        read(CLEAN.replace(without, ""))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What h2load was told last."""
    words: list[str] = []

    def generate(command: list[str], seconds: int, core: int | None) -> tuple[str, float]:
        words[:] = command
        return CLEAN, 0.0

    monkeypatch.setattr(http2_load, "generate", generate)
    return words


def test_a_time_at_first_and_then_a_number_of_requests(told: list[str], tmp_path: Path) -> None:
    scenario = SCENARIOS["h2-hello-64x1"]
    load("http://127.0.0.1:8000/", scenario, 1, 0.0, None, tmp_path)
    assert told[:4] == ["h2load", "-c64", "-m1", "-D1"]
    assert told[-1] == "http://127.0.0.1:8000/"
    load("http://127.0.0.1:8000/", scenario, 3, 1000.4, None, tmp_path)
    assert told[3] == "-n3001"
    # Never fewer than go at a time.
    load("http://127.0.0.1:8000/", scenario, 3, 1.0, None, tmp_path)
    assert told[3] == "-n64"


def test_the_load_is_what_the_scenario_says(told: list[str], tmp_path: Path) -> None:
    load("https://127.0.0.1:1/", SCENARIOS["h2-varied-8x16-tls"], 1, 0.0, None, tmp_path)
    assert [told[at + 1] for at, word in enumerate(told) if word == "-H"] == [
        f"{name}: {text}" for name, text in BROWSER
    ]
    paths = Path(told[told.index("-i") + 1]).read_text().splitlines()
    assert len(set(paths)) == 1000
    assert paths[7] == "https://127.0.0.1:1/items/7?page=7"
    load("http://127.0.0.1:1/", SCENARIOS["h2-echo-10k-8x16"], 1, 0.0, None, tmp_path)
    assert Path(told[told.index("-d") + 1]).read_bytes() == SCENARIOS["echo-10k"].content
