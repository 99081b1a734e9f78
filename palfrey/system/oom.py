"""Kills by the kernel for want of memory, as the control group of this process counts them.

Such a kill looks like any SIGKILL to the parent. But the kernel counts it: `oom_kill` in memory.events (cgroup v2) or
memory.oom_control (v1, Linux 4.13) of the group that the victim belonged to, whichever limit was hit, and before the
victim is gone. Nothing here raises; where there is no such file (no cgroups, the root group, another system), nobody
is ever said to have been killed for that.
"""

from __future__ import annotations

from pathlib import Path

from palfrey.system.cgroups import MEMBERSHIP, MOUNT, hierarchies

FRESH = 10.0
"""Seconds for which a kill that was counted may explain a death: the victim may take a while to be gone."""


class OomKills:
    """The counter of our own group. `root` is where /proc and /sys are, for tests.

    A chore of the arbiter's: `look` in every turn keeps an old kill of some other process in the group from
    explaining a later death.
    """

    due: float | None = None

    def __init__(self, root: str = "/") -> None:
        self._file = _find(Path(root))
        self._count = self._read()
        self._unclaimed = 0
        self._noticed = 0.0

    def look(self, now: float) -> None:
        """Take note of new kills; forget those that were noticed too long ago."""
        if self._unclaimed and now > self._noticed + FRESH:
            self._unclaimed = 0
        count = self._read()
        if count > self._count:
            self._unclaimed += count - self._count
            self._noticed = now
        self._count = count

    def struck(self, now: float) -> bool:
        """Whether a kill was counted that explains a death by SIGKILL, seen just now. Each kill explains one."""
        self.look(now)
        if not self._unclaimed:
            return False
        self._unclaimed -= 1
        return True

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            lines = self._file.read_text().splitlines()
        except OSError:  # the group was removed or moved
            return 0
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdigit():
                return int(value)
        return 0


def _find(root: Path) -> Path | None:
    """The file with our group's counter."""
    places = hierarchies("memory", str(root / MOUNT.lstrip("/")), str(root / MEMBERSHIP.lstrip("/")))
    for hierarchy in places:
        group, *_, mount = *hierarchy.upwards(), hierarchy.mount
        for place in (group, mount):
            file = Path(place, _COUNTERS[hierarchy.version])
            if file.is_file():
                return file
    return None


_COUNTERS = {1: "memory.oom_control", 2: "memory.events"}
