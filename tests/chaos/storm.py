"""One storm: a server under load, acts in an order that the seed decides, calm, and the account.

The load is never told what is done to the server. What a seed repeats is what is asked and what is done, in order;
which request meets which act is up to the machine.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from palfrey.config.settings import ROWS
from tests.chaos.acts import ACTS, ANSWERS, fewer, more, reload
from tests.chaos.audit import compare_books, read_log
from tests.chaos.sabotage import SABOTAGES
from tests.chaos.site import KEEP_ALIVE, Site
from tests.chaos.subject import Holding, NothingHappened, Subject
from tests.support.graves import Graves
from tests.support.loadclient import Options as LoadOptions
from tests.support.loadresult import Behaviour, Outcome, Result
from tests.support.loadthread import BackgroundLoad

MIX = (
    *[Behaviour.GET] * 4,
    *[Behaviour.FRESH] * 3,
    *[Behaviour.PIPELINE] * 2,
    *[Behaviour.TRICKLE] * 2,
    *[Behaviour.ECHO] * 2,
    *[Behaviour.STREAM] * 2,
    Behaviour.HALF_CLOSE,
)
CLIENT_PATIENCE = 60.0
"""Seconds that a client waits for an answer: to be late is the machine's right, to answer is the server's duty."""
BRISK = 0.95
"""Share of thoughts that are short: some hundred requests a second, and idle connections all the same."""
RACE_WINDOW = 0.25
KEPT = 0.5
"""Seconds that a connection may be closed before its keep-alive time is over, as the client measures it: the server's
clock for it begins when it has written the answer, the client's when it has read it."""
RACES = 0.005
"""Share of requests that may meet the closing of an idle connection."""
LAST_ANSWERS = 200
"""Before the server is stopped."""
REST = 5.0
"""Seconds that the arbiter has to let go of what belonged to workers that have just ended."""
GROWTH = 1 << 20
"""Bytes by which the arbiter may have grown."""
MAX_REQUESTS = (400, 200)
"""Requests after which a worker is replaced, and the jitter."""
MAX_MEMORY = 100 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One storm."""

    seconds: float = 300.0
    seed: int = 0
    workers: int = 4
    clients: int = 48
    acts: Sequence[str] = ()
    """Names; empty: all that this Palfrey can."""
    sabotage: str = ""
    arguments: Sequence[str] = ()
    """Further words for Palfrey's command line."""


@dataclass
class Account:
    """What a storm found."""

    result: Result
    graves: Graves
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    last: Result = field(default_factory=Result)
    """Of the load that the server was stopped under."""
    before: Holding | None = None
    after: Holding | None = None
    replaced: Counter[str] = field(default_factory=Counter)
    """Why workers asked to be replaced."""
    output: str = ""


