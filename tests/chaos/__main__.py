"""The command line: `scripts/chaos --help`."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence

from tests.chaos.acts import ACTS
from tests.chaos.sabotage import SABOTAGES
from tests.chaos.storm import Account, Options, run
from tests.support.loadresult import Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every request is accounted for and nothing is left behind. 1: not so."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description="A storm of signals over Palfrey under load; every request is accounted for."
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="how long it rages (%(default)s)")
    parser.add_argument("--seed", type=int, help="what is asked and done, in which order (random)")
    parser.add_argument("--workers", type=int, default=4, help="%(default)s")
    parser.add_argument("--clients", type=int, default=48, help="%(default)s")
    parser.add_argument("--act", action="append", default=[], choices=list(ACTS), help="only these; repeatable")
    parser.add_argument("--sabotage", default="", choices=list(SABOTAGES), help="a fault that has to be found")
    parser.add_argument("--log", action="store_true", help="show the server's log at the end, whatever came of it")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="further words for palfrey's command line")
    given = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    options = Options(
        seconds=given.seconds,
        seed=seed,
        workers=given.workers,
        clients=given.clients,
        acts=given.act,
        sabotage=given.sabotage,
        arguments=given.arguments,
    )
    print(f"seed {seed}; to repeat: {repetition(options)}", flush=True)
    account = run(options, lambda text: print(text, flush=True))
    print(summary(account))
    if account.problems or given.log:
        print(f"\nThe server's log:\n{account.output}")
    if account.problems:
        print(f"\n{len(account.problems)} problems, see above; to repeat: {repetition(options)}", file=sys.stderr)
    return 1 if account.problems else 0


def repetition(options: Options) -> str:
    words = ["scripts/chaos", "--seed", options.seed, "--seconds", f"{options.seconds:g}"]
    words += ["--workers", options.workers, "--clients", options.clients]
    words += [word for name in options.acts for word in ("--act", f'"{name}"')]
    words += ["--sabotage", options.sabotage] if options.sabotage else []
    words += ["--", *options.arguments] if options.arguments else []
    return " ".join(str(word) for word in words)


def summary(account: Account) -> str:
    """The account, for people."""
    result = account.result
    lines = ["", f"acts: {', '.join(f'{count} x {name}' for name, count in account.done.items()) or 'none'}"]
    lines.append(
        f"replaced by their own wish: {', '.join(f'{n} for {why}' for why, n in account.replaced.items()) or 'none'}"
    )
    lines.append(str(result))
    graves = account.graves.pids
    lines.append(
        f"killed workers: {len(graves)}, with {sum(graves.values())} connections; requests inside: "
        f"{result.count(Outcome.KILLED)}; idle-close races: {result.count(Outcome.IDLE_CLOSE)}"
    )
    lines += [f"  race {race}" for race in result.races[:20]]
    last = account.last
    lines.append(
        f"stop under load: {last.count(Outcome.OK)} answered, {last.count(Outcome.NOBODY)} refused after the end, "
        f"{last.count(Outcome.IDLE_CLOSE)} idle-close races, {last.failed + last.violations} lost or wrong"
    )
    lines += [f"  {failure}" for failure in last.failures[:20]]
    if account.before is not None and account.after is not None:
        lines.append(f"arbiter: {account.before} before, {account.after} after")
    lines += [f"PROBLEM: {problem}" for problem in account.problems]
    lines.append("NOT CLEAN" if account.problems else "clean: every request is accounted for, nothing is left behind")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
