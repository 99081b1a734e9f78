"""The mold: a process that imports the application once and forks workers from itself (`preload_app`).

The arbiter forks one for each generation that preloads (`palfrey/master/spawn.py`), and supervises it as it does a
worker; its place is the slot MOLD of its pool. It imports the application, says "ready", and waits. What it imported,
its workers share with it for as long as nobody writes to it, which is why the garbage collector is told to leave it
alone (`gc.freeze`).

    arbiter ── fork(slot, age, index, workers), with descriptors: the worker's channel, the listeners ──> mold
            ── reopen, and whatever ends a worker ──> mold
            <── ready, failed(reason, detail) ── mold
            <── born(pid), unborn(reason) ── over the worker's own channel

It forks twice. The process between ends at once, so that the worker becomes the child of the arbiter, who adopts
orphans (`system.process.adopt_orphans`) and waits for it like for any other.

What the mold does not hold is as important. No listener: each worker is given copies of its own, so that a listener
which the arbiter and the workers have closed is closed. No end of another's channel, save its own with the arbiter:
when that ends, the arbiter is gone, and so is the mold. No right that a worker has not: `user` and `group` are changed
before the application is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import select
import signal
import socket
import threading
import warnings
from typing import Any, NoReturn

from palfrey.config.settings import Settings
from palfrey.errors import EXIT_OK
from palfrey.master.child import Child, Estate, by_name, flush_stdio, run, work, worker_view
from palfrey.master.signals import blocked
from palfrey.observe.scoreboard import State
from palfrey.system.channel import Channel
from palfrey.system.process import close_fds, drop_privileges, end_with_parent, os_threads, set_title
from palfrey.system.sockets import Listener

LOAD = "palfrey.asgi.load:load_app"
"""Called by name: the arbiter imports this module too, and must not come to import an application."""
ENDS = ("retire", "stop", "quit")
"""All words that end a worker end a mold at once: it has nothing to drain."""


class Mold:
    """One mold's life, in its own process. Signals are blocked when it begins.

    What they do then is what they do in a worker, and so it stays for those that are forked: but for what the
    application changes while it is imported, as it may in a worker.
    """

    def __init__(self, child: Child, channel: Channel, estate: Estate) -> None:
        self._child = child
        self._channel = channel
        self._estate = estate
        self._addresses = [listener.address for listener in estate.listeners]
        self._app: Any = None

    def live(self) -> int:
        """Its exit status: EXIT_OK, at the arbiter's word or end. Raises AppLoadError."""
        close_fds(listener.sock.detach() for listener in self._estate.listeners)
        self._become_a_worker_in_all_but_its_work()
        self._app = self._load()
        self._estate.logs.heed_application()
        warn_of_threads(self._estate)
        flush_stdio()
        gc.collect()
        gc.freeze()
        self._child.row.state = State.MOLD
        self._channel.send("ready")
        self._obey()
        return EXIT_OK

    def _become_a_worker_in_all_but_its_work(self) -> None:
        settings = self._estate.generation.settings
        set_title(f"palfrey: mold [{settings.proc_name or settings.app}]")
        drop_privileges(settings.user, settings.group)
        end_with_parent(self._estate.server.pid)  # an import that hangs hears no end of the channel
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, lambda *_: os._exit(EXIT_OK))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _load(self) -> Any:
        generation = self._estate.generation
        settings: Settings = generation.settings
        os.environ.update(generation.environment)
        os.environ["PALFREY_GENERATION"] = str(generation.number)
        os.environ.pop("PALFREY_WORKER", None)
        by_name(self._estate.entry)  # the server's own code is shared, too
        return by_name(LOAD)(settings.app, settings.factory, settings.app_dir, settings.interface)

    # Wait for the arbiter's word

    def _obey(self) -> None:
        words = select.poll()
        words.register(self._channel, select.POLLIN)
        while not self._channel.closed:
            words.poll()
            heard = self._channel.receive_with_fds()
            for number, (message, fds) in enumerate(heard, 1):
                if message["kind"] == "fork":
                    self._fork(message, fds, [fd for _, others in heard[number:] for fd in others])
                elif message["kind"] == "reopen":
                    self._estate.logs.reopen()
                elif message["kind"] in ENDS:
                    return

    def _fork(self, order: dict[str, Any], fds: list[int], others: list[int]) -> None:
        """Fork a worker, or say over its channel why not. Waits for the process between only, which lives shortly.

        `others` came with orders behind this one: who kept them would keep the listeners open while it drains,
        and the ends of its fellows' channels.
        """
        line = Channel(socket.socket(fileno=fds[0]))
        self._estate.logs.flush()
        gate, latch = os.pipe()
        try:
            between = _fork_quietly()
            if between == 0:
                close_fds(others)
                self._be_between(order, line, fds[1:], gate, latch)
            with contextlib.suppress(ChildProcessError):  # the application ignores SIGCHLD
                os.waitpid(between, 0)
        except OSError as error:
            line.send("unborn", reason=f"could not be forked: {error.strerror}")
        finally:
            line.close()
            close_fds([gate, latch, *fds[1:]])

    def _be_between(self, order: dict[str, Any], line: Channel, fds: list[int], gate: int, latch: int) -> NoReturn:
        """In the process between: it forks the worker and ends, come what may."""
        try:
            between = os.getpid()
            with blocked():
                if _fork_quietly() == 0:
                    # Held until the process between is gone: then this one is the arbiter's child.
                    os.close(latch)
                    os.read(gate, 1)
                    os.close(gate)
                    while os.getppid() == between:  # a process closes its files before it gives its children away
                        os.sched_yield()
                    self._be_worker(order, line, fds)
        except OSError as error:
            line.send("unborn", reason=f"could not be forked: {error.strerror}")
        finally:
            os._exit(EXIT_OK)

    def _be_worker(self, order: dict[str, Any], line: Channel, fds: list[int]) -> NoReturn:
        """In the worker, to its end."""
        pid = os.getpid()
        line.send("born", pid=pid)
        self._channel.close()

        def life() -> int:
            estate, index = self._estate, int(order["index"])
            row = estate.scoreboard.row(index)
            row.pid, row.generation = pid, estate.generation.number
            child = Child(
                pid, self._child.pool, order["slot"], estate.generation.number, order["age"], line, index, row
            )
            estate.logs.after_fork(child.label)
            sockets = (socket.socket(fileno=fd) for fd in fds)
            listeners = [Listener(*pair) for pair in zip(sockets, self._addresses, strict=True)]
            server = dataclasses.replace(estate.server, num_workers=order["workers"])
            estate = dataclasses.replace(estate, listeners=listeners, server=server)
            return work(child, line, estate, worker_view(child, estate.generation, server), self._app)

        run(life, line)


def warn_of_threads(estate: Estate) -> None:
    """A fork copies one thread. The others' work is not done in the workers, and a lock that they hold stays locked."""
    found = other_threads()
    if found:
        estate.server.log.warning(
            "preload_app: importing %s has started threads, which no worker will have, and whose locks may stay locked "
            "in the workers: %s. Start them in lifespan startup, or leave preload_app off",
            estate.generation.settings.app,
            ", ".join(found),
        )


def other_threads() -> list[str]:
    """This process's threads beside the one that calls, in words: Python's by their names, others by the system's."""
    this = threading.current_thread()
    python = {thread.native_id: thread.name for thread in threading.enumerate() if thread is not this}
    known = {threading.get_native_id(), *python}  # the thread object of a forked process knows its parent's number
    others = {number: name for number, name in os_threads().items() if number not in known}
    named = [repr(name) for name in python.values()]
    return named + [f"{name!r} (thread {number}, not Python's)" for number, name in others.items()]


def _fork_quietly() -> int:
    """os.fork() without Python's own warning of threads (3.12 and newer): they have been warned of by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
