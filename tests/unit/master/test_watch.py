"""The watcher's two halves: what the child says of real files, and what the arbiter's side makes of a child's end."""

from __future__ import annotations

import importlib.util
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palfrey.master import watch
from palfrey.master.changes import Targets
from palfrey.master.ears import Ears
from palfrey.system.channel import Channel, channel_pair
from tests.support.inprocess import Records, logged

PATIENCE = 30.0


def watched(place: Path, engine: str = "poll", files: tuple[str, ...] = ()) -> Targets:
    return Targets((str(place),), files, ("*.py",), (".*",), 0.0, engine)


@pytest.fixture(params=["watchfiles", "poll"])
def child(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Channel]:
    """The child's loop in a thread, armed; the arbiter's end of its channel."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "old.py").touch()
    ours, theirs = channel_pair()
    targets = watched(tmp_path, request.param, (str(tmp_path / "extra.txt"),))
    thread = threading.Thread(target=watch.report, args=(theirs, targets))
    thread.start()
    try:
        (armed,) = hear(ours)
        assert armed["kind"] == "armed"
        assert armed["engine"] == {"poll": "polling"}.get(request.param, "watchfiles")
        yield ours
    finally:
        ours.close()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "it ends with its channel"
        theirs.close()


def hear(channel: Channel) -> list[dict[str, Any]]:
    while not (messages := channel.receive()):
        assert select.select([channel], [], [], PATIENCE)[0], "nothing was said"
    return messages


def hear_of(channel: Channel, path: Path) -> None:
    """Until this path is said to have changed."""
    while not any(str(path) in message["paths"] for message in hear(channel)):
        pass


class TestChild:
    def test_it_tells_of_files(self, child: Channel, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        new = tmp_path / "a" / "b" / "new.py"
        new.parent.mkdir(parents=True)
        new.touch()
        hear_of(child, new)
        (tmp_path / "extra.txt").touch()
        hear_of(child, tmp_path / "extra.txt")
        new.unlink()
        hear_of(child, new)

    def test_a_package_that_is_moved_away(self, child: Channel, tmp_path: Path) -> None:
        (tmp_path / "package").rename(tmp_path / ".elsewhere")
        (message,) = hear(child)
        assert message["kind"] == "changed"

    def test_bytecode_goes_first(self, child: Channel, tmp_path: Path) -> None:
        source = tmp_path / "new.py"
        bytecode = Path(importlib.util.cache_from_source(str(source)))
        bytecode.parent.mkdir()
        bytecode.touch()
        source.touch()
        hear_of(child, source)
        assert not bytecode.exists()


class TestEngines:
    def test_what_is_not_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
        source, engine, notice = watch.open_source(watched(tmp_path, "auto"))
        assert isinstance(source, watch.Polling)
        assert (engine, notice) == ("polling, as watchfiles is not installed", "")

    def test_what_the_kernel_refuses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> Iterator[object]:
            raise OSError(28, "no space left on device")
            yield

        import watchfiles

        monkeypatch.setattr(watchfiles, "watch", refuse)
        source, engine, notice = watch.open_source(watched(tmp_path, "watchfiles"))
        assert isinstance(source, watch.Polling)
        assert engine == "polling"
        assert "no space left on device" in notice


class TestWatcher:
    @pytest.fixture
    def ears(self) -> Iterator[Ears]:
        ears = Ears()
        ears.open()
        yield ears
        ears.close()

    @pytest.fixture
    def records(self) -> Iterator[Records]:
        with logged("palfrey.error") as records:
            yield records

    def test_a_child_is_watched_replaced_and_let_go(self, ears: Ears, records: Records, tmp_path: Path) -> None:
        changes: list[tuple[list[str], int]] = []
        watcher = watch.Watcher(ears, lambda paths, count: changes.append((paths, count)))
        log = logging.getLogger("palfrey.error")
        watcher.watch(watched(tmp_path), log)
        try:
            self.turn(ears)
            assert f"Watching {tmp_path} for changes (polling)" in records.at(logging.INFO)
            (tmp_path / "main.py").touch()
            self.turn(ears)
            assert changes == [([str(tmp_path / "main.py")], 1)]
            first = watcher._pid
            watcher.watch(watched(tmp_path), log)
            assert watcher._pid == first, "nothing else to watch"
            os.kill(first, signal.SIGTERM)
            self.turn(ears)
            assert records.errors[-1].startswith("The file watcher was killed by SIGTERM; files are not watched")
            assert watcher.due is not None
            watcher.look(watcher.due - 0.1)
            assert watcher.due is not None
            watcher.look(watcher.due)
            assert watcher.due is None
            assert watcher._pid != first
            self.turn(ears)
        finally:
            watcher.close()

    def test_a_child_that_was_reaped_by_another_is_not_signalled(
        self, ears: Ears, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As process 1 the arbiter reaps whatever ends, and the pid may be another's by now."""
        watcher = watch.Watcher(ears, lambda paths, count: None)
        watcher.watch(watched(tmp_path), logging.getLogger("palfrey.error"))
        os.kill(watcher._pid, signal.SIGKILL)
        os.waitpid(watcher._pid, 0)
        monkeypatch.setattr(os, "kill", lambda pid, signum: pytest.fail(f"{pid} was sent {signum}"))
        watcher.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(watcher._pid, os.WNOHANG)

    @staticmethod
    def turn(ears: Ears) -> None:
        for hear in ears.wait(PATIENCE):
            hear()
