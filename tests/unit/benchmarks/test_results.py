"""Runs as files."""

from pathlib import Path

import pytest

from benchmarks.results import newest, read

from .made import made_round, made_run


def test_a_run_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    run = made_run(made_round(), made_round(server="uvicorn", log_lines=1.0))
    run.idle["palfrey"] = {"plain": 2800.0}
    path = tmp_path / "folder" / run.default_path().name
    run.save(path)
    assert read(path) == run


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="measure again"):
        read(path)


def test_the_newest_of_each_python_in_their_order(tmp_path: Path) -> None:
    runs = [
        made_run(python="3.13", started="2026-11-20T08:00:00+00:00"),
        made_run(python="3.9", started="2026-11-20T07:00:00+00:00"),
        made_run(python="3.13", started="2026-11-20T09:00:00+00:00"),
    ]
    paths = [tmp_path / run.default_path().name for run in runs]
    for run, path in zip(runs, paths, strict=True):
        run.save(path)
    found = newest(paths)
    assert list(found) == ["3.9", "3.13"]
    assert found["3.13"].started == "2026-11-20T09:00:00+00:00"
