"""The server under test, seen from outside: its log, its processes, what its arbiter holds.

The storm's own process is made the subreaper of what it starts (Linux), so that no process can slip away: an orphan
becomes our child and is seen; and the arbiter that an upgrade started is waited for when its parent has gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from tests.chaos.site import ROOT, Site
from tests.support.processes import Server

PATIENCE = 90.0
"""Seconds for anything to happen. A machine under load is slow; a server that does nothing is a failure."""
END = 5.0
"""Seconds for the last processes to be gone after they have closed their output."""
_PR_SET_CHILD_SUBREAPER = 36
_READY = re.compile(r"Worker \d+ \((\d+)\) is ready")
_LEAVES = re.compile(r"Worker \d+ \((\d+)\) (?:.*: retires|was told to end)")
Found = TypeVar("Found")


class NothingHappened(AssertionError):
    """What had to follow an act did not."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What the arbiter's process holds."""

    descriptors: int
    kinds: Counter[str]
    """Of the descriptors, where the system shows them."""
    resident: int
    """Bytes of memory in use, shared ones included: what forked children share is not stable."""

    def __str__(self) -> str:
        return f"{self.descriptors} descriptors, {self.resident / 2**20:.2f} MiB"


class Subject(Server):
    """`palfrey -c palfrey.conf.py` in the site's directory."""

    def __init__(self, site: Site, *arguments: str) -> None:
        adopt_orphans()
        command = (sys.executable, "-m", "palfrey", "-c", "palfrey.conf.py")
        super().__init__(*arguments, cwd=site.directory, env={"PYTHONPATH": str(ROOT)}, command=command)
        self.site = site
        self._ready: set[int] = set()
        self._parsed = 0

    # Log

    def hear(self) -> None:
        """Reads what has been written so far; the pipe must not fill up."""
        while self._read_on(time.monotonic()):
            pass
        for line in self.lines[self._parsed :]:
            self._ready.update(int(pid) for pid in _READY.findall(line))
            self._ready.difference_update(int(pid) for pid in _LEAVES.findall(line))
        self._parsed = len(self.lines)

    def line(self, pattern: str, since: int) -> re.Match[str]:
        """The first line with the pattern after so many lines, which is waited for."""

        def look() -> re.Match[str] | None:
            return next((match for line in self.lines[since:] if (match := re.search(pattern, line))), None)

        return self.until(look, f"a line with {pattern!r}")

    def until(self, look: Callable[[], Found | None], what: str, *, patience: float = PATIENCE) -> Found:
        """What `look` returns, once that is true."""
        deadline = time.monotonic() + patience
        while True:
            self.hear()
            if found := look():
                return found
            if time.monotonic() > deadline:
                raise NothingHappened(f"in {patience:g} s there was not {what}")
            time.sleep(0.01)

    # Processes

    @property
    def arbiter(self) -> int:
        """The pid of the arbiter in charge, by the pid file."""
        return int(self.site.pidfile.read_text())

    def tell(self, signum: int) -> None:
        """A signal to the arbiter in charge."""
        os.kill(self.arbiter, signum)

    def present(self) -> list[int]:
        """The workers that live, whatever they do, by their titles."""
        return [pid for pid in leftovers(self.pid) if is_worker(pid)]

    def mold(self) -> int | None:
        """The process that forks the workers, where the application is preloaded."""
        for child in psutil.Process(self.arbiter).children():
            if title_of(child).startswith("palfrey: mold") and status_of(child) != psutil.STATUS_ZOMBIE:
                return child.pid
        return None

    def serving(self) -> list[int]:
        """The workers that are ready, by the log, and live."""
        self.hear()
        return sorted(pid for pid in self.present() if pid in self._ready)

    def holding(self) -> Holding:
        process = psutil.Process(self.arbiter)
        return Holding(process.num_fds(), descriptor_kinds(process.pid), process.memory_info().rss)

    def zombies(self) -> list[int]:
        """Children of the arbiter that have ended and were not waited for."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.arbiter).children()
            return [child.pid for child in children if status_of(child) == psutil.STATUS_ZOMBIE]
        return []

    def orphans(self) -> list[int]:
        """Processes of the server's that nobody of the server's looks after."""
        ours = {self.pid, self.arbiter}
        return [child.pid for child in psutil.Process().children() if child.pid not in ours]

    def exited(self) -> bool:
        """Whether the process that we started has ended."""
        return self._process.poll() is not None

    def end(self) -> int:
        """TERM, and the exit status when all have ended."""
        arbiter = self.arbiter
        os.kill(arbiter, signal.SIGTERM)
        own = self.wait(patience=PATIENCE)
        if arbiter == self.pid:
            return own
        with contextlib.suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(arbiter, 0)[1])
        return own

    def left_behind(self) -> list[int]:
        """What lives on although the server has ended; it is ended now."""
        processes = [psutil.Process(pid) for pid in leftovers(self.pid) if psutil.pid_exists(pid)]
        left = [process.pid for process in psutil.wait_procs(processes, timeout=END)[1]]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        return left


def descriptor_kinds(pid: int) -> Counter[str]:
    """How many sockets, pipes and so on a process has open; Linux shows them."""
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            kinds[os.readlink(entry).partition(":[")[0]] += 1
    return kinds


def leftovers(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session:
                found.append(pid)
    return found


def is_worker(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and title_of(process).startswith("palfrey: worker")
    return False


def title_of(process: psutil.Process) -> str:
    """What `ps` shows; "" of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def status_of(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


def adopt_orphans() -> None:
    """Linux: what our children leave behind becomes our child."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
