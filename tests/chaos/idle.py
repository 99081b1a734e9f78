"""What an arbiter of many workers costs while nothing happens, and how long a reload of all of them takes.

    python -m tests.chaos.idle [--workers 32] [--seconds 60] [--reloads 3]

The application is the load's own, without a lifespan of any length; the workers are idle as well. Processor time is the
kernel's account of the arbiter's process, system time included (its tick is 10 ms). Memory is what the kernel says of
the arbiter and of one worker: RSS counts what the two share with others in full, PSS by shares, USS not at all.
"""

from __future__ import annotations

import argparse
import re
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.chaos.site import Site
from tests.chaos.subject import Subject


def memory(pid: int) -> str:
    full = psutil.Process(pid).memory_full_info()
    return f"RSS {full.rss / 2**20:.1f}, PSS {full.pss / 2**20:.1f}, USS {full.uss / 2**20:.1f} MiB"


def used(pid: int) -> tuple[float, int]:
    """Processor seconds so far, and how often it gave the processor up: how often it woke."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    return times.user + times.system, process.num_ctx_switches().voluntary


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.idle", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--reloads", type=int, default=3)
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="further words for palfrey's command line")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="palfrey-idle-") as directory:
        site = Site(Path(directory), {"workers": given.workers})
        site.write_good()
        began = time.monotonic()
        subject = Subject(site, *given.arguments)
        with subject:
            subject.line(f"Generation 1 serves with {given.workers} of", 0)
            print(f"{given.workers} workers; start: {time.monotonic() - began:.2f} s")
            arbiter = subject.arbiter
            time.sleep(2.0)
            print(f"arbiter: {memory(arbiter)}; a worker: {memory(subject.serving()[0])}", flush=True)
            before, woke = used(arbiter)
            time.sleep(given.seconds)
            after, woken = used(arbiter)
            share = (after - before) / given.seconds
            print(
                f"idle for {given.seconds:g} s: {share:.3%} of a core, {(woken - woke) / given.seconds:.2f} wake-ups/s"
            )
            for number in range(given.reloads):
                _reload(subject, given.workers, number + 2)
            print(f"arbiter after {given.reloads} reloads: {memory(arbiter)}")
            subject.end()
    return 0


def _reload(subject: Subject, workers: int, generation: int) -> None:
    subject.site.write_good()
    subject.hear()
    since, cpu, began = len(subject.lines), used(subject.arbiter)[0], time.monotonic()
    subject.tell(signal.SIGHUP)
    subject.line(f"Generation {generation} is fit to serve", since)
    canary = time.monotonic() - began
    match: re.Match[str] = subject.line(rf"Generation {generation} serves with (\d+) of {workers}", since)
    took = time.monotonic() - began
    arbiter = used(subject.arbiter)[0] - cpu
    print(
        f"reload: the canary in {canary:.2f} s, all {match[1]} in {took:.2f} s, {arbiter:.2f} s of it the arbiter's",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
