"""How many CPUs this process may use, and what says so: for `workers = "auto"`.

The least of three counts: the machine's, those that the process is allowed to run on (affinity, `taskset`, cpuset), and
what the quota of its cgroup, or of one above that, is worth: version 2 (`cpu.max`) and 1 (`cpu.cfs_quota_us`). A
fraction of a CPU counts as one more: a worker less would leave it unused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CGROUPS = "/sys/fs/cgroup"
MEMBERSHIP = "/proc/self/cgroup"


@dataclass(frozen=True, slots=True)
class Budget:
    cpus: int
    """At least 1."""
    why: str
    """For people: "4 CPUs", "2 CPUs by the cgroup's quota of 1.5"."""


def budget(cgroups: str = CGROUPS, membership: str = MEMBERSHIP) -> Budget:
    """What there is for this process now. `cgroups` is where they are mounted, `membership` says which are ours."""
    machine, allowed, quota = os.cpu_count() or 1, _allowed(), cgroup_quota(cgroups, membership)
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


def cgroup_quota(cgroups: str = CGROUPS, membership: str = MEMBERSHIP) -> float | None:
    """CPUs' worth of time that the cgroup and those above it leave to this process; None: no quota (or no cgroups)."""
    quotas = [
        quota
        for mount, path, read in _hierarchies(cgroups, membership)
        for place in _upwards(mount, path)
        if (quota := read(place)) is not None
    ]
    return min(quotas, default=None)


def _hierarchies(cgroups: str, membership: str) -> Iterator[tuple[str, str, Callable[[str], float | None]]]:
    """(mount point, our cgroup in it, how a quota is read) of each hierarchy that has CPU quotas.

    A line of the membership is "number:controllers:path" (cgroups(7)); version 2 has the number 0 and no controllers.
    In a container the path may be the host's, which does not exist here: then what is mounted is the container's own.
    """
    for line in _read(membership).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield cgroups, path, _quota_of_version_2
            yield os.path.join(cgroups, "unified"), path, _quota_of_version_2  # both versions are mounted
        elif "cpu" in controllers.split(","):
            for name in dict.fromkeys((controllers, "cpu", "cpu,cpuacct")):
                yield os.path.join(cgroups, name), path, _quota_of_version_1


def _upwards(mount: str, path: str) -> Iterator[str]:
    """The directory of a cgroup and those above it, up to the mount point."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield os.path.join(mount, *parts[:length])


def _quota_of_version_2(place: str) -> float | None:
    return _share(_read(os.path.join(place, "cpu.max")).split())


def _quota_of_version_1(place: str) -> float | None:
    quota = _read(os.path.join(place, "cpu.cfs_quota_us")).strip()
    return _share([quota, _read(os.path.join(place, "cpu.cfs_period_us")).strip()])


def _share(words: list[str]) -> float | None:
    """Of (quota, period) in microseconds; "max" and -1 are no quota."""
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _cpus(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"
