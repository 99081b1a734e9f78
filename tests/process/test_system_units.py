"""The unit files in systemd/, judged by systemd itself, and what the drop-in may change."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = {
    "palfrey.service": "palfrey.service",
    "palfrey@.service": "palfrey@shop.service",
    "palfrey.socket": "palfrey.socket",
}

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings(unit: str) -> dict[str, str]:
    lines = (UNITS / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def complaints(folder: Path, *names: str) -> str:
    """What systemd says about copies of the units whose commands exist; it exits with 0 even for unknown keys."""
    for unit, name in NAMES.items():
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/sh", (UNITS / unit).read_text(), flags=re.MULTILINE)
        (folder / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(f"./{name}" for name in names)],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@needs_systemd
def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    assert complaints(tmp_path, *NAMES.values()) == ""


@needs_systemd
def test_the_drop_in_where_systemd_knows_it(tmp_path: Path) -> None:
    version = subprocess.run(
        ["systemd-analyze", "--version"], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    if int(version) < 253:
        pytest.skip(f"Type=notify-reload came with systemd 253, this is {version}")
    shutil.copytree(UNITS / "palfrey.service.d", tmp_path / "palfrey.service.d")
    assert complaints(tmp_path, "palfrey.service") == ""


def test_the_drop_in_replaces_the_reload_command() -> None:
    drop_in = settings("palfrey.service.d/notify-reload.conf")
    assert drop_in == {"Type": "notify-reload", "ReloadSignal": "SIGHUP", "ExecReload": ""}


@pytest.mark.parametrize("unit", ["palfrey.service", "palfrey@.service"])
def test_what_the_arbiter_counts_on(unit: str) -> None:
    service = settings(unit)
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 30  # graceful_timeout
    assert int(service["TimeoutStartSec"]) > 60  # boot_timeout
    assert service["Environment"] == f"PWD={service['WorkingDirectory']}"


def test_an_instance_differs_by_its_name_alone() -> None:
    one, many = settings("palfrey.service"), settings("palfrey@.service")
    assert one.keys() == many.keys()
    assert all("%i" in many[key] for key in one if one[key] != many[key])
