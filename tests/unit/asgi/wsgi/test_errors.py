"""What applications write to `wsgi.errors` is logged line by line, as whose it is."""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from palfrey.asgi.wsgi import errors as module
from palfrey.asgi.wsgi.errors import ErrorLog
from tests.support.inprocess import PATIENCE, logged


class Request:
    """Runs functions as if they were applications."""

    def __init__(self, name: str) -> None:
        self.name = name

    def describe(self) -> str:
        return self.name

    def run(self, application: Callable[[], Any]) -> Any:
        return application()


@pytest.fixture
def errors() -> ErrorLog:
    return ErrorLog(frozenset((Request.run.__code__,)))


@pytest.fixture
def request_a() -> Request:
    return Request("a")


def test_lines_are_logged_as_their_requests(errors: ErrorLog, request_a: Request) -> None:
    with logged() as log:
        request_a.run(lambda: print("one", 2, file=errors))
        Request("b").run(lambda: errors.writelines(["th", "ree\nfo", "ur\n\n", "\n"]))
        request_a.run(lambda: errors.write("Traceback:\n  line\nError\n"))
    assert log.errors == ["a: one 2", "b: three", "b: four\n", "a: Traceback:\n  line\nError"]
    assert errors.begun == {}


def test_requests_that_take_turns_do_not_write_into_each_others_lines(errors: ErrorLog, request_a: Request) -> None:
    request_b = Request("b")
    with logged() as log:
        request_a.run(lambda: errors.write("of "))
        request_b.run(lambda: errors.write("of another"))
        request_a.run(lambda: errors.write("one\n"))
        assert log.errors == ["a: of one"]
        errors.end(request_b)
        errors.end(request_a)
    assert log.errors == ["a: of one", "b: of another"]
    assert errors.begun == {}


def test_a_flush_ends_a_line(errors: ErrorLog, request_a: Request) -> None:
    with logged() as log:
        request_a.run(lambda: print("unfinished", end="", file=errors, flush=True))
        request_a.run(errors.flush)
        request_a.run(lambda: errors.write(""))
    assert log.errors == ["a: unfinished"]
    assert errors.begun == {}


def test_what_is_under_a_request_is_its(errors: ErrorLog, request_a: Request) -> None:
    def generate() -> Any:
        print("first", file=errors)
        yield
        print("second", file=errors)

    with logged() as log:
        request_a.run(lambda: list(generate()))
        request_a.run(lambda: Request("inner").run(lambda: errors.write("x\n")))
    assert log.errors == ["a: first", "a: second", "inner: x"]


def test_a_line_without_an_end_is_logged_in_pieces(
    errors: ErrorLog, request_a: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE", 1000)
    with logged() as log:
        for _ in range(105):
            request_a.run(lambda: errors.write("x" * 30))
            assert sum(map(len, errors.begun.get(request_a, ()))) < 1000
        request_a.run(lambda: errors.write("y" * 2000))
    assert log.errors == ["a: " + "x" * 1020] * 3 + ["a: " + "x" * 90 + "y" * 2000]
    assert errors.begun == {}


def test_other_threads_lines_are_theirs(errors: ErrorLog, request_a: Request) -> None:
    def write() -> None:
        print("of a thread", file=errors)
        errors.write("left behind")

    def start() -> None:
        errors.write("of ")
        thread = threading.Thread(target=write, name="helper")
        thread.start()
        thread.join()
        errors.write("one\n")

    with logged() as log:
        request_a.run(start)
        assert log.errors == ["helper: of a thread", "a: of one"]
        errors.end(request_a)  # or any other request's end
    assert log.errors[2:] == ["helper: left behind"]
    assert errors.begun == {}


def test_a_thread_that_is_nothing_but_a_write(errors: ErrorLog, monkeypatch: pytest.MonkeyPatch) -> None:
    said, lines = threading.Event(), []
    monkeypatch.setattr(module.log, "error", lambda *words: (lines.append(words[-1]), said.set()))
    _thread.start_new_thread(errors.write, ("one\n",))
    assert said.wait(PATIENCE)
    assert lines == ["one"]


def test_a_thread_that_lives_goes_on_with_its_line(errors: ErrorLog, request_a: Request) -> None:
    with logged() as log:
        errors.write("of ")
        errors.end(request_a)
        errors.write("one\n")
        errors.write("last")
        errors.close()
    assert log.errors == [f"{threading.current_thread().name}: of one", f"{threading.current_thread().name}: last"]


def test_a_handler_of_logging_may_write_to_it(errors: ErrorLog, request_a: Request) -> None:
    logger = logging.Logger("application")
    logger.addHandler(logging.StreamHandler(errors))
    with logged() as log:
        threads = [
            threading.Thread(target=request_a.run, args=(lambda n=n: [logger.error("%d", n) for _ in range(50)],))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(log.errors) == sorted(f"a: {n}" for n in range(4) for _ in range(50))


def test_the_log_does_not_feed_itself(
    errors: ErrorLog, request_a: Request, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A handler of the root logger may write here, and an embedded server's loggers be under it."""
    handler = logging.StreamHandler(errors)
    monkeypatch.setattr(module.log, "propagate", False)
    module.log.addHandler(handler)
    try:
        with logged() as log:
            request_a.run(lambda: print("once", file=errors))
    finally:
        module.log.removeHandler(handler)
    assert log.errors == ["a: once"]
    assert capsys.readouterr().err == "a: once\n"


@pytest.mark.parametrize("text", [b"bytes", None, 5])
def test_what_is_no_text_is_refused(errors: ErrorLog, text: Any) -> None:
    with pytest.raises(TypeError, match="takes text"):
        errors.write(text)
    assert errors.begun == {}
