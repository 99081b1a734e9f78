"""docs/benchmarks.md and its figures, from the newest run under each Python."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import plot
from benchmarks.figures import DISTURBED, figure, ratio, servers_of
from benchmarks.scenarios import GROUPS, SCENARIOS
from benchmarks.servers import CONTESTANTS
from benchmarks.targets import TARGETS, Verdict

if TYPE_CHECKING:
    from benchmarks.figures import Figure
    from benchmarks.results import Run

DOCS = Path(__file__).parents[1] / "docs"
FINDINGS = Path(__file__).with_name("findings.md")
"""Where the time goes, written by hand."""
MARKS = {
    Verdict.MET: "met",
    Verdict.MISSED: "**missed**",
    Verdict.UNDECIDED: "undecided",
    Verdict.UNKNOWN: "not measured",
}

INTRODUCTION = """\
# Benchmarks

<!-- Written by `scripts/bench report` from benchmarks/results. Do not edit. -->

Palfrey against other servers under load ({titles}).
Only the ratios carry from one machine to the next.

How it is measured. One worker process of each server with its defaults, pinned with all its threads to one core; wrk
with one thread on another core, over {connections} connections; for WebSockets a load generator in C, made for it
(`benchmarks/wsload.c`), with one message in flight a connection, each of them compared byte for byte; for HTTP/2
h2load with one thread, which is told as many requests as a round takes, over 8 connections with 16 streams at a time
and over 64 with one. There Palfrey's HTTP/1.1 is what wrk has of it without HTTP/2, over {connections} connections.
Rounds of {seconds} s alternate between the servers, each in a fresh process after a second of warm-up, and their
order turns. The figures are medians of {rounds} rounds; in brackets are the lowest and the highest. Before each round
the server's answer is compared with what the scenario says it must be. Errors (refused, cut, timed out, any status
that is not 2xx or 3xx, a wrong message) are counted and shown; with the access log on, the lines of each server's log
are counted against its responses. Floors show what there is to be had: a uvloop protocol that answers every read with
a constant (`benchmarks/floor.py`), nginx with `return 200` or a file, and picows, a WebSocket server in C that runs
no ASGI application (`benchmarks/websocket_floor.py`). uvicorn runs with uvloop, httptools and, for WebSockets,
websockets-sansio, hypercorn with uvloop, granian with its ASGI interface on uvloop and one version of HTTP, Gunicorn
with `-k asgi` (for WSGI `-k gthread`) and, for HTTP/2, `--http-protocols h2,h1`, on cleartext by prior knowledge; the
commands are in `benchmarks/servers.py`. "µs" is processor time a response, of the server's whole process tree.

