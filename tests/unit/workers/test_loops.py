"""The table of event loops."""

from __future__ import annotations

import asyncio
import builtins

import pytest
import uvloop

from palfrey.config.settings import ROWS
from palfrey.errors import BootError
from palfrey.workers.loops import LOOPS, make_loop


@pytest.mark.parametrize(("name", "uses_uvloop"), [("auto", True), ("uvloop", True), ("asyncio", False)])
def test_names(name, uses_uvloop):
    loop = make_loop(name)
    try:
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert isinstance(loop, uvloop.Loop) is uses_uvloop
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
    finally:
        loop.close()


def test_without_uvloop_auto_does_and_uvloop_says_so(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "uvloop":
            raise ImportError("No module named 'uvloop'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    make_loop("auto").close()
    with pytest.raises(BootError, match="loop = uvloop: No module named 'uvloop'; install uvloop"):
        make_loop("uvloop")


def test_every_choice_of_the_setting_is_a_row():
    assert set(ROWS["loop"].choices) == set(LOOPS)
