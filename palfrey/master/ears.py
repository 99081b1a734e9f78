"""What the arbiter listens to while it sleeps: one selector, and a callback for each descriptor in it.

Whoever brings a descriptor (the workers' channels, the signal inbox, a readiness pipe, a watcher's) gives it here
with what is to be called when it can be read, and takes it away before closing it. A callback must not wait and may
call `listen` and `forget` itself. What it raises is an error of ours, which the arbiter logs.

`Chore` is for what has no descriptor, only a time: the arbiter sleeps no longer than until the earliest `due`.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator
from typing import Protocol


class Readable(Protocol):
    """A file object, socket or channel."""

    def fileno(self) -> int: ...


class Chore(Protocol):
    """Something that is looked at in every turn of the arbiter's loop."""

    @property
    def due(self) -> float | None:
        """When the next turn has to come at the latest, by time.monotonic(); None: whenever something happens."""

    def look(self, now: float) -> None:
        """Do what is to be done now, if anything. Turns come early as well: it is for the chore to know."""


class Ears:
    """Opened only in the process that will wait with it: a kqueue does not survive the daemon's forks."""

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector | None = None

    def open(self) -> None:
        self._selector = selectors.DefaultSelector()

    def close(self) -> None:
        """Also in a forked child, which has no business with any of this. What was listened to stays open."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    def listen(self, to: Readable, callback: Callable[[], None]) -> None:
        """Call back whenever `to` can be read or has ended."""
        self._open_selector.register(to, selectors.EVENT_READ, callback)

    def forget(self, what: Readable) -> bool:
        """Listen to it no more. False if nobody did. To be called before it is closed."""
        selector = self._open_selector
        if what not in selector.get_map():
            return False
        selector.unregister(what)
        return True

    def wait(self, timeout: float | None) -> Iterator[Callable[[], None]]:
        """Sleep until something can be read, at most `timeout` seconds; the callbacks to make."""
        selector = self._open_selector
        for key, _ in selector.select(timeout):
            if selector.get_map().get(key.fileobj) is key:  # an earlier callback may have forgotten it
                yield key.data

    @property
    def _open_selector(self) -> selectors.BaseSelector:
        assert self._selector is not None, "open() comes first"
        return self._selector
