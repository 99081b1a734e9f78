"""The load client in a thread of its own, for tests that send signals and wait for generations meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.loadclient import LoadClient, Options
from tests.support.loadresult import Result


@dataclass(slots=True)
class BackgroundLoad:
    """A load in a thread of its own, for tests that send signals meanwhile. `result` is live."""

    options: Options
    client: LoadClient = field(init=False)
    _thread: threading.Thread = field(init=False)
    _end: Callable[[], object] = field(init=False, default=lambda: None)
    _error: BaseException | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        self.client = LoadClient(self.options)
        running = threading.Event()
        self._thread = threading.Thread(target=self._work, args=[running], name="load")
        self._thread.start()
        running.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def result(self) -> Result:
        """The account so far."""
        return self.client.result

    def stop(self) -> Result:
        """Ends the load when what is in flight is answered."""
        try:
            self._end()
        except RuntimeError:  # it has ended by itself
            pass
        return self.join()

    def join(self) -> Result:
        """Waits for the end by time or count."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.result

    def _work(self, running: threading.Event) -> None:
        async def work() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._end = lambda: loop.call_soon_threadsafe(stop.set)
            task = asyncio.ensure_future(self.client.run(stop))
            await asyncio.sleep(0)  # so that `result` is this run's
            running.set()
            await task

        try:
            asyncio.run(work())
        except BaseException as error:
            self._error = error
        finally:
            running.set()
