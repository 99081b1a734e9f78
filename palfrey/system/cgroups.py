"""The control groups that this process is in, and where the files of their controllers are (cgroups(7)).

A line of the membership is "number:controllers:path"; version 2 has the number 0 and no controllers. With both versions
at once, version 2 is mounted below `unified`. In a container the path may be the host's, which does not exist here;
what is mounted then is the container's own group. Nothing here raises: what cannot be read is empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

MOUNT = "/sys/fs/cgroup"
MEMBERSHIP = "/proc/self/cgroup"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One in which a controller may be; nothing says that its directories exist."""

    version: int
    mount: str
    group: str
    """Ours, as a path below the mount."""

    def upwards(self) -> Iterator[str]:
        """The directory of our group and those above it, up to the mount point."""
        parts = [part for part in self.group.split("/") if part not in ("", "..")]
        for length in range(len(parts), -1, -1):
            yield os.path.join(self.mount, *parts[:length])


def hierarchies(controller: str, mount: str = MOUNT, membership: str = MEMBERSHIP) -> Iterator[Hierarchy]:
    """Where the controller's files for this process may be, in the order of the membership's lines."""
    for line in read(membership).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        names = controllers.split(",")
        if number == "0" and not controllers:
            yield Hierarchy(2, mount, group)
            yield Hierarchy(2, os.path.join(mount, "unified"), group)
        elif controller in names:
            for name in dict.fromkeys((controllers, controller, ",".join(sorted(names)))):
                yield Hierarchy(1, os.path.join(mount, name), group)


def read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
