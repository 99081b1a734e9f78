"""The file watcher of `--reload`: a small process of its own that tells the arbiter which files have changed.

    files ──> watchfiles, or stats ──> Filter ──> Debounce ──> channel ──> Watcher (arbiter) ──> a reload

The arbiter has no threads and must never wait, so that the watching is done elsewhere: in a forked child that has
nothing of the arbiter's but its end of a channel, and that ends when the channel does. `Watcher` is the arbiter's side:
one is alive for as long as the service; a child that dies is said once and started again.

The child says, each as one message:

    armed(engine, notice)   from now on nothing is missed; with which engine, and why not with a better one
    changed(paths, count)   wanted files are new, changed or gone, and have come to rest

Before it reports a change it removes the bytecode of the changed files. Python takes bytecode for fresh when the
source's second and size are the same, and whoever saves twice in a second would be served what he saved first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol

from palfrey.master.changes import Debounce, Filter, Stamp, Targets, differences, scan
from palfrey.master.ears import Ears
from palfrey.master.records import cause_of
from palfrey.master.signals import IN_A_WORKER, blocked
from palfrey.system.channel import Channel, channel_pair
from palfrey.system.process import set_title

POLL = 0.05
"""Seconds between two looks at all files, for polling."""
SHARE = 0.05
"""Of a processor, about, for polling: a large tree is looked at less often."""
LONGEST_POLL = 1.0
"""Seconds between two looks, at most: the first, with nothing in the kernel's cache, takes long and says little."""
STEP = 0.02
"""Seconds between two looks of watchfiles at what the kernel has told it."""
WAKE = 0.05
"""Seconds after which watchfiles lets us see to the channel and to the single files."""
AGAIN = 1.0
"""Seconds until a watcher that died is started again."""
REPORTED = 100
"""Paths that a report names, at most; it says how many there were."""


class Watcher:
    """The arbiter's side. A chore of the arbiter's: `due` and `look`."""

    def __init__(self, ears: Ears, on_change: Callable[[list[str], int], None]) -> None:
        """`on_change` gets the first paths, and the number of all."""
        self._ears = ears
        self._on_change = on_change
        self._targets: Targets | None = None
        self._channel: Channel | None = None
        self._pid = 0
        self._log: logging.Logger
        self.due: float | None = None
        """When to start the child again, by time.monotonic(); None: it runs, or is not wanted."""

    def watch(self, targets: Targets, log: logging.Logger) -> None:
        """From now on these; a child that watches others is replaced."""
        if targets == self._targets:
            return
        self.close()
        self._targets, self._log = targets, log
        self._start()

    def look(self, now: float) -> None:
        if self.due is not None and now >= self.due:
            self._start()

    def close(self) -> None:
        """No longer watch. The child sees the end of its channel."""
        if self._channel is not None:
            self._part()
        self._targets, self.due = None, None

    def shed(self) -> None:
        """In a forked child of the arbiter's: close what is the arbiter's alone."""
        if self._channel is not None:
            self._channel.close()

    def _start(self) -> None:
        assert self._targets is not None
        self.due = None
        try:
            ours, theirs = channel_pair()
        except OSError as error:
            self._later(f"cannot be started: {error.strerror}")
            return
        with blocked():
            try:
                self._pid = os.fork()
            except OSError as error:
                ours.close()
                theirs.close()
                self._later(f"cannot be forked: {error.strerror}")
                return
            if self._pid == 0:
                _live(theirs, self._targets)
        theirs.close()
        self._channel = ours
        self._ears.listen(ours, self._hear)

    def _hear(self) -> None:
        channel, targets = self._channel, self._targets
        assert channel is not None
        assert targets is not None
        messages = channel.receive()
        if channel.closed:
            self._later(f"{self._part()}; files are not watched until it runs again")
        for message in messages:
            if message["kind"] == "armed":
                places = ", ".join((*targets.directories, *targets.files))
                self._log.info("Watching %s for changes (%s)", places, message.get("engine"))
                if message.get("notice"):
                    self._log.warning("%s", message["notice"])
            elif message["kind"] == "changed":
                self._on_change(list(message["paths"]), int(message["count"]))

    def _later(self, reason: str) -> None:
        self._log.error("The file watcher %s", reason)
        self.due = time.monotonic() + AGAIN

    def _part(self) -> str:
        """Let go of the child, which ends now if it has not yet; how it ended."""
        assert self._channel is not None
        self._ears.forget(self._channel)
        self._channel.close()
        self._channel = None
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if not pid:
                os.kill(self._pid, signal.SIGKILL)  # it holds nothing, and has nothing to tidy up
                status = os.waitpid(self._pid, 0)[1]
        except ChildProcessError:  # as process 1, the arbiter reaps whatever ends; the pid may be another's by now
            return "ended"
        return cause_of(status)


# The child ----------------------------------------------------------------------------------------------------------


