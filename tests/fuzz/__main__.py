"""`python -m tests.fuzz [--seconds N] [--seed N] [--target NAME]`: see the package. Status 1: something was found."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from tests.fuzz import frames, http2, mutate
from tests.fuzz.http2judge import Http2Judge
from tests.fuzz.judge import Judge

TARGETS = {
    "requests": (Judge, mutate.generate),
    "frames": (frames.FrameJudge, frames.generate),
    "http2": (Http2Judge, http2.generate),
}
"""What judges, and what makes up the streams."""

REPORTED = 10
"""Findings after which it ends."""


async def fuzz(seconds: float, seed: int, streams: int = sys.maxsize, target: str = "requests") -> int:
    """Ends when either is over. Returns the number of streams that something was wrong with."""
    make_judge, generate = TARGETS[target]
    judge, found, number = make_judge(), 0, 0
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
    print(f"{number} streams: {judge.served} {what(target)}, {judge.refused} refused, {found} findings; seed {seed}")
    return found


def what(target: str) -> str:
    return "messages taken, of streams" if target == "frames" else "requests served"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    options = parser.parse_args()
    targets = list(TARGETS) if options.target == "all" else [options.target]
    found = [asyncio.run(fuzz(options.seconds / len(targets), options.seed, target=target)) for target in targets]
    return 1 if any(found) else 0


if __name__ == "__main__":
    sys.exit(main())
