"""Modules come from where names led to, and not from where they lead by now."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from palfrey.system.imports import pin, resolved


@pytest.fixture
def current(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name / "package" / "part").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("one")
    return link


def test_symlinks_are_followed_and_the_working_directory_stays_what_it_is(current: Path) -> None:
    assert resolved(["", str(current / "package")]) == ("", str(current.resolve() / "package"))
    assert len(resolved()) == len(sys.path)


def test_a_packages_parts_are_found_where_it_lay(current: Path) -> None:
    def package(path: str) -> ModuleType:
        module = ModuleType(path)
        module.__path__ = [str(current / path)]
        return module

    modules = {
        "package": package("package"),
        "package.part": package("package/part"),
        "package.module": ModuleType("module"),
        "packages": package("package"),
    }
    pin("package", modules)
    current.unlink()
    current.symlink_to("two")
    assert modules["package"].__path__ == [str(current.parent / "one" / "package")]
    assert modules["package.part"].__path__ == [str(current.parent / "one" / "package" / "part")]
    assert modules["packages"].__path__ == [str(current / "package")], "another one"
