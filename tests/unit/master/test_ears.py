"""The arbiter's selector, on pipes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from palfrey.master.ears import Ears


class Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fileno(self) -> int:
        return self.reader

    def write(self) -> None:
        os.write(self.writer, b"x")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    them = [Pipe(), Pipe()]
    yield them
    for pipe in them:
        pipe.close()


@pytest.fixture
def ears() -> Iterator[Ears]:
    them = Ears()
    them.open()
    yield them
    them.close()


def hear(ears: Ears, timeout: float | None = 0.0) -> None:
    for callback in ears.wait(timeout):
        callback()


def test_what_can_be_read_is_called_back_and_nothing_else(ears: Ears, pipes: list[Pipe]) -> None:
    heard: list[int] = []
    for number, pipe in enumerate(pipes):
        ears.listen(pipe, lambda number=number: heard.append(number))  # type: ignore[misc]
    hear(ears)
    assert heard == []
    pipes[1].write()
    hear(ears, None)
    assert heard == [1]


def test_what_is_forgotten_is_heard_no_more(ears: Ears, pipes: list[Pipe]) -> None:
    ears.listen(pipes[0], lambda: pytest.fail("heard"))
    assert ears.forget(pipes[0])
    assert not ears.forget(pipes[0])
    pipes[0].write()
    hear(ears)


def test_a_callback_may_forget_another_that_was_about_to_be_made(ears: Ears, pipes: list[Pipe]) -> None:
    heard: list[Pipe] = []

    def one_is_enough(pipe: Pipe) -> None:
        heard.append(pipe)
        for each in pipes:
            ears.forget(each)

    for pipe in pipes:
        ears.listen(pipe, lambda pipe=pipe: one_is_enough(pipe))  # type: ignore[misc]
        pipe.write()
    hear(ears)
    assert len(heard) == 1


def test_closing_twice_and_before_opening_is_nothing() -> None:
    ears = Ears()
    ears.close()
    ears.open()
    ears.close()
    ears.close()
