"""How many CPUs this process may use, and what says so: for `workers = "auto"`.

The least of three counts: the machine's, those that the process is allowed to run on (affinity, `taskset`, cpuset), and
what the quota of its cgroup, or of one above that, is worth: version 2 (`cpu.max`) and 1 (`cpu.cfs_quota_us`). A
fraction of a CPU counts as one more: a worker less would leave it unused.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from palfrey.system.cgroups import MEMBERSHIP, MOUNT, hierarchies, read


@dataclass(frozen=True, slots=True)
class Budget:
    cpus: int
    """At least 1."""
    why: str
    """For people: "4 CPUs", "2 CPUs by the cgroup's quota of 1.5"."""


def budget(mount: str = MOUNT, membership: str = MEMBERSHIP) -> Budget:
    """What there is for this process now. `mount` is where the cgroups are, `membership` says which are ours."""
    machine, allowed, quota = os.cpu_count() or 1, _allowed(), cgroup_quota(mount, membership)
    if quota is not None and math.ceil(quota) < allowed:
        cpus = max(1, math.ceil(quota))
        return Budget(cpus, f"{_cpus(cpus)} by the cgroup's quota of {quota:g}")
    if allowed < machine:
        return Budget(allowed, f"{_cpus(allowed)} of the machine's {machine} by affinity")
    return Budget(allowed, _cpus(allowed))


def _allowed() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13, where PYTHON_CPU_COUNT has a say
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def cgroup_quota(mount: str = MOUNT, membership: str = MEMBERSHIP) -> float | None:
    """CPUs' worth of time that the cgroup and those above it leave to this process; None: no quota (or no cgroups)."""
    quotas = [
        quota
        for hierarchy in hierarchies("cpu", mount, membership)
        for place in hierarchy.upwards()
        if (quota := _QUOTAS[hierarchy.version](place)) is not None
    ]
    return min(quotas, default=None)


def _quota_of_version_2(place: str) -> float | None:
    return _share(read(os.path.join(place, "cpu.max")).split())


def _quota_of_version_1(place: str) -> float | None:
    quota = read(os.path.join(place, "cpu.cfs_quota_us")).strip()
    return _share([quota, read(os.path.join(place, "cpu.cfs_period_us")).strip()])


_QUOTAS = {1: _quota_of_version_1, 2: _quota_of_version_2}


def _share(words: list[str]) -> float | None:
    """Of (quota, period) in microseconds; "max" and -1 are no quota."""
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _cpus(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"
