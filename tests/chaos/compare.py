"""The same operations on Palfrey and on other servers under the same load, and what each of them loses.

    python -m tests.chaos.compare [--only SERVER] [--rounds N]

Per operation and round: a fresh server of two workers, 32 clients that ask over keep-alive connections without a
pause, a second of peace, the operation, two seconds of peace, the end of the load, the count. A request is

- *lost* when no answer, half of one or a wrong one came, or no connection could be made;
- a *race* when its connection had served before, was closed without a byte of an answer, and the application had never
  seen the request: what HTTP/1.1 allows (RFC 9112 section 9.3.1). A client may send it again if the method allows it,
  and these clients do; one that does not has lost it all the same.

The slowest answer is named as well: a server can keep a request waiting rather than lose it.

Requests inside a worker that is killed are counted apart: they are the kill's, not the server's.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from tests.chaos.contestants import CONTESTANTS, Contestant
from tests.chaos.site import ROOT, Site
from tests.chaos.subject import adopt_orphans, leftovers
from tests.support.graves import Graves, connections
from tests.support.loadclient import Options
from tests.support.loadresult import Behaviour, Outcome, Result
from tests.support.loadthread import BackgroundLoad
from tests.support.processes import clean_environment

CLIENTS = 32
WORKERS = 2
HUPS = 6
PEACE = 1.0
"""Seconds before an operation."""
AFTER = 2.0
SLOW = 5.0
"""Seconds of an import."""
PATIENCE = 30.0
"""Seconds for an operation's effect to be seen; a server that does not show it is said not to."""
CLIENT_PATIENCE = 10.0
ANSWERS = 20
MIXED = (Behaviour.GET, Behaviour.FRESH, Behaviour.ECHO, Behaviour.STREAM)
Found = TypeVar("Found")


class NotSeen(Exception):
    """The operation had no effect that could be seen."""


@dataclass
class Trial:
    """One server under load."""

    contestant: Contestant
    site: Site
    port: int
    graves: Graves = field(default_factory=Graves)
    workers: int = WORKERS
    master: int = 0
    load: BackgroundLoad = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)
    note: str = ""

    @property
    def directory(self) -> Path:
        return self.site.directory

    def until(self, look: Callable[[], Found | None], what: str = "its effect") -> Found:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                if found := look():
                    return found
            if time.monotonic() > deadline:
                raise NotSeen(f"{what} was not seen in {PATIENCE:g} s")
            time.sleep(0.02)

    def ended(self, pid: int) -> bool:
        if pid == self.process.pid:
            return self.process.poll() is not None
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def serving(self) -> list[int]:
        """The processes below the master that answered in the last second."""
        result = self.load.result
        now = time.monotonic() - result.began
        seen = list(result.pids.items())
        return [pid for pid, when in seen if now - when.last < 1.0 and psutil.pid_exists(pid)]

    def below(self) -> int:
        """How many processes the master has."""
        return len(psutil.Process(self.master).children(recursive=True))

    def wait_for_release(self, release: int) -> None:
        """Until it, and nothing else, answers."""
        label = f"/{release}"

        def alone() -> bool:
            result = self.load.result
            now = time.monotonic() - result.began
            seen = dict(list(result.generations.items()))
            new = sum(one.answers for name, one in seen.items() if name.endswith(label))
            others = [one for name, one in seen.items() if not name.endswith(label) and now - one.last < 0.5]
            return new >= ANSWERS and not others

        self.until(alone, f"release {release} alone")


# The operations. Each returns when its effect is there.


def six_hups(trial: Trial) -> None:
    for _ in range(HUPS):
        release = trial.site.write_good()
        os.kill(trial.master, signal.SIGHUP)
        trial.wait_for_release(release)


def up_and_down(trial: Trial) -> None:
    base = trial.below()
    for number in (1, 2):
        os.kill(trial.master, signal.SIGTTIN)
        trial.until(lambda number=number: trial.below() == base + number, "one worker more")  # type: ignore[misc]
        time.sleep(1.0)
    for number in (1, 0):
        os.kill(trial.master, signal.SIGTTOU)
        trial.until(lambda number=number: trial.below() == base + number, "one worker fewer")  # type: ignore[misc]