To repeat it: `scripts/bench all --rounds 5 --seconds 3`, then `scripts/bench report`. `PALFREY_VENV` names the
environment, and by that the Python. Every round is kept in `benchmarks/results`.
"""

SHARED = """\
**The machine was shared while this was measured**: in {rounds:.0%} of all rounds other processes took more than a
tenth of the server's core (the median over all rounds was {median:.0%}). Alternation has them disturb all servers
alike, but only roughly, and nothing keeps them from the load's core. Where the column "by processor time" (the ratio
of the processor time that a response costs) tells another story than the rates, it is the steadier of the two; a target
that only one of the two meets is called undecided.
"""


def write(runs: dict[str, Run], docs: Path = DOCS) -> list[Path]:
    """Writes the page and the figures; gives their paths."""
    written = []
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    latest = list(runs.values())[-1]
    pictures = []
    for group, title in GROUPS.items():
        blocks = _blocks(latest, group)
        if blocks:
            path = folder / f"{group}.svg"
            foot = f"Ratio to Palfrey, and responses/s; lines span the rounds; floors in grey. Python {latest.python}"
            path.write_text(plot.figure(title, foot, blocks))
            pictures.append(f"![{title}](benchmarks/{group}.svg)\n")
            written.append(path)
    page = docs / "benchmarks.md"
    page.write_text(
        "\n".join([_introduction(runs), _targets(runs), FINDINGS.read_text(), *pictures, *map(_details, runs.values())])
    )
    return [page, *written]


def _introduction(runs: dict[str, Run]) -> str:
    latest = list(runs.values())[-1]
    present = dict.fromkeys(each.server for run in runs.values() for each in run.rounds)
    titles = "; ".join(
        CONTESTANTS[name].title for name in present if name in CONTESTANTS and not name.startswith("palfrey")
    )
    counts = sorted({sum(1 for _ in run.of(s, "palfrey")) for run in runs.values() for s in SCENARIOS} - {0})
    text = INTRODUCTION.format(
        titles=titles,
        connections=latest.connections,
        seconds=latest.seconds,
        rounds=" to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else 0,
    )
    shares = [each.others for run in runs.values() for each in run.rounds]
    disturbed = sum(share > DISTURBED for share in shares) / max(1, len(shares))
    if disturbed > 0.02:
        text += "\n" + SHARED.format(rounds=disturbed, median=statistics.median(shares))
    return text


def _targets(runs: dict[str, Run]) -> str:
    heads = [f"Python {version}" for version in runs]
    lines = ["## Targets", "", _row("scenario", "target", *heads), _row("---", "---", *("---" for _ in heads))]
    for target in TARGETS:
        cells = []
        for run in runs.values():
            verdict, measured = target.judge(run)
            cells.append(f"{MARKS[verdict]}: {measured}" if measured else MARKS[verdict])
        lines.append(_row(target.title, target.says, *cells))
    return "\n".join([*lines, ""])


def _blocks(run: Run, group: str) -> list[plot.Block]:
    blocks = []
    for scenario in SCENARIOS.values():
        if scenario.group != group:
            continue
        bars = []
        for name in servers_of(run, scenario.name):
            found = figure(run.of(scenario.name, name))
            if found is None:
                continue
            row = CONTESTANTS[name]
            note = f", {found.errors} errors" if found.errors else ""
            bars.append(
                plot.Bar(
                    row.title, found.rate, found.low, found.high, ours=name == "palfrey", floor=row.floor, note=note
                )
            )
        if bars:
            blocks.append(plot.Block(scenario.title, tuple(bars)))
    return blocks


def _details(run: Run) -> str:
    lines = [f"## Python {run.python}", "", f"{run.started[:16].replace('T', ' ')} UTC. {', '.join(_facts(run))}.", ""]
    for scenario in SCENARIOS.values():
        names = servers_of(run, scenario.name)
        if not names:
            continue
        lines += [f"### {scenario.title}", ""]
        lines.append(
            _row("server", "responses/s", "Palfrey's over it", "by processor time", "p99 ms", "µs", "errors", "")
        )
        lines.append(_row("---", "---:", "---:", "---:", "---:", "---:", "---:", "---"))
        ours = run.of(scenario.name, "palfrey")
        for name in names:
            rounds = run.of(scenario.name, name)
            found, compared = figure(rounds), ratio(ours, rounds)
            if found is None:
                continue
            over = f"{compared.value:.2f} ({compared.low:.2f} to {compared.high:.2f})" if compared else ""
            by_cpu = f"{compared.by_cpu:.2f}" if compared else ""
            lines.append(_server(CONTESTANTS[name].title, found, over if name != "palfrey" else "", by_cpu))
        lines.append("")
    lines += _idle(run)
    return "\n".join(lines)


def _server(title: str, found: Figure, over: str, by_cpu: str) -> str:
    rate = f"{found.rate:,.0f} ({found.low:,.0f} to {found.high:,.0f})"
    notes = "; ".join(found.flags)
    return _row(
        title, rate, over, by_cpu if over else "", f"{found.p99:.2f}", f"{found.cpu:.1f}", str(found.errors), notes
    )


def _idle(run: Run) -> list[str]:
    if not run.idle:
        return []
    lines = [
        "### Memory of an idle keep-alive connection",
        "",
        _row("server", "KB", "KB over TLS", "KB of a WebSocket"),
        _row("---", "---:", "---:", "---:"),
    ]
    for name, kinds in run.idle.items():
        cells = [f"{kinds[kind] / 1024:.1f}" if kind in kinds else "" for kind in ("plain", "tls", "websocket")]
        lines.append(_row(CONTESTANTS[name].title if name in CONTESTANTS else name, *cells))
    return [*lines, ""]


def _facts(run: Run) -> list[str]:
    cores = run.machine.get("cores", "?")
    machine = [
        f"{run.machine.get('processor', '?')} ({cores} cores)",
        run.machine.get("system", ""),
        run.machine["python"],
    ]
    return [*filter(None, machine), *(f"{name} {number}" for name, number in run.versions.items() if number)]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
