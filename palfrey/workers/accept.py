"""Takes connections from the listeners.

The listeners are the arbiter's; a worker borrows them and watches each with `add_reader`. All workers watch the same
sockets, so what one does not take another will, and what nobody takes waits in the kernel's queue, which outlives every
worker. A worker looks away from them, since a socket that stays readable would keep its loop turning for nothing,

- while others that hold fewer connections are to be first (`palfrey/workers/gate.py`): until one of its own goes, or
  for a moment, after which it takes what is still there. Not where connections go as fast as they come: nothing lasts
  that could be uneven, and looking at one another would cost more than it is worth;
- while it is full, until a connection goes. Full is less than what the limit of open files allows: an application that
  cannot open one fails;
- for a while when the process has run out of something that a connection needs.

What is accepted goes to `palfrey/workers/adopt.py`.
"""

from __future__ import annotations

import errno
import logging
import resource
from enum import Enum
from typing import TYPE_CHECKING

from palfrey.workers.adopt import Adopter, Door

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from palfrey.protocols.service import Service
    from palfrey.system.sockets import Listener
    from palfrey.system.tls import ServerTls
    from palfrey.workers.gate import Gate

log = logging.getLogger("palfrey.error")

BATCH = 16
"""Connections taken in a turn from one listener, at most: more, and a burst lands on the worker that woke up first."""
GROWTH = 8
"""Turns in a row that found all they asked for, after which twice as many are asked for. To find out that the queue is
empty costs a tenth of what a connection does (accept(2), an exception): mostly the one that woke us is the only one."""
PATIENCE = 0.004
"""Seconds that others have to be first: a loop that turns has looked by then, unless the machine is busy."""
SHORT = 0.1
"""Connections that live no longer than so many seconds, on average, are no matter."""
MANY = 128
"""Connections after which that is looked at again, without waiting for the sweep."""
INSTANT = 0.001
"""The loop's clock tells no shorter times apart."""
PAUSE = 0.5
"""Seconds of not accepting after the process ran out of something that a connection needs."""
UNLIMITED = 1 << 60
SPARE_FILES = 64
"""Descriptors, at least, that connections leave to the application, the log files and the loop."""

# accept(2): these concern the one connection, which is gone already, or nothing at all.
_STILLBORN = (InterruptedError, ConnectionAbortedError, ConnectionResetError)
_STILLBORN_ERRNOS = {
    *(errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH),
    getattr(errno, "ENONET", errno.ENETDOWN),  # Linux alone has it
}
"""Errors of the one connection that Linux hands to accept(2), to be passed over (its manual page)."""


class Watch(Enum):
    """Whether the listeners are watched, and if not, why."""

    OFF = "not started, or stopped"
    ON = "watching"
    YIELDING = "others are to be first"
    FULL = "no room"
    PAUSED = "out of something"