def upgrade(trial: Trial) -> None:
    assert trial.contestant.upgrade is not None
    release = trial.site.write_good()
    trial.contestant.upgrade(trial)
    trial.wait_for_release(release)


def slow_import(trial: Trial) -> None:
    """One worker, and a release that takes SLOW seconds to import."""
    before = trial.load.result.latency(100)
    release = trial.site.write_good(SLOW)
    os.kill(trial.master, signal.SIGHUP)
    trial.wait_for_release(release)
    trial.note = f"before it {before:.2f} s"


def bad_deployment(trial: Trial) -> None:
    """A HUP while the application on disk cannot be imported, five seconds of it, and another HUP when it can."""
    trial.site.write_broken(random.Random(0), "an exception")
    os.kill(trial.master, signal.SIGHUP)
    time.sleep(5.0)
    answered = trial.load.result.count(Outcome.OK)
    time.sleep(1.0)
    serves = trial.load.result.count(Outcome.OK) > answered
    release = trial.site.write_good()
    if trial.ended(trial.master):
        trial.note = "**it ended**"
        return
    os.kill(trial.master, signal.SIGHUP)
    trial.wait_for_release(release)
    trial.note = "served on" if serves else "served nothing until it was mended"


def killed_worker(trial: Trial) -> None:
    """The worker with the most connections, until another process is there in its place."""
    victim = max(trial.until(trial.serving), key=lambda pid: len(connections(pid)))
    before = {child.pid for child in psutil.Process(trial.master).children(recursive=True)}
    if trial.graves.bury(victim):
        os.kill(victim, signal.SIGKILL)
    trial.until(
        lambda: {child.pid for child in psutil.Process(trial.master).children(recursive=True)} - before,
        "a process in the place of the killed one",
    )
    time.sleep(AFTER)


def recycling(trial: Trial) -> None:
    """Until six workers have been replaced after REQUESTS requests."""
    trial.until(lambda: len(trial.load.result.pids) >= WORKERS + 6, "six recycled workers")


@dataclass(frozen=True)
class Operation:
    name: str
    do: Callable[[Trial], None]
    offered: Callable[[Contestant], bool] = lambda _: True
    workers: int = WORKERS
    recycles: bool = False
    mixed: bool = False
    """Whether streams, uploads and short connections are among the clients."""


OPERATIONS = (
    Operation("six HUPs, each awaited", six_hups),
    Operation("the same, with streams, uploads and short connections", six_hups, mixed=True),
    Operation("TTIN, TTIN, TTOU, TTOU", up_and_down, lambda one: one.scales),
    Operation("USR2", upgrade, lambda one: one.upgrade is not None),
    Operation("HUP with an application that raises at import", bad_deployment),
    Operation(f"HUP with one worker and an import of {SLOW:g} s", slow_import, lambda one: one.reloads_one, workers=1),
    Operation("SIGKILL of a worker", killed_worker),
    Operation("max_requests = 300, six recycled workers", recycling, lambda one: bool(one.recycle), recycles=True),
)


@dataclass
class Count:
    """Of one operation on one server, all rounds together."""

    asked: int = 0
    lost: int = 0
    races: int = 0
    refused: int = 0
    """Of the lost: connections that nobody took, after the server had ended or while nobody listened."""
    inside: int = 0
    slowest: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, result: Result, begun: set[str], note: str) -> None:
        raced = [name for name, became in result.ledger.items() if became is Outcome.IDLE_CLOSE]
        self.asked += result.issued
        self.races += sum(1 for name in raced if name not in begun)
        self.lost += result.failed + result.violations + sum(1 for name in raced if name in begun)
        self.inside += result.count(Outcome.KILLED)
        self.refused += result.count(Outcome.REFUSED)
        self.slowest = max(self.slowest, result.latency(100))
        if note:
            self.notes.append(note)

    def __str__(self) -> str:
        notes = "; ".join(dict.fromkeys(self.notes))
        lost = f"{self.lost - self.refused} lost" + (f" and {self.refused:,} refused" if self.refused else "")
        text = f"{lost}, {self.races} races of {self.asked:,}; slowest {self.slowest:.2f} s"
        text += f"; {self.inside} inside the killed" if self.inside else ""
        return text + (f"; {notes}" if notes else "")