class Storm:
    """See the module. Acts use what is public here."""

    def __init__(self, options: Options, directory: Path, say: Callable[[str], object] = print) -> None:
        self.options = options
        self.chance = random.Random(options.seed)
        settings: dict[str, object] = {"workers": options.workers}
        settings |= dict(zip(("max_requests", "max_requests_jitter"), MAX_REQUESTS, strict=True))
        if "max_memory" in ROWS:
            settings["max_memory"] = MAX_MEMORY
        self.site = Site(directory, settings, SABOTAGES[options.sabotage] if options.sabotage else "")
        self.graves = Graves()
        self.target = options.workers
        """How many workers are wanted."""
        self.subject: Subject
        self._load: BackgroundLoad
        self._say = say
        self._began = time.monotonic()

    def run(self) -> Account:
        """The whole storm. What went wrong is in the account; raises only when the server does not even start."""
        self.site.write_good()
        self.subject = Subject(self.site, *self.options.arguments)
        with self.subject:
            self.subject.line("Generation 1 serves with", 0)
            self._load = BackgroundLoad(self._load_options())
            before = self.subject.holding()
            with self._load:
                account = Account(self._load.result, self.graves, before=before)
                self.wait_for_release(self.site.release)
                self._guarded(account, self._rage)
                self._guarded(account, self._mend)
                self._say(f"{self._clock()}  calm: the last answers are waited for")
                account.result = self._load.stop()
            self._guarded(account, self._calm)
            account.output = self.subject.output
            self._guarded(account, self._end)
        account.output = self.subject.output
        account.problems += self._judge(account)
        return account

    def _load_options(self, **more: Any) -> LoadOptions:
        options = LoadOptions(
            port=self.subject.port,
            clients=self.options.clients,
            seconds=self.options.seconds + 600,
            mix=MIX,
            keep_alive=KEEP_ALIVE,
            brisk=BRISK,
            timeout=CLIENT_PATIENCE,
            race_window=RACE_WINDOW,
            idle_close_after=KEEP_ALIVE - KEPT,
            one_process=True,
            graves=self.graves,
            seed=self.options.seed,
        )
        return replace(options, **more)

    # The storm itself

    def _rage(self, account: Account) -> None:
        deadline = self._began + self.options.seconds
        for name in self._deck():
            time.sleep(self.chance.uniform(0, 1.0))
            if time.monotonic() > deadline:
                return
            began = time.monotonic()
            try:
                said = ACTS[name].do(self)
            except NothingHappened as error:
                account.problems.append(f"{name}: {error}")
                said = f"FAILED: {error}"
            account.done[name] += 1
            result = self._load.result
            self._say(
                f"{self._clock()}  {name}: {said} ({time.monotonic() - began:.1f} s); "
                f"{result.issued} requests, {result.failed + result.violations} lost or wrong, "
                f"{result.count(Outcome.KILLED)} inside the killed"
            )

    def _deck(self) -> Iterator[str]:
        """All acts, each as often as its row says, shuffled; and again."""
        names = self.options.acts or [name for name, act in ACTS.items() if act.possible()]
        while True:
            deck = [name for name in names for _ in range(ACTS[name].times)]
            self.chance.shuffle(deck)
            yield from deck

    def _mend(self, account: Account) -> None:
        """A release that is fit to serve."""
        if self.site.broken:
            reload(self)

    def _calm(self, account: Account) -> None:
        """As at the start: the same number of workers, nobody who drains."""
        while self.target != self.options.workers:
            (more if self.target < self.options.workers else fewer)(self)
        self.subject.until(self._is_calm, f"calm with {self.options.workers} workers")
        account.after = self._at_rest(account.before)
        if zombies := self.subject.zombies():
            account.problems.append(f"zombies of the arbiter: {zombies}")
        if orphans := self.subject.orphans():
            account.problems.append(f"orphans: {orphans}")

    def _is_calm(self) -> bool:
        present = self.subject.present()
        serving = sorted(present) == self.subject.serving()
        return len(present) == self.options.workers and serving and not self.subject.zombies()

    def _at_rest(self, before: Holding | None) -> Holding:
        """What the arbiter holds, once it has done with those that have just ended."""
        deadline = time.monotonic() + REST
        while True:
            after = self.subject.holding()
            if before is None or after.descriptors == before.descriptors or time.monotonic() > deadline:
                return after
            time.sleep(0.05)

    def _end(self, account: Account) -> None:
        """TERM under load: what is accepted or queued by then is answered, and what comes later is refused."""
        with BackgroundLoad(self._load_options(seed=-1 - self.options.seed, until_refused=True)) as load:
            account.last = load.result
            self.subject.until(lambda: load.result.count(Outcome.OK) > LAST_ANSWERS, "answers before the end")
            status = self.subject.end()
            load.stop()
        if status:
            account.problems.append(f"the server ended with status {status}")
        if left := self.subject.left_behind():
            account.problems.append(f"processes left behind: {left}")

    def _guarded(self, account: Account, step: Callable[[Account], None]) -> None:
        try:
            step(account)
        except (AssertionError, OSError, psutil.Error) as error:
            account.problems.append(f"{type(error).__name__}: {error}")

    # The account

    def _judge(self, account: Account) -> Iterator[str]:
        result, dead = account.result, set(self.graves.pids)
        if not result.clean:
            yield f"{result.failed} requests and {result.violations} connections went wrong"
        if result.unaccounted:
            yield f"{result.unaccounted} requests without an outcome: the client's own fault"
        races = result.count(Outcome.IDLE_CLOSE)
        if races > max(2, result.issued * RACES):
            yield f"{races} of {result.issued} requests met the closing of an idle connection"
        if not account.last.clean:
            yield f"{account.last.failed + account.last.violations} requests and connections went wrong at the stop"
        yield from compare_books(result.ledger | account.last.ledger, self.site.begun(), self.site.logged(), dead)
        yield from read_log(account.output.splitlines(), dead)
        yield from self._left_over(account)
        account.replaced = Counter(
            line.rpartition("(")[2].rstrip(")") for line in account.output.splitlines() if "asks to be replaced" in line
        )

    def _left_over(self, account: Account) -> Iterable[str]:
        if account.before is not None and account.after is not None:
            if account.after.descriptors != account.before.descriptors:
                new, gone = account.after.kinds - account.before.kinds, account.before.kinds - account.after.kinds
                what = f"{dict(new)} more, {dict(gone)} fewer"
                yield f"the arbiter has not the descriptors it had: {account.before}, {account.after} now: {what}"
            if account.after.resident - account.before.resident > GROWTH:
                yield f"the arbiter has grown: {account.before} before, {account.after} after"

    # For the acts

    def mark(self) -> int:
        """How many lines the log has now."""
        self.subject.hear()
        return len(self.subject.lines)

    def victim(self) -> int | None:
        """A worker that can be done without."""
        serving = self.subject.serving()
        needed = 1 if self.site.broken else 0
        return self.chance.choice(serving) if len(serving) > needed else None

    def wait_for_workers(self) -> None:
        """Until as many serve as are wanted, unless they cannot."""
        if not self.site.broken:
            self.subject.until(lambda: len(self.subject.serving()) >= self.target, f"{self.target} serving workers")

    def wait_for_release(self, release: int) -> list[str]:
        """Until it has answered often enough; the generations that it answered as."""

        def answered() -> list[str]:
            seen = list(self._load.result.generations.items())
            return [
                label.partition("/")[0]
                for label, answers in seen
                if label.endswith(f"/{release}") and answers.answers >= ANSWERS
            ]

        return self.subject.until(answered, f"answers of release {release}")

    def taken(self, release: int, since: int) -> str:
        """Until the release is in place."""

        def in_place() -> str | None:
            generations = self.wait_for_release(release)
            wanted = [f"Generation {number} serves with" for number in generations]
            lines = self.subject.lines[since:]
            return next((number for number, text in zip(generations, wanted, strict=True) if _any(text, lines)), None)

        def refused() -> str | None:
            return "refused" if _any("Reload refused", self.subject.lines[since:]) else None

        def answered() -> str | None:
            labels = list(self._load.result.generations)
            return "answered" if any(label.endswith(f"/{release}") for label in labels) else None

        if self.subject.until(lambda: answered() or refused(), f"answers of release {release}") == "refused":
            raise NothingHappened(f"release {release} was refused, and is fit to serve")
        return f"generation {self.subject.until(in_place, f'release {release} in place')} serves release {release}"

    def other_arbiter(self, before: int) -> int | None:
        try:
            arbiter = self.subject.arbiter
        except (OSError, ValueError):  # in between
            return None
        return arbiter if arbiter != before else None

    def gone(self, pid: int) -> bool:
        """Whether a process has ended; one of our own children is waited for."""
        if pid == self.subject.pid:
            return self.subject.exited()
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return not psutil.pid_exists(pid)

    def _clock(self) -> str:
        return f"{time.monotonic() - self._began:7.1f} s"


def _any(text: str, lines: Sequence[str]) -> bool:
    return any(text in line for line in lines)


def run(options: Options, say: Callable[[str], object] = print) -> Account:
    """A storm in a directory of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix="palfrey-chaos-") as directory:
        return Storm(options, Path(directory), say).run()
