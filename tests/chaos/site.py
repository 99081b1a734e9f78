"""The directory that is served: an application of numbered releases, good or broken, and the configuration.

The application is tests/support/loadapp.py under a release number, which its answers show behind the generation
("3/7": generation 3, release 7). Each request that it begins is written to the journal before anything else happens,
"<request id> <pid>": what a server has taken in hand cannot be denied afterwards.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEEP_ALIVE = 3.0
"""Seconds; the clients' think times lie around it."""
TIMEOUT = 8.0
"""Seconds after which the arbiter gives up a stopped worker: more than a busy machine makes a healthy one wait."""
PIECE = 16 << 20
"""Bytes that one request to /hoard makes the application keep."""

_APP = """\
import os, time
{trouble}
from tests.support import loadapp

loadapp.RELEASE = "/{release}"
journal = os.open({journal!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
hoard = []


async def app(scope, receive, send):
    if scope["type"] == "http":
        name = next((value for key, value in scope["headers"] if key == b"x-request-id"), b"-")
        os.write(journal, name + b" %d\\n" % os.getpid())
        if scope["path"] == "/hoard":
            hoard.append(b"x" * {piece})
    {startup}
    await loadapp.app(scope, receive, send)
"""

BREAKAGES: Mapping[str, str] = {
    "a syntax error": "def",
    "a missing module": "import no_module_of_this_name",
    "an exception": "raise RuntimeError('broken on purpose')",
    "an exit": "os._exit(9)",
    "a failing startup": "",
    "a bad setting": "",
}
"""What can be wrong with a release, and the line that makes it so at import."""
HANG = "time.sleep(600)"


@dataclass
class Site:
    """See the module. `settings` are added to the configuration; `extra` is Python at its end."""

    directory: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    extra: str = ""
    release: int = 0
    broken: str = ""
    """What is wrong with the release on disk; "" when nothing is."""
    rotations: int = 0

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    @property
    def access_log(self) -> Path:
        return self.directory / "access.log"

    @property
    def pidfile(self) -> Path:
        return self.directory / "palfrey.pid"

    def write_good(self, slow: float = 0.0) -> int:
        """The next release, which is fit to serve, and takes so many seconds to import; its number."""
        self.release += 1
        self._write(slow=slow)
        return self.release

    def write_broken(self, chance: random.Random, how: str = "") -> str:
        """The next release, which is not; what is wrong with it, by chance unless it is said."""
        self.release += 1
        self._write(how or chance.choice(list(BREAKAGES)))
        return self.broken

    def write_hanging(self) -> None:
        """The next release, whose import does not come to an end."""
        self.release += 1
        self._write("a hanging import")

    def rotate(self) -> None:
        """Renames the access log, as log rotation does."""
        self.rotations += 1
        self.access_log.rename(self.access_log.with_suffix(f".{self.rotations}"))

    def logged(self) -> list[str]:
        """The lines of the access log, rotated ones included."""
        return [line for path in self.directory.glob("access.*") for line in path.read_text().splitlines()]

    def begun(self) -> list[str]:
        """The lines of the journal."""
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def _write(self, broken: str = "", slow: float = 0.0) -> None:
        self.broken = broken
        trouble = HANG if broken == "a hanging import" else BREAKAGES.get(broken, "")
        failing = "if scope['type'] == 'lifespan': raise RuntimeError('no startup, on purpose')"
        text = _APP.format(
            trouble=f"time.sleep({slow})" if slow else trouble,
            release=self.release,
            journal=str(self.journal),
            piece=PIECE,
            startup=failing if broken == "a failing startup" else "",
        )
        _replace(self.directory / "stormy.py", text)
        _replace(self.directory / "palfrey.conf.py", self._configuration(broken))

    def _configuration(self, broken: str) -> str:
        settings: dict[str, object] = {
            "app": "stormy:app",
            "bind": "127.0.0.1:0",
            "timeout": "soon" if broken == "a bad setting" else TIMEOUT,
            "timeout_keep_alive": KEEP_ALIVE,
            "lifespan": "on",
            "accesslog": str(self.access_log),
            "access_log_format": "%({x-request-id}i)s %(s)s %(p)s",
            "pidfile": str(self.pidfile),
            **self.settings,
        }
        return "\n".join([*(f"{name} = {value!r}" for name, value in settings.items()), self.extra])


def _replace(path: Path, text: str) -> None:
    """At one stroke: nobody sees half a file."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)
