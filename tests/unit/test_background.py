"""A server's thread: what its caller is told, whichever of the two comes first. More is in test_testing.py."""

from __future__ import annotations

import threading

import pytest

from palfrey.background import BackgroundServer, embedded
from palfrey.errors import BindError
from tests.support.inprocess import PATIENCE, echo


def make(**settings) -> BackgroundServer:
    return BackgroundServer(embedded(settings), echo)


def test_an_address_of_its_own_unless_the_settings_name_one():
    assert embedded({}).binds() == ("127.0.0.1:0",)
    assert embedded({"port": 9000}).binds() == ("127.0.0.1:9000",)
    assert embedded({"bind": "[::1]:0"}).binds() == ("[::1]:0",)


def test_a_life():
    server = make()
    assert server.urls == []
    server.start()
    assert server.urls[0].startswith("http://127.0.0.1:")
    server.stop()
    server.stop(at_once=True)
    server.wait()


def test_a_stop_before_the_start_is_nothing():
    make().stop()


def test_one_that_is_asked_to_end_before_its_thread_has_begun():
    server = make()
    server.ask()
    server.start()
    server.wait()
    assert server.urls == []


def test_whoever_waits_is_told_of_its_end():
    server = make()
    server.start()
    waiting = [threading.Thread(target=server.wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    server.ask(part=True)
    for thread in waiting:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_what_goes_wrong_is_raised_once():
    server = make(bind="192.0.2.1:1")
    with pytest.raises(BindError):
        server.start()
    server.wait()
    server.stop()


def test_its_thread_is_known_before_anything_is_done_there():
    known = []
    server = make()
    server.start(known.append)
    assert known == [server._thread.ident]
    server.stop()
