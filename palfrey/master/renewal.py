"""Certificates that are renewed while the service runs: when to look at their files, and whether what is there is fit.

For `ssl_reload_interval`. The arbiter asks at each turn of its loop and sleeps no longer than `due`; there is no
thread, and without the setting there is no look. A look is a stat of each file. Files that have changed are tried, by
making a context of them, before anything else happens: a renewal writes certificate and key one after the other, and
between the two, or in the middle of one, they do not fit. Then the old ones serve on, that is said once, and the
next change is tried again. What fits is taken by a reload, the same as HUP's: see docs/tls.md.
"""

from __future__ import annotations

import logging

from palfrey.errors import PalfreyError
from palfrey.master.generations import Generation, server_tls, tls_files
from palfrey.system.tls import Stamps, stamps


class Renewal:
    """Of the current generation's files."""

    def __init__(self) -> None:
        self.due: float | None = None
        """When to look next, by time.monotonic(); None: never."""
        self._generation = 0
        self._seen: Stamps = ()
        """How the files looked when they were last read, whether that went well or not."""

    def wants_reload(self, current: Generation, now: float, log: logging.Logger) -> bool:
        """Look, if it is time to; True if the files have changed and are fit to serve."""
        settings = current.settings
        interval = settings.ssl_reload_interval
        if current.number != self._generation:
            self._generation = current.number
            self._seen = current.tls.stamps if current.tls is not None else ()
            self.due = now + interval if interval and current.tls is not None else None
        if self.due is None or now < self.due:
            return False
        self.due = now + interval
        seen = stamps(tls_files(settings))
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            server_tls(settings)
        except PalfreyError as error:
            log.warning("The TLS files have changed and cannot be used (yet): %s. The old ones serve on", error)
            return False
        log.info("The TLS files have changed")
        return True
