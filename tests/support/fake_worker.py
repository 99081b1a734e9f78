"""Workers that stand in for the real one: they say little, misbehave on demand, and import no event loop.

`main` has the signature of `palfrey.workers.worker:main`; what it does is told by the application's name, which is
never imported: "obeys", "deaf", "mute", "babbles", "raises", "exits", "silent".
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any

from palfrey.system.channel import Channel


def main(*, settings: Any, channel: Channel, generation: int, slot: int, **rest: Any) -> int:
    manner = settings.app
    if manner == "raises":
        raise RuntimeError("no worker at all")
    if manner == "exits":
        raise SystemExit(9)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if manner == "babbles":
        os.write(channel.fileno(), b'what?\n{"kind":"unheard-of"}\n{"kind":7}\n')
    channel.send("ready")
    if manner == "mute":
        channel.close()
    if manner == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(600)
    while True:
        select.select([] if channel.closed else [channel], [], [])
        for message in channel.receive():
            os.write(2, f"fake {slot + 1} of {generation}: {message['kind']}\n".encode())
            if message["kind"] != "reopen":
                return 0
        if channel.closed:
            return 0


def run(patch: str, *arguments: str) -> None:
    """Run an arbiter with fake workers in this process; `patch` is Python that is executed first."""
    import sys

    from palfrey.arbiter import Arbiter
    from palfrey.config.sources import resolve

    exec(patch, {})
    given = {"app": arguments[0], "port": "0", **dict(argument.split("=") for argument in arguments[1:])}

    def load() -> Any:
        return resolve(given, {}, os.getcwd())

    sys.exit(Arbiter(load, load(), entry="tests.support.fake_worker:main").run())


if __name__ == "__main__":
    import sys

    run(*sys.argv[1:])
