"""Cores: who runs on which, and how much of one was used by whom.

A benchmark on a machine that others use says little unless it says how much they used: `Meter` does.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

Cores = tuple[int | None, int | None]


def choose() -> Cores:
    """One core for the server and another for the load; None where the system cannot pin or has only one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def pin(core: int | None) -> None:
    """For a child before its exec: onto one core, where the system can. Its threads and children inherit it."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


QUIET = 0.1
"""A core of which less than this share is used is quiet."""
LOOK = 0.25
"""Seconds that a look at the cores takes."""


def wait_for_quiet(cores: Cores, patience: float) -> None:
    """Returns when both cores are quiet, or after `patience` seconds."""
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        before = [_core_seconds(core) for core in cores]
        time.sleep(LOOK)
        if all(_core_seconds(core) - was < QUIET * LOOK for core, was in zip(cores, before, strict=True)):
            return


@dataclass(frozen=True)
class Used:
    """Processor time between two looks."""

    seconds: float
    """By the watched process and its children, user and system."""
    others: float
    """The share of the core, 0 to 1, that went to anybody else; 0 where it cannot be told."""


class Meter:
    """Watches a process tree that is pinned to `core` from when it is made until `read`."""

    def __init__(self, pid: int, core: int | None) -> None:
        self._pid = pid
        self._core = core
        self._wall = time.monotonic()
        self._own = _tree_seconds(pid)
        self._busy = _core_seconds(core)

    def read(self) -> Used:
        own = _tree_seconds(self._pid) - self._own
        wall = time.monotonic() - self._wall
        busy = _core_seconds(self._core) - self._busy
        others = max(0.0, busy - own) / wall if self._core is not None and busy else 0.0
        return Used(own, min(1.0, others))


def _tree_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _core_seconds(core: int | None) -> float:
    """Seconds that the core has spent on processes; interrupts are nobody's and left out."""
    if core is None:
        return 0.0
    times = psutil.cpu_times(percpu=True)[core]
    return float(times.user + times.system + getattr(times, "nice", 0.0))
