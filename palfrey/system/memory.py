"""How much memory this process holds by itself. Pages that it shares with others (a mold, its siblings) are not its
own: they count by its share on Linux (PSS), elsewhere not at all (USS); the resident set (RSS) would count them whole,
in each process anew.

The kernel adds the proportional size up page by page (11 ms for a GB, measured), so it is asked only when the resident
size, which is kept ready (9 µs) and is never smaller, is over the limit.
"""

from __future__ import annotations

import os
import sys

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """The resident set in bytes; `own` is never more. Of 2 to the 62nd where only `own` can tell."""
    if sys.platform != "linux":
        return 1 << 62
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def own() -> int:
    """What this process holds by itself, in bytes. Raises OSError when the system does not tell."""
    if sys.platform != "linux":
        import psutil

        try:
            return int(psutil.Process().memory_full_info().uss)
        except psutil.Error as error:
            raise OSError(str(error)) from None
    with open("/proc/self/smaps_rollup", "rb") as file:
        return proportional(file.read())


def proportional(rollup: bytes) -> int:
    """The Pss line of an smaps_rollup, in bytes. Raises OSError if there is none."""
    for line in rollup.splitlines():
        name, _, value = line.partition(b":")
        if name == b"Pss":
            return int(value.split()[0]) * 1024
    raise OSError("the kernel does not tell the proportional set size")
