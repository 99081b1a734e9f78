"""The load generator's report, as figures."""

import pytest

from benchmarks.load import read

CLEAN = """\
Running 3s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.34ms  621.42us  12.57ms   91.33%
    Req/Sec    48.56k     3.42k   52.11k    83.33%
  Latency Distribution
     50%    1.21ms
     75%    1.40ms
     90%  980.00us
     99%    4.27ms
  145023 requests in 3.01s, 23.10MB read
Requests/sec:  48181.22
Transfer/sec:      7.67MB
"""
FAILING = CLEAN.replace(
    "Requests/sec:",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\nRequests/sec:",
)


def test_a_clean_report() -> None:
    load = read(CLEAN, 0.5)
    assert (load.rate, load.requests, load.errors, load.p50, load.p99) == (48181.22, 145023, 0, 1.21, 4.27)
    assert load.busy == 0.5


def test_every_kind_of_error_counts() -> None:
    assert read(FAILING).errors == 54321


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("4.27ms", 4.27), ("870.00us", 0.87), ("1.50s", 1500.0), ("1.00m", 60000.0)]
)
def test_units_of_latency(text: str, milliseconds: float) -> None:
    assert read(CLEAN.replace("4.27ms", text)).p99 == pytest.approx(milliseconds)


def test_a_run_without_a_response() -> None:
    load = read("  0 requests in 3.01s, 0.00B read\nRequests/sec:      0.00\n")
    assert (load.rate, load.requests, load.p99) == (0.0, 0, 0.0)


def test_a_report_that_is_not_understood_ends_the_program() -> None:
    with pytest.raises(SystemExit, match="not understood"):
        read("unable to connect")
