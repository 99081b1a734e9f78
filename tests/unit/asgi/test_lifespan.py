"""Lifespan: the rules of auto, on and off, and applications that fail, hang or will not go."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from palfrey.asgi import lifespan as module
from palfrey.asgi.lifespan import Lifespan, Phase
from palfrey.errors import LifespanError
from tests.support.inprocess import logged, looped


class Broken(Exception):
    pass


def script(*steps):
    """An application that receives (a str: what must come), sends (a dict), raises, waits, or calls."""

    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        for step in steps:
            if isinstance(step, str):
                assert (await receive())["type"] == f"lifespan.{step}"
            elif isinstance(step, BaseException):
                raise step
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif callable(step):
                step(scope)
            else:
                await send(step)

    return app


def says(what: str, **more):
    return {"type": f"lifespan.{what}", **more}


GOOD = ("startup", says("startup.complete"), "shutdown", says("shutdown.complete"))


@pytest.mark.parametrize("mode", ["auto", "on"])
@looped
async def test_an_application_that_takes_part(mode):
    life = Lifespan(script(lambda scope: scope["state"].update(pool=1), *GOOD), mode)
    await life.startup()
    assert life.phase is Phase.STARTED
    assert life.state == {"pool": 1}
    with logged() as records:
        await life.shutdown()
    assert life.phase is Phase.ENDED
    assert records.records == []


@looped
async def test_the_scope():
    seen = []
    life = Lifespan(script(seen.append, *GOOD), "on")
    await life.startup()
    await life.shutdown()
    assert seen == [{"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}]
    assert seen[0]["state"] is life.state


@looped
async def test_off_never_calls_the_application():
    life = Lifespan(script(Broken()), "off")
    await life.startup()
    await life.shutdown()
    assert life.phase is Phase.ENDED


@pytest.mark.parametrize("error", [Broken("no lifespan"), SystemExit(1), AssertionError()])
@looped
async def test_auto_takes_an_exception_for_no_lifespan(error):
    for steps in ((error,), ("startup", error)):
        life = Lifespan(script(*steps), "auto")
        with logged() as records:
            await life.startup()
            await life.shutdown()
        assert life.phase is Phase.ENDED
        assert records.warnings == []


@looped
async def test_on_takes_an_exception_for_a_failure_with_the_users_traceback():
    life = Lifespan(script("startup", Broken("why")), "on")
    with pytest.raises(LifespanError, match="raised Broken during startup") as failure:
        await life.startup()
    assert "test_lifespan.py" in failure.value.detail
    assert "palfrey/asgi/lifespan.py" not in failure.value.detail
    assert failure.value.detail.endswith("Broken: why")


@looped
async def test_an_application_that_returns_without_an_answer():
    life = Lifespan(script(), "auto")
    await life.startup()
    assert life.phase is Phase.ENDED
    await life.shutdown()
    with pytest.raises(LifespanError, match="ended during startup without an answer"):
        await Lifespan(script("startup"), "on").startup()


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize(
    ("message", "line", "detail"),
    [
        ("no database", "no database", ""),
        ("", "it gave no reason", ""),
        ("Traceback ...\n  File x\nKeyError: 'db'\n", "KeyError: 'db'", "Traceback ...\n  File x\nKeyError: 'db'"),
    ],
)
@looped
async def test_startup_failed_is_a_failure_in_every_mode(mode, message, line, detail):
    life = Lifespan(script("startup", says("startup.failed", message=message)), mode)
    with pytest.raises(LifespanError) as failure:
        await life.startup()
    assert str(failure.value) == f"the application's lifespan startup failed: {line}"
    assert failure.value.detail == detail
    await life.cancel()


@looped
async def test_raising_behind_startup_failed_changes_nothing():
    life = Lifespan(script("startup", says("startup.failed", message="x"), Broken()), "auto")
    with pytest.raises(LifespanError, match="startup failed: x"):
        await life.startup()


@looped
async def test_an_application_that_ends_its_lifespan_while_it_serves():
    go = asyncio.Event()
    for steps, logs in ((("startup", says("startup.complete"), go, Broken("why")), 1), (GOOD[:2], 0)):
        life = Lifespan(script(*steps), "auto")
        with logged() as records:
            await life.startup()
            go.set()
            await asyncio.wait((life._task,))
            await life.shutdown()
        assert len(records.errors) == logs
        if logs:
            assert "raised while serving" in records.errors[0]
            assert "Broken: why" in records.errors[0]


@pytest.mark.parametrize("mode", ["auto", "on"])
@looped
async def test_what_comes_right_behind_startup_complete_is_no_failure_of_the_startup(mode):
    """As it is none when it comes a moment later."""
    life = Lifespan(script("startup", says("startup.complete"), Broken("why")), mode)
    with logged() as records:
        await life.startup()
    assert "raised while serving" in records.errors[0]
    life = Lifespan(script("startup", says("startup.complete")), mode)
    with logged() as records:
        await life.startup()
        await life.shutdown()
    assert records.errors == []


@pytest.mark.parametrize(
    ("ending", "logs"),
    [
        ((says("shutdown.failed", message="lost"),), "shutdown failed: lost"),
        ((says("shutdown.failed"),), "shutdown failed: it gave no reason"),
        ((Broken("why"),), "raised during shutdown"),
        ((), None),
    ],
)
@looped
async def test_shutdown_failures_are_logged(ending, logs):
    life = Lifespan(script(*GOOD[:3], *ending), "on")
    await life.startup()
    with logged() as records:
        await life.shutdown()
    assert [logs in error for error in records.errors] == ([True] if logs else [])


@pytest.mark.parametrize("wrong", ["startup.nonsense", "shutdown.complete", "shutdown.failed"])
@looped
async def test_the_wrong_message_at_startup(wrong):
    life = Lifespan(script("startup", says(wrong)), "on")
    with pytest.raises(LifespanError) as failure:
        await life.startup()
    assert f"cannot send 'lifespan.{wrong}' during startup" in failure.value.detail


@looped
async def test_startup_that_hangs_and_is_given_up():
    life = Lifespan(script("startup", asyncio.Event()), "on")
    starting = asyncio.ensure_future(life.startup())
    await asyncio.sleep(0.01)
    assert not starting.done()
    starting.cancel()
    await life.cancel()
    assert life.phase is Phase.ENDED


@looped
async def test_shutdown_that_hangs_and_is_given_up():
    life = Lifespan(script(*GOOD[:3], asyncio.Event()), "on")
    await life.startup()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(life.shutdown(), 0.01)
    await life.cancel()
    assert life.phase is Phase.ENDED


@looped
async def test_an_application_that_will_not_be_cancelled_is_left_behind(monkeypatch):
    monkeypatch.setattr(module, "CANCEL_PATIENCE", 0.01)
    release = asyncio.Event()

    async def stubborn(scope, receive, send):
        await receive()
        await send(says("startup.failed", message="x"))
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    life = Lifespan(stubborn, "on")
    with pytest.raises(LifespanError):
        await life.startup()
    with logged() as records:
        await life.cancel()
    assert records.warnings == ["The application's lifespan goes on although it was cancelled"]
    release.set()
    await asyncio.wait((life._task,))


@looped
async def test_shutdown_of_what_never_started():
    life = Lifespan(script(*GOOD), "on")
    await life.shutdown()
    assert life.phase is Phase.NEW


@pytest.mark.parametrize("word", ["startup.failed", "shutdown.complete", "shutdown.failed"])
@looped
async def test_what_is_around_the_application_has_time_to_close(word):
    closed = []

    async def wrapped(scope, receive, send):
        try:
            while True:  # one message after another, as the specification's example does
                kind = (await receive())["type"].partition(".")[2]
                await send(says(word if word.startswith(kind) else f"{kind}.complete"))
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            closed.append(True)

    life = Lifespan(wrapped, "on")
    with logged():
        if word == "startup.failed":
            with pytest.raises(LifespanError):
                await life.startup()
        else:
            await life.startup()
            await life.shutdown()
    assert closed == [True]
    assert life.phase is Phase.ENDED


@looped
async def test_one_that_catches_everything_and_asks_again(monkeypatch):
    monkeypatch.setattr(module, "CANCEL_PATIENCE", 0.01)

    async def deaf(scope, receive, send):
        for _ in range(4):
            with contextlib.suppress(BaseException):
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})

    life = Lifespan(deaf, "on")
    await life.startup()
    await life.shutdown()
    assert life.phase is Phase.ENDED


@looped
async def test_raising_behind_shutdown_complete_is_logged():
    async def wrapped(scope, receive, send):
        await script(*GOOD)(scope, receive, send)
        await asyncio.sleep(0)
        raise Broken("while closing")

    life = Lifespan(wrapped, "on")
    await life.startup()
    with logged() as records:
        await life.shutdown()
    assert "Broken: while closing" in records.errors[0]


@looped
async def test_one_that_stays_behind_its_last_word_is_cancelled(monkeypatch):
    monkeypatch.setattr(module, "CANCEL_PATIENCE", 0.01)
    life = Lifespan(script(*GOOD, asyncio.Event()), "on")
    await life.startup()
    with logged() as records:
        await life.shutdown()
    assert life.phase is Phase.ENDED
    assert records.records == []
