"""The command line: `scripts/autobahn --help`."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.autobahn import results, suite
from tests.autobahn.contestants import CONTESTANTS, ROOT, running, title

RESULTS = Path(__file__).parent / "results.json"
DOCUMENT = ROOT / "docs" / "conformance.md"
NO_PYTHON_2 = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0: everything that was run is OK, or informational. 1: not so, or a server or the suite failed. 2: there is no
    Python 2.7 here."""
    parser = argparse.ArgumentParser(
        prog="scripts/autobahn",
        description="Autobahn's WebSocket test suite as a client of Palfrey, or of others beside it.",
        epilog="All 517 cases take about half an hour a server, nearly all of it 12.* and 13.*, and the suite's own.",
    )
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"{', '.join(CONTESTANTS)}; default: palfrey")
    parser.add_argument("--cases", action="append", help='such as 9.* or 7.1.5; repeatable (default: "*", all)')
    parser.add_argument("--minutes", type=float, default=60.0, help="to give up after, each server (%(default)g)")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "autobahn", help="%(default)s")
    parser.add_argument("--keep", action="store_true", help="put the results into docs/conformance.md")
    given = parser.parse_args(arguments)
    servers = given.servers or ["palfrey"]
    if unknown := set(servers) - set(CONTESTANTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; known are {', '.join(CONTESTANTS)}")
    try:
        python = suite.python2(os.environ)
    except suite.NotHere as error:
        print(error, file=sys.stderr)
        return NO_PYTHON_2
    site = given.directory / "site"
    print(f"autobahn: with {python}, in {given.directory}", flush=True)
    given.directory.mkdir(parents=True, exist_ok=True)
    suite.prepare(python, site)
    found = {}
    for name in servers:
        try:
            found[name] = test(name, python, site, given.directory / name, given.cases or ["*"], given.minutes)
        except RuntimeError as error:
            print(f"autobahn: {name}: {error}", file=sys.stderr)
    print(results.table([*found.values()]))
    print(results.notes([*found.values()]))
    if given.keep:
        kept = results.load(RESULTS) | found
        kept = {name: kept[name] for name in CONTESTANTS if name in kept}
        results.save(RESULTS, kept)
        results.write(DOCUMENT, [*kept.values()])
        print(f"autobahn: {DOCUMENT.relative_to(ROOT)} is up to date")
    return 0 if len(found) == len(servers) and all(result.clean for result in found.values()) else 1


def test(name: str, python: str, site: Path, work: Path, cases: Sequence[str], minutes: float) -> results.Result:
    work.mkdir(parents=True, exist_ok=True)
    print(f"autobahn: {title(name)} ...", flush=True)
    with running(name, work / "server.log") as port:
        index = suite.run(python, site, work, port, cases, minutes)
    return results.judge(title(name), datetime.date.today().isoformat(), index)


if __name__ == "__main__":
    sys.exit(main())