class Acceptor:
    """All listeners of one worker."""

    def __init__(
        self,
        service: Service,
        listeners: Sequence[Listener],
        tls: ServerTls | None,
        limit: int,
        gate: Gate | None = None,
    ) -> None:
        """`tls`: None for plain connections. `limit`: of connections, 0 for as many as there can be. `gate`: None where
        no other process shares the listeners."""
        self._service = service
        self._listeners = list(listeners)
        self._doors = [Door(listener) for listener in listeners]
        self._adopter = Adopter(service, tls, service.make_room)
        self._limit = _room(limit)
        self._gate = gate
        self._gated = False
        """The gate is in use: there are others, and they look at our numbers."""
        self._passing = 0
        """Of so many connections most are gone in a moment."""
        self._taken = 0
        """Connections taken since the last tick."""
        self._then = service.loop.time()
        """Of the last tick."""
        self._held_then = 0
        self._watch = Watch.OFF
        self._timer: asyncio.TimerHandle | None = None
        self._ask = 1
        """Connections to ask a listener for in one turn."""
        self._found = 0
        """Turns in a row that found so many."""
        self._complained = False

    @property
    def watching(self) -> bool:
        return self._watch is Watch.ON

    @property
    def adopting(self) -> int:
        """Connections that have been accepted and are not served yet (TLS handshakes, chiefly)."""
        return len(self._adopter)

    @property
    def _held(self) -> int:
        return len(self._service.connections) + len(self._adopter)

    def start(self) -> None:
        """Begins to accept."""
        if self._watch is Watch.ON:
            return
        self._cancel_timer()
        self._watch = Watch.ON
        self._use_gate(self._gated)
        for door in self._doors:
            self._service.loop.add_reader(door.listener.fileno(), self._ready, door)

    def stop(self) -> None:
        """Stops accepting. What is in the queue stays there for others."""
        self._look_away(Watch.OFF)
        self._service.on_room = None

    def empty(self, most: int) -> None:
        """Takes all that is queued, up to `most` connections a listener: the service ends and nobody else will."""
        for door in self._doors:
            self._take(door, most)

    async def settle(self, timeout: float) -> None:
        """Returns when all that was accepted is served, or the time is up; what is left then is dropped."""
        await self._adopter.settle(timeout)

    def give_up(self) -> None:
        """Drops the connections that are not served yet."""
        self._adopter.give_up()

    def tick(self) -> None:
        """The sweep: how fast do connections come and go?"""
        now, held = self._service.loop.time(), self._held
        gone = self._held_then + self._taken - held
        # Little's law: of those that live so long there are so many at any time.
        self._passing = int(gone / max(now - self._then, INSTANT) * SHORT)
        self._then, self._held_then, self._taken = now, held, 0
        if self._watch is Watch.ON and self._gate is not None:
            self._gate.show(held)

    def close(self) -> None:
        """Closes this process's copies of the listeners."""
        self.stop()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._doors.clear()

    # ---------------------------------------------------------------- taking

    def _ready(self, door: Door) -> None:
        held = self._held
        room = self._limit - held
        if room <= 0:
            self._look_away(Watch.FULL)
            self._service.on_room = self._gone
            return
        gate = self._gate
        if gate is not None:
            if self._taken >= MANY:
                self.tick()
            gated = held >= self._passing and not gate.alone
            if gated is not self._gated:
                self._use_gate(gated)
            if gated:
                room = min(room, gate.room(held))
                if not room:
                    self._yield(gate)
                    return
        asked = min(room, self._ask)
        taken = self._take(door, asked)
        if taken < asked:
            self._ask = taken or 1
            self._found = 0
        elif asked == self._ask:
            self._found += 1
            if self._found > GROWTH:
                self._ask = min(BATCH, asked * 2)
                self._found = 0
        if self._gated and taken:
            self._tell()

    def _take(self, door: Door, most: int) -> int:
        """Connections from the queue; how many there were, up to `most`."""
        taken = 0
        while taken < most:
            try:
                number, peer = door.accept()
            except BlockingIOError:
                break
            except _STILLBORN:
                continue
            except OSError as error:
                if error.errno in _STILLBORN_ERRNOS:
                    continue
                self._cannot_accept(door.listener, error)
                break
            self._adopter.adopt(door, number, peer)
            taken += 1
        self._taken += taken
        return taken

    # ---------------------------------------------------------------- looking away, and back

    def _look_away(self, why: Watch) -> None:
        if self._watch is Watch.ON:
            for door in self._doors:
                self._service.loop.remove_reader(door.listener.fileno())
        self._cancel_timer()
        self._watch = why
        if self._gate is not None and why is not Watch.YIELDING:
            self._gate.shut()

    def _look_again_in(self, seconds: float) -> None:
        self._timer = self._service.loop.call_later(seconds, self._look_again)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self) -> None:
        self._timer = None
        why = self._watch
        if why is Watch.YIELDING and self._gate is not None:
            self._insist(self._gate)
        if self._watch is why:  # else it ran out of something just now
            self.start()

    # ---------------------------------------------------------------- the others

    def _use_gate(self, gated: bool) -> None:
        """From now on there are others to be heeded, or not. Without them nobody need be told of each connection that
        goes."""
        self._gated = gated
        self._service.on_room = self._gone if gated else None
        if self._gate is not None:
            self._gate.show(self._held)

    def _tell(self) -> None:
        if self._gate is not None and self._watch is not Watch.PAUSED:
            self._gate.show(self._held)

    def _yield(self, gate: Gate) -> None:
        gate.note()
        self._look_away(Watch.YIELDING)
        self._look_again_in(PATIENCE)

    def _insist(self, gate: Gate) -> None:
        """The others have had their moment. What is still there is taken, and they are not waited for again."""
        if any(self._take(door, 1) for door in self._doors):
            gate.doubt()
            self._tell()

    def _gone(self) -> None:
        """One of our connections is gone."""
        gate, held = self._gate, self._held
        if self._watch is Watch.FULL:
            if held < self._limit:
                self.start()
        elif gate is not None and self._watch is not Watch.PAUSED:
            gate.show(held)
            if self._watch is Watch.YIELDING and gate.room(held):
                self.start()

    # ---------------------------------------------------------------- trouble

    def _cannot_accept(self, listener: Listener, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.error("Cannot accept connections on %s: %s. They wait in its queue", listener.url, error.strerror)
        if self._watch is not Watch.OFF:
            # Whatever it is, the listener stays readable: without a rest the loop would turn for nothing else.
            self._look_away(Watch.PAUSED)
            self._look_again_in(PAUSE)


def _room(limit: int) -> int:
    """How many connections a worker may hold: those asked for, within what its limit of open files allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limit or UNLIMITED
    most = max(1, files - max(SPARE_FILES, files // 10))
    return min(limit, most) if limit else most