def _live(channel: Channel, targets: Targets) -> NoReturn:
    """The whole life of the child, from the fork on, signals blocked."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for signum, disposition in IN_A_WORKER.items():
            signal.signal(signum, disposition)
        _keep_only(channel.fileno())
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        set_title("palfrey: file watcher")
        report(channel, targets)
        status = 0
    finally:
        os._exit(status)


def _keep_only(fd: int) -> None:
    """Of all descriptors keep this one and standard error."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    os.closerange(3, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))


def report(channel: Channel, targets: Targets) -> None:
    """Watch and report until the channel ends."""
    source, engine, notice = open_source(targets)
    debounce = Debounce(targets.delay)
    channel.send("armed", engine=engine, notice=notice)
    while True:
        due = debounce.due
        changed = source.look(channel, None if due is None else max(0.0, due - time.monotonic()))
        if changed is None:
            return
        now = time.monotonic()
        debounce.add(changed, now)
        rested = debounce.take(now)
        if rested:
            drop_bytecode(rested)
            channel.send("changed", paths=rested[:REPORTED], count=len(rested))


class Source(Protocol):
    """Either engine, watching from the moment that it was made."""

    def look(self, channel: Channel, within: float | None) -> set[str] | None:
        """The files that have changed since the last look, after a short wait or `within` seconds, whichever is
        shorter, or none yet. None: the channel has ended."""


def open_source(targets: Targets) -> tuple[Source, str, str]:
    """The engine that was asked for, or polling where that cannot be had; its name; why not that one, or ""."""
    if targets.engine == "poll":
        return Polling(targets), "polling", ""
    try:
        return Notified(targets), "watchfiles", ""
    except ImportError:
        return Polling(targets), "polling, as watchfiles is not installed", ""
    except (OSError, RuntimeError) as error:  # too many directories for inotify's limit, as a rule
        return Polling(targets), "polling", f"watchfiles cannot watch that ({error}), so that files are polled instead"


class Polling:
    """By the stat of each file."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._filter = Filter(targets)
        self._pause = POLL
        self._seen = self._scan()

    def look(self, channel: Channel, within: float | None) -> set[str] | None:
        pause = self._pause if within is None else max(within, self._pause - POLL)
        if _has_ended(channel, pause):
            return None
        before, self._seen = self._seen, self._scan()
        return differences(before, self._seen)

    def _scan(self) -> dict[str, Stamp]:
        began = time.monotonic()
        seen = scan(self._targets.directories, self._targets.files, self._filter)
        self._pause = min(max(POLL, (time.monotonic() - began) / SHARE), LONGEST_POLL)
        return seen


class Notified:
    """By what the kernel tells, through watchfiles; the single files by their stats."""

    def __init__(self, targets: Targets) -> None:
        """Raises ImportError, and OSError or RuntimeError where the kernel does not let us."""
        from watchfiles import Change, watch

        self._files = targets.files
        self._filter = Filter(targets)
        self._deleted = Change.deleted
        self._changes = watch(
            *targets.directories,
            watch_filter=None,
            debounce=1,
            step=int(STEP * 1000),
            rust_timeout=int(WAKE * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        first = next(self._changes)
        self._homes: set[str] = set()
        for path in scan(targets.directories, (), self._filter):
            self._remember(path)
        self._seen = scan((), self._files, self._filter)
        self._early = self._wanted(first)

    def look(self, channel: Channel, within: float | None) -> set[str] | None:
        changed, self._early = self._early | self._wanted(next(self._changes)), set()
        if _has_ended(channel, 0.0):
            return None
        before, self._seen = self._seen, scan((), self._files, self._filter)
        return changed | differences(before, self._seen)

    def _wanted(self, events: Iterable[tuple[Any, str]]) -> set[str]:
        found: set[str] = set()
        for change, path in events:
            if path in self._homes:
                if change is self._deleted:  # a package that was moved away, of whose files nothing is said
                    found.add(path)
            elif self._filter.wants(path):
                found.add(path)
            elif change is not self._deleted and os.path.isdir(path) and self._filter.enters(path):
                found |= scan((path,), (), self._filter).keys()  # made faster than the kernel could be asked about it
        for path in found:
            self._remember(path)
        return found

    def _remember(self, path: str) -> None:
        """The directories that this file is in."""
        home = os.path.dirname(path)
        while home not in self._homes and self._filter.enters(home):
            self._homes.add(home)
            home = os.path.dirname(home)


def _has_ended(channel: Channel, within: float) -> bool:
    """Whether the arbiter has let go of the channel, waiting for that so long. Nothing is ever said to us."""
    if select.select([channel], [], [], within)[0]:
        channel.receive()
    return channel.closed


def drop_bytecode(paths: Iterable[str]) -> None:
    """Of sources that have changed."""
    for path in paths:
        if path.endswith(".py"):
            for level in ("", "1", "2"):
                with contextlib.suppress(OSError, NotImplementedError):
                    os.remove(importlib.util.cache_from_source(path, optimization=level))
