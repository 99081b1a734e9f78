"""A directory to come back to: by what it is, and not by its name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from palfrey.errors import ConfigError
from palfrey.system.place import Place
from palfrey.system.process import change_directory


@pytest.fixture
def current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A symlink to the first of two releases; this process is in it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "release").write_text(name)
    link = tmp_path / "current"
    link.symlink_to("one")
    monkeypatch.chdir(link)
    return link


def switch(current: Path) -> None:
    current.unlink()
    current.symlink_to("two")


def test_one_comes_back_to_what_it_was_by_the_name_that_it_had(current: Path) -> None:
    environ = {"PWD": str(current)}
    place = Place(environ)
    switch(current)
    change_directory(str(current), environ)
    assert Path("release").read_text() == "two"
    environ["PWD"] = "elsewhere"
    place.enter(environ)
    assert Path("release").read_text() == "one"
    assert environ == {"PWD": str(current)}
    place.close()


def test_its_new_name_does_not_matter(current: Path) -> None:
    place = Place({})
    os.chdir("/")
    (current.parent / "one").rename(current.parent / "old")
    place.enter({})
    assert os.getcwd() == str(current.parent.resolve() / "old")
    place.close()


def test_it_is_closed_once_and_not_inherited(current: Path) -> None:
    place = Place({})
    number = place.fileno()
    assert not os.get_inheritable(number)
    place.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    place.close()
    assert place.fileno() == -1


def test_no_descriptor_left(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("palfrey.system.place.os.open", fail)
    with pytest.raises(ConfigError, match=rf"cannot keep the working directory {current}: Too many open files"):
        Place({"PWD": str(current)})
