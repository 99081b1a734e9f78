"""`python -m tests.fuzz [--seconds N] [--seed N]`: see the package. Ends with status 1 when something was found."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from tests.fuzz.judge import Judge
from tests.fuzz.mutate import generate

REPORTED = 10
"""Findings after which it ends."""


async def fuzz(seconds: float, seed: int, streams: int = sys.maxsize) -> int:
    """Ends when either is over. Returns the number of streams that something was wrong with."""
    judge, found, number = Judge(), 0, 0
    end = time.monotonic() + seconds
    while number < streams and time.monotonic() < end and found < REPORTED:
        rng = random.Random(f"{seed} {number}")
        raw = generate(rng)
        try:
            async with asyncio.timeout(20):
                await judge.judge(raw, rng)
        except Exception as error:
            found += 1
            print(f"found, seed {seed} stream {number}: {raw!r}\n    {type(error).__name__}: {error}", flush=True)
        number += 1
    print(f"{number} streams: {judge.served} requests served, {judge.refused} refused, {found} findings; seed {seed}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    return 1 if asyncio.run(fuzz(options.seconds, options.seed)) else 0


if __name__ == "__main__":
    sys.exit(main())
