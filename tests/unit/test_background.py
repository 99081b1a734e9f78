"""A server's thread: what its caller is told, whichever of the two comes first. More is in test_testing.py."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import httpx
import pytest

from palfrey.background import BackgroundServer, embedded
from palfrey.errors import BindError
from tests.support.inprocess import PATIENCE, echo, http, respond


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


def test_what_it_runs_is_known_to_be_its_own():
    """In its loop and in the threads that work for it; not in the one that started it, and not to another server."""
    found = {}

    def note(where: str) -> None:
        found[where] = [server.within for server in servers]

    async def asgi(scope, receive, send):
        if scope["type"] == "http":
            note("loop")
            await asyncio.get_running_loop().run_in_executor(None, note, "executor")
            await asyncio.to_thread(note, "to_thread")
            await asyncio.create_task(noting("empty context"), context=contextvars.Context())
            await respond(send)

    async def noting(where):
        note(where)

    def wsgi(environ, start_response):
        note("wsgi")
        start_response("200 OK", [])
        return []

    servers = [BackgroundServer(embedded({"loop": loop}), app) for app, loop in ((asgi, "asyncio"), (wsgi, "uvloop"))]
    for server in servers:
        server.start()
    for server in servers:
        assert httpx.get(server.urls[0], trust_env=False).status_code == 200
    note("caller")
    for server in servers:
        server.stop(part=True)
    ours = {where: [True, False] for where in ("loop", "executor", "to_thread", "empty context")}
    assert found == {**ours, "wsgi": [False, True], "caller": [False, False]}


@pytest.mark.parametrize("threads", [None, 0, 4])
def test_an_application_that_stops_it_does_not_wait_for_itself(threads):
    @http
    async def asgi(scope, receive, send):
        server.stop(part=True)
        await respond(send, b"bye")

    def wsgi(environ, start_response):
        server.stop(part=True)
        start_response("200 OK", [])
        return [b"bye"]

    settings = {"graceful_timeout": 1000, "threads": threads} if threads is not None else {"graceful_timeout": 1000}
    server = BackgroundServer(embedded(settings), asgi if threads is None else wsgi)
    server.start()
    assert httpx.get(server.urls[0], trust_env=False).text == "bye"
    server.wait()


@pytest.mark.parametrize("up", [True, False], ids=["just up", "on its way"])
def test_ctrl_c_while_it_is_waited_for(up):
    """Whoever is just up may have requests already, which are answered."""
    begun, go_on = threading.Event(), threading.Event()
    answers = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            begun.set()
            await asyncio.to_thread(go_on.wait, PATIENCE)
            await respond(send, b"answered")
        elif not up:
            begun.set()
            await asyncio.Event().wait()

    def interrupted(timeout):
        server._up.wait = wait
        if up:
            assert wait(PATIENCE)
            asking.start()
        assert begun.wait(PATIENCE)
        raise KeyboardInterrupt

    def ask(*args, **kwargs):
        asked(*args, **kwargs)
        go_on.set()

    server = BackgroundServer(embedded({}), app)
    asking = threading.Thread(target=lambda: answers.append(httpx.get(server.urls[0], trust_env=False).text))
    wait, server._up.wait = server._up.wait, interrupted
    asked, server.ask = server.ask, ask
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert server._ended.is_set()
    server.wait()
    if up:
        asking.join()
    assert answers == ["answered"] * up


def test_a_thread_that_has_the_number_of_one_that_has_ended_is_not_taken_for_it():
    server = make()
    server.start()
    server.stop(part=True)
    numbers, found = set(), []
    for _ in range(50):  # the system gives numbers anew
        thread = threading.Thread(target=lambda: found.append(server.within))
        thread.start()
        numbers.add(thread.ident)
        thread.join()
    assert found == [False] * 50, server._thread.ident in numbers
