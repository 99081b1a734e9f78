"""Faults that are put into Palfrey on purpose, to see that a storm finds them: Python for the end of its configuration.

The configuration is run by the arbiter at each start and reload; the hook post_fork in each worker before it begins.
"""

from __future__ import annotations

from collections.abc import Mapping

_IDLE = '''
def post_fork(server, worker):
    """While it drains a worker closes idle connections at once, as many servers do."""
    from palfrey.protocols.service import Service

    begin = Service.begin_draining

    def begin_draining(self):
        begin(self)
        for connection in list(self.connections):
            idle = connection.exchange is None and not connection._pending
            if idle and connection.deadline <= self.clock + self.keep_alive:  # it has served before
                connection._transport.close()

    Service.begin_draining = begin_draining
'''

_QUEUE = '''
def post_fork(server, worker):
    """A worker that goes takes what comes within its last 50 ms of accepting, and drops it."""
    import time

    from palfrey.workers.accept import Acceptor

    close = Acceptor.close

    def drop(self):
        end = time.monotonic() + 0.05
        while self._listeners and time.monotonic() < end:
            try:
                self._listeners[0].sock.accept()[0].close()
            except OSError:
                time.sleep(0.001)
        close(self)

    Acceptor.close = drop
'''

_DESCRIPTOR = '''
def on_reload(server):
    """Each reload leaves a descriptor open."""
    import os

    os.dup(0)
'''

_ORPHAN = '''
def post_fork(server, worker):
    """A worker starts a process and leaves it behind."""
    import subprocess

    subprocess.Popen(["sleep", "100"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
'''

SABOTAGES: Mapping[str, str] = {"idle": _IDLE, "queue": _QUEUE, "descriptor": _DESCRIPTOR, "orphan": _ORPHAN}
"""By name, what is appended to the configuration."""
