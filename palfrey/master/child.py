"""A forked process, from its first step to its last: what it is given, how it becomes a worker, and how it leaves.

Two kinds of process go through here: those that the arbiter forks itself (`palfrey/master/spawn.py`), and workers that
a mold forks (`palfrey/master/mold.py`). Both have signals blocked from before the fork, and have closed by now what is
not theirs. What follows is the same for both, in this order:

    the title, the hook post_fork, then the user and group; signals are let through; the entry is imported by name
    and called. Only there does the process import asyncio and, unless a mold has, the application.

The process leaves through `os._exit`: no handler, `finally` or buffer of whoever forked it runs twice. Whatever is
raised on the way is reported over the channel as a failure to boot. (Python reseeds `random` in a forked child itself.)
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from palfrey.config.hooks import ServerView, WorkerView, call_hook
from palfrey.errors import EXIT_BOOT, EXIT_ERROR, PalfreyError
from palfrey.master.generations import Generation
from palfrey.master.records import MOLD, place_name
from palfrey.observe.logging import LogSetup
from palfrey.observe.scoreboard import Row, Scoreboard
from palfrey.system.channel import Channel
from palfrey.system.process import drop_privileges, set_title
from palfrey.system.sockets import Listener

ENTRY = "palfrey.workers.worker:main"
"""What a worker runs; its signature is in `work`."""


@dataclass(slots=True)
class Child:
    """One process and its place. `channel` is the arbiter's end; the process itself closes its copy of that."""

    pid: int
    """0 while it is not known."""
    pool: str
    slot: int
    """MOLD for a mold."""
    generation: int
    age: int
    """How many workers had been forked with it."""
    channel: Channel
    index: int
    """Of its row in the scoreboard."""
    row: Row
    excuse: str = "came to nothing"
    """Of a worker that a mold could not fork: why."""

    @property
    def is_mold(self) -> bool:
        return self.slot == MOLD

    @property
    def label(self) -> str:
        return place_name(self.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What the processes of a generation are left by the arbiter."""

    generation: Generation
    listeners: Sequence[Listener]
    scoreboard: Scoreboard
    server: ServerView
    logs: LogSetup
    entry: str


def run(life: Callable[[], int], channel: Channel) -> NoReturn:
    """Live, and end this process with the status that `life` returns."""
    status = EXIT_ERROR
    try:
        status = life()
    except PalfreyError as error:
        status = error.exit_status
        channel.send("failed", reason=str(error), detail=getattr(error, "detail", ""), category="boot")
    except BaseException as error:
        status = EXIT_BOOT
        reason = f"ended with {type(error).__name__}: {error}"
        channel.send("failed", reason=reason, detail=traceback.format_exc(), category="boot")
    finally:
        try:
            flush_stdio()
        finally:
            os._exit(status & 0xFF)


def work(child: Child, channel: Channel, estate: Estate, view: WorkerView, app: Any = None) -> int:
    """A worker's life; its exit status. `app` is the application if a mold has imported it."""
    generation, server, logs = estate.generation, estate.server, estate.logs
    settings = generation.settings
    try:
        set_title(f"palfrey: {child.label} [{settings.proc_name or settings.app}]")
        call_hook(settings, "post_fork", server, view, log=server.log)
        drop_privileges(settings.user, settings.group)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        preloaded = {} if app is None else {"app": app}
        return int(
            by_name(estate.entry)(
                settings=settings,
                environment=generation.environment,
                listeners=estate.listeners,
                channel=channel,
                scoreboard=estate.scoreboard,
                row=child.index,
                pool=child.pool,
                slot=child.slot,
                generation=generation.number,
                age=child.age,
                arbiter_pid=server.pid,
                logs=logs,
                tls=generation.tls,
                **preloaded,
            )
        )
    finally:
        logs.flush()


def by_name(name: str) -> Any:
    """Import what "module:attribute" names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def worker_view(child: Child, generation: Generation, server: ServerView) -> WorkerView:
    """The worker as hooks see it."""
    pid = child.pid or None
    return WorkerView(pid=pid, ppid=server.pid, age=child.age, log=server.log, settings=generation.settings)


def flush_stdio() -> None:
    """Before a fork, else both processes write what is buffered."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None, a closed pipe, a closed stream
            pass
