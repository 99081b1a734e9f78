"""What `scripts/serve` hands on to palfrey, seen by a stand-in for palfrey in an environment that is ready."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = '#!/bin/sh\necho "app=$PALFREY_APP path=$PYTHONPATH arguments=$*"\n'


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    for name in ("palfrey", "python"):
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)
    with open(ROOT / "pyproject.toml", "rb") as file:
        stamp = subprocess.run(["cksum"], stdin=file, capture_output=True, check=True).stdout
    (tmp_path / ".palfrey-examples").write_bytes(stamp)
    return tmp_path


def serve(venv: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], "PALFREY_VENV": str(venv)}
    done = subprocess.run(
        [ROOT / "scripts" / "serve", *arguments], check=False, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_options_alone_change_how_the_example_is_served(venv: Path) -> None:
    assert serve(venv) == f"app=hello:app path={ROOT}/examples arguments="
    assert serve(venv, "--port", "9000") == f"app=hello:app path={ROOT}/examples arguments=--port 9000"


@pytest.mark.parametrize("own", ["-c conf/palfrey.conf.py", "--config=own.py", "--app-dir examples starlette_app:app"])
def test_a_configuration_or_directory_of_ones_own_is_not_disturbed(venv: Path, own: str) -> None:
    assert serve(venv, *own.split()) == f"app= path= arguments={own}"