def attempt(contestant: Contestant, operation: Operation, count: Count, seed: int) -> str:
    """One round; adds to the count and gives the server's output."""
    with tempfile.TemporaryDirectory(prefix="palfrey-compare-") as directory:
        site = Site(Path(directory))
        site.write_good()
        trial = Trial(contestant, site, free_port(), workers=operation.workers)
        extra = list(contestant.recycle) if operation.recycles else []
        log = Path(directory, "output")
        with log.open("wb") as output:
            trial.process = subprocess.Popen(
                contestant.command(trial.port, operation.workers) + extra,
                cwd=directory,
                env={**clean_environment(), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _under_load(trial, operation, count, seed)
            trial.note = ""
        finally:
            _end(trial)
        return log.read_text(errors="replace")


def _under_load(trial: Trial, operation: Operation, count: Count, seed: int) -> None:
    trial.master = trial.process.pid
    trial.until(lambda: _answers(trial.port), "an answer")
    options = Options(
        port=trial.port,
        clients=CLIENTS,
        seconds=300,
        mix=MIXED if operation.mixed else (Behaviour.GET,),
        brisk=1.0,
        brisk_seconds=0.05 if operation.mixed else 0.0,
        keep_alive=2.0,
        timeout=CLIENT_PATIENCE,
        one_process=True,
        graves=trial.graves,
        seed=seed,
    )
    with BackgroundLoad(options) as trial.load:
        trial.until(lambda: trial.load.result.count(Outcome.OK) > 2 * CLIENTS, "answers")
        time.sleep(PEACE)
        try:
            operation.do(trial)
        except NotSeen as error:
            trial.note = str(error)
        time.sleep(AFTER)
        result = trial.load.stop()
    count.add(result, {line.split()[0] for line in trial.site.begun()}, trial.note)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/id", headers={"X-Request-Id": "-", "Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(trial: Trial) -> None:
    """TERM, and what is left of its session after a while is killed: it is all ours."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(trial.master, signal.SIGTERM)
    pids = leftovers(trial.process.pid)
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    with contextlib.suppress(subprocess.TimeoutExpired):
        trial.process.wait(10)
    psutil.wait_procs(processes, timeout=10)
    for pid in leftovers(trial.process.pid):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    trial.process.wait()


def table(counts: dict[tuple[str, str], Count | None], names: Sequence[str]) -> str:
    """Markdown: an operation a row, a server a column."""
    titles = [f"{CONTESTANTS[name].title} {importlib.metadata.version(CONTESTANTS[name].package)}" for name in names]
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(names)}"]
    for operation in OPERATIONS:
        cells = [str(counts.get((operation.name, name)) or "not offered") for name in names]
        lines.append(f"| {operation.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="these servers; repeatable")
    parser.add_argument("--operation", action="append", type=int, help="these rows, from 1; repeatable")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", action="store_true", help="show what the servers say")
    given = parser.parse_args(arguments)
    adopt_orphans()
    names = given.only or list(CONTESTANTS)
    counts: dict[tuple[str, str], Count | None] = {}
    for number, operation in enumerate(OPERATIONS, 1):
        if given.operation and number not in given.operation:
            continue
        for name in names:
            contestant = CONTESTANTS[name]
            if not operation.offered(contestant):
                continue
            count = counts[operation.name, name] = Count()
            for turn in range(given.rounds):
                output = attempt(contestant, operation, count, turn)
                if given.output:
                    print(output, flush=True)
            print(f"{operation.name}: {contestant.title}: {count}", flush=True)
    print(table(counts, names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
