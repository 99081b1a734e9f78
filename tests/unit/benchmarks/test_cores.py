"""Who used a core."""

import os
from types import SimpleNamespace

import pytest

from benchmarks import cores


def test_quiet_cores_are_not_waited_for_longer_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(range(1000))
    monkeypatch.setattr(cores, "LOOK", 0.0)
    monkeypatch.setattr(cores, "_core_seconds", lambda core: float(next(looks)))
    cores.wait_for_quiet((0, 1), 0.01)
    monkeypatch.setattr(cores, "LOOK", 1e-3)
    monkeypatch.setattr(cores, "_core_seconds", lambda core: 0.0)
    cores.wait_for_quiet((0, 1), 60.0)


def test_the_meter_tells_own_time_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter((10.0, 14.0))
    own = iter((1.0, 2.0))
    clock = iter((100.0, 110.0))
    monkeypatch.setattr(cores, "_core_seconds", lambda core: next(busy))
    monkeypatch.setattr(cores, "_tree_seconds", lambda pid: next(own))
    monkeypatch.setattr(cores, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    used = cores.Meter(1, 0).read()
    assert used.seconds == 1.0
    assert used.others == pytest.approx(0.3)


def test_where_nothing_is_pinned_nothing_is_said_of_others() -> None:
    assert cores.Meter(os.getpid(), None).read().others == 0.0
