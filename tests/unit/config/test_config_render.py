"""What is made from the table: complete, loadable, and not stale."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from palfrey.config import configfile, render
from palfrey.config.parsers import Shape
from palfrey.config.settings import ROWS, Settings
from palfrey.config.sources import resolve

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("palfrey_test_generate", ROOT / "scripts/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_files_are_up_to_date(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0


def test_generating_writes_what_is_stale_and_check_only_tells(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "docs").mkdir()
    assert generate.main(["--check"]) == 1
    assert "stale: conf/palfrey.conf.py, docs/settings.md" in capsys.readouterr().err
    assert list((tmp_path / "conf").iterdir()) == []
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert generate.main(["--nonsense"]) == 2


@pytest.fixture
def in_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory like the root of the repository, as far as the sample asks for it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "examples").mkdir()
    return str(tmp_path)


def test_the_sample_serves_the_example_and_sets_nothing_else(in_root: str, tmp_path: Path) -> None:
    (tmp_path / "palfrey.conf.py").write_text(render.sample())
    resolved = resolve({}, {}, in_root)
    assert resolved.settings == Settings(app="hello:app", app_dir=f"{in_root}/examples", workers=2)
    assert resolved.notices == ()


def test_the_sample_with_every_default_uncommented_changes_nothing(in_root: str, tmp_path: Path) -> None:
    lines = []
    for line in render.sample().splitlines():
        name = line.removeprefix("# ").partition(" = ")[0]
        lines.append(line.removeprefix("# ") if name in ROWS else line)
    (tmp_path / "palfrey.conf.py").write_text("\n".join(lines))
    file = configfile.read(None, in_root)
    assert file is not None
    assert set(file.assigned) == {row.name for row in ROWS.values() if row.parser.shape is not Shape.CODE}
    # One address is set in two ways then, which is refused; each alone is the default.
    text = "\n".join(line for line in lines if not line.startswith(("bind =", "worker_class =")))
    (tmp_path / "palfrey.conf.py").write_text(text)
    assert resolve({}, {}, in_root).settings == Settings(app="hello:app", app_dir=f"{in_root}/examples", workers=2)


def test_sample_and_reference_name_everything() -> None:
    for row in ROWS.values():
        for name in (row.name, *row.flags, *row.env):
            assert name in render.reference()
            assert name in render.sample()
    assert all(len(line) <= 120 for line in render.sample().splitlines())


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("workers", 2, "2"),
        ("timeout", 30.0, "30"),
        ("timeout", 0.5, "0.5"),
        ("umask", 0o22, "0o22"),
        ("umask", None, "None"),
        ("host", "a", '"a"'),
        ("bind", ("a", "b"), "['a', 'b']"),
        ("raw_env", ("TOKEN=secret", "A=b=c"), "['TOKEN=***', 'A=***']"),
        ("raw_env", (), "[]"),
        ("ssl_keyfile_password", "secret", "***"),
        ("ssl_keyfile_password", None, "None"),
        ("when_ready", len, "<function len>"),
        ("when_ready", None, "None"),
    ],
)
def test_values_are_shown_as_the_file_would_have_them_and_secrets_masked(name: str, value: object, shown: str) -> None:
    assert render.show(ROWS[name], value) == shown


def test_the_listing_is_aligned_and_complete(tmp_path: Path) -> None:
    resolved = resolve({"workers": "2", "raw_env": ["TOKEN=secret"]}, {"PORT": "81"}, str(tmp_path), need_app=False)
    lines = render.listing(resolved).splitlines()
    assert [line.split(" = ")[0].strip() for line in lines] == list(ROWS)
    assert len({line.index(" = ") for line in lines}) == 1
    assert "secret" not in render.listing(resolved)
    (workers,) = (line for line in lines if line.startswith("workers "))
    assert workers.split() == ["workers", "=", "2", "#", "command", "line,", "--workers"]
