"""What preload_app saves: the memory of a FastAPI application's processes, and how long a reload takes.

    python -m benchmarks.preload_memory [--workers 4] [--requests 2000] [--app fastapi_site:app]

The server is started without and with preload_app, and asked so many times: memory that workers share when they begin
is not shared for ever, since Python writes to what it only reads (reference counts). /proc/PID/smaps_rollup has two
figures for each process: RSS, what is resident, whoever shares it; and PSS, its share of that, where a page that n
processes share counts as 1/n of one. The sum of PSS is what the machine has less; that of RSS counts shared pages over
and over. USS is what nobody shares. Linux only.
"""

from __future__ import annotations

import argparse
import http.client
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.servers import APPS

PATIENCE = 120.0


@dataclass(frozen=True)
class Size:
    """Of one process, in MB."""

    name: str
    rss: float
    pss: float
    uss: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--app", default="fastapi_site:app", help="a module in benchmarks/apps, or anywhere")
    chosen = parser.parse_args()
    for preload in (False, True):
        with serving(chosen.app, chosen.workers, preload=preload) as server:
            begun = sizes(server.process.pid)
            port = server.port
            for _ in range(chosen.requests):
                ask(port)
            worked = sizes(server.process.pid)
            reload = server.reload()
        print(f"\n{'with' if preload else 'without'} preload_app, {chosen.workers} workers; MB")
        print(f"{'':12}{'RSS':>10}{'PSS':>10}{'USS':>10}{'PSS after ' + str(chosen.requests) + ' requests':>32}")
        for one, later in zip(begun, worked, strict=True):
            print(f"{one.name:12}{one.rss:10.1f}{one.pss:10.1f}{one.uss:10.1f}{later.pss:32.1f}")
        total = [sum(getattr(one, name) for one in begun) for name in ("rss", "pss", "uss")]
        print(f"{'all':12}" + "".join(f"{each:10.1f}" for each in total) + f"{sum(one.pss for one in worked):32.1f}")
        print(f"start {server.took:.2f} s, reload {reload:.2f} s")


class Server:
    def __init__(self, app: str, workers: int, *, preload: bool) -> None:
        begin = time.monotonic()
        arguments = [app, "--app-dir", str(APPS), "--port", "0", "--workers", str(workers), "--no-access-log"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "palfrey", *arguments, *(["--preload"] if preload else [])],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.wait_for(r"Listening on http://.*:(\d+)")[1])
        self.wait_for("Generation 1 serves")
        self.took = time.monotonic() - begin

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(pattern, line)
            if found:
                return found
        raise SystemExit(f"the server ended before it said {pattern!r}")

    def reload(self) -> float:
        """Seconds until all workers are of the new generation."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        self.wait_for("Generation 2 serves")
        return time.monotonic() - begin


@contextmanager
def serving(app: str, workers: int, *, preload: bool) -> Iterator[Server]:
    server = Server(app, workers, preload=preload)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGQUIT)
        server.process.communicate(timeout=PATIENCE)


def ask(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()


def sizes(pid: int) -> list[Size]:
    """Of the server's processes, by name."""
    found = []
    for process in (psutil.Process(pid), *psutil.Process(pid).children()):
        name = re.search(r"palfrey: (\w+(?: \d+)?)", " ".join(process.cmdline()))
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        kib = {key: int(value) for key, value in re.findall(r"(\w+): +(\d+) kB", text)}
        uss = kib["Private_Clean"] + kib["Private_Dirty"]
        found.append(Size(name[1] if name else "?", kib["Rss"] / 1024, kib["Pss"] / 1024, uss / 1024))
    return sorted(found, key=lambda one: one.name)


if __name__ == "__main__":
    main()
