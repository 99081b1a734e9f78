"""What is watched, what counts as one change, and how it is named; no processes, set clocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from palfrey.config.settings import Settings
from palfrey.master.changes import LONGEST, Debounce, Filter, Targets, differences, named, scan, targets


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the server works in."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def of(config_file: str | None = None, **settings: Any) -> Targets:
    return targets(Settings(reload=True, **settings), config_file)


class TestTargets:
    def test_by_default_the_working_directory(self, place: Path) -> None:
        assert of().directories == (str(place),)
        assert of().files == ()

    def test_an_app_dir_elsewhere_too_but_none_twice(self, place: Path, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (place / "src").mkdir()
        assert of(app_dir=str(tmp_path / "other")).directories == (str(tmp_path / "other"), str(place))
        assert of(app_dir=str(place / "src")).directories == (str(place),)

    def test_named_directories_take_its_place(self, place: Path) -> None:
        (place / "a").mkdir()
        (place / "ab").mkdir()
        (place / "link").symlink_to("ab")
        found = of(reload_dirs=("a", "link", "a"), app_dir=str(place))
        assert found.directories == (str(place / "a"), str(place / "ab"))

    def test_the_files_that_settings_come_from(self, place: Path) -> None:
        found = of(
            "/etc/palfrey.conf.py", env_file="/x/.env", log_config="/x/log.ini", reload_extra_files=("words.txt",)
        )
        assert found.files == ("/etc/palfrey.conf.py", "/x/.env", str(place / "words.txt"), "/x/log.ini")
        assert of(log_config={"version": 1}).files == ()

    def test_patterns_add_to_the_defaults_and_take_them_away(self, place: Path) -> None:
        (place / "templates").mkdir()
        found = of(reload_include=("*.html", ".*", "templates"), reload_exclude=("*.py", "test_*"))
        assert found.include == ("*.html", ".*")
        assert found.exclude == (".py[cod]", ".sw.*", "~*", "*.py", "test_*")
        assert found.directories == (str(place),)
        assert of(reload_dirs=("templates",), reload_include=("../site",)).directories == (str(place),)


class TestFilter:
    @pytest.mark.parametrize(
        ("path", "wanted"),
        [
            ("main.py", True),
            ("deep/down/views.py", True),
            ("notes.txt", False),
            ("main.pyc", False),
            (".main.py", False),
            (".git/hooks/x.py", False),
            (".venv/lib/x.py", False),
            ("__pycache__/main.py", False),
            ("node_modules/x/setup.py", False),
            ("~main.py", False),
            ("env/lib/x.py", False),
        ],
    )
    def test_the_defaults(self, place: Path, path: str, wanted: bool) -> None:
        (place / "env").mkdir()
        (place / "env" / "pyvenv.cfg").touch()
        assert Filter(of()).wants(str(place / path)) is wanted

    @pytest.mark.parametrize(
        ("path", "wanted"),
        [
            ("templates/a/page.html", True),
            ("templates/page.html", True),
            ("page.html", False),
            ("src/generated/x.py", False),
            ("generated/x.py", False),
            ("tests/unit/x.py", False),
            ("unit/x.py", True),
        ],
    )
    def test_paths_and_directories(self, place: Path, path: str, wanted: bool) -> None:
        chosen = of(
            reload_include=("templates/*.html", "templates/*/*.html"), reload_exclude=("generated/", "tests/unit")
        )
        assert Filter(chosen).wants(str(place / path)) is wanted

    def test_nothing_outside(self, place: Path) -> None:
        chosen = Filter(of())
        assert chosen.enters(str(place))
        assert not chosen.wants(str(place) + "2/main.py")
        assert not chosen.enters(str(place.parent))


class TestScan:
    def look(self, place: Path, *files: str) -> dict[str, Any]:
        return scan((str(place),), files, Filter(of()))

    def test_new_changed_replaced_and_gone(self, place: Path) -> None:
        main, other = place / "main.py", place / "deep" / "other.py"
        other.parent.mkdir()
        main.write_text("A = 1")
        other.write_text("B = 1")
        before = self.look(place)
        assert set(before) == {str(main), str(other)}
        stamp = main.stat()
        replacement = place / "main.tmp"
        replacement.write_text("A = 2")
        os.utime(replacement, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        replacement.replace(main)
        other.unlink()
        (place / "new.py").touch()
        assert differences(before, self.look(place)) == {str(main), str(other), str(place / "new.py")}
        assert differences(before, before) == set()

    def test_single_files_and_what_cannot_be_looked_at(self, place: Path) -> None:
        words = place / "words.txt"
        assert self.look(place, str(words), "/nowhere/x") == {}
        words.write_text("a")
        (place / "dangling.py").symlink_to("nowhere.py")
        (place / "folder.py").mkdir()
        (place / "up").symlink_to("..")
        assert set(self.look(place, str(words), str(place))) == {str(words)}
        assert scan((str(place / "gone"),), (), Filter(of())) == {}


class TestDebounce:
    def test_one_change_once_files_have_come_to_rest(self) -> None:
        debounce = Debounce(0.5)
        assert debounce.due is None
        assert debounce.take(100.0) == []
        debounce.add({"b"}, 100.0)
        debounce.add({"a", "b"}, 100.4)
        debounce.add((), 100.8)
        assert debounce.due == 100.9
        assert debounce.take(100.8) == []
        assert debounce.take(100.9) == ["a", "b"]
        assert debounce.due is None
        debounce.add({"c"}, 101.0)
        assert debounce.take(101.5) == ["c"]

    def test_what_never_rests_is_reported_all_the_same(self) -> None:
        debounce = Debounce(0.05)
        now = 100.0
        while not (taken := debounce.take(now)):
            debounce.add({"a"}, now)
            now += 0.04
        assert taken == ["a"]
        assert now == pytest.approx(100.0 + LONGEST, abs=0.05)

    def test_no_delay(self) -> None:
        debounce = Debounce(0.0)
        debounce.add({"a"}, 100.0)
        assert debounce.take(100.0) == ["a"]


def test_names_for_people(place: Path) -> None:
    paths = [str(place / name) for name in ("a.py", "b/c.py", "d.py", "e.py")]
    assert named(paths[:1], 1, str(place)) == "a.py"
    assert named(paths, 250, str(place)) == "a.py, b/c.py, d.py and 247 more"
    assert named(["/etc/palfrey.conf.py"], 1, str(place)) == "/etc/palfrey.conf.py"
