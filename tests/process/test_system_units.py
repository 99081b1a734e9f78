"""The unit files in systemd/, judged by systemd's own tools, and the server under their filter of system calls."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import seccomp
from tests.support.processes import APP, Server

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = {
    "palfrey.service": "palfrey.service",
    "palfrey@.service": "palfrey@shop.service",
    "palfrey.socket": "palfrey.socket",
}

EXPOSURE = 1.6
"""By `systemd-analyze security` of systemd 252, as recorded in docs/systemd.md; newer ones may look at more."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings(unit: str) -> dict[str, str]:
    """The last value of each key."""
    lines = (UNITS / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def copy_units(folder: Path) -> None:
    """Under names that systemd takes, with commands that exist."""
    for unit, name in NAMES.items():
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/sh", (UNITS / unit).read_text(), flags=re.MULTILINE)
        (folder / name).write_text(text)


def complaints(folder: Path, *names: str) -> str:
    """What systemd says about copies of the units; it exits with 0 even for unknown keys."""
    copy_units(folder)
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


@needs_systemd
@pytest.mark.parametrize("name", ["palfrey.service", "palfrey@shop.service"])
def test_the_exposure_is_no_higher_than_recorded(tmp_path: Path, name: str) -> None:
    copy_units(tmp_path)
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"./{name}"],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert level is not None, said
    assert float(level[1]) <= EXPOSURE, said
    assert f"**{EXPOSURE}**" in (UNITS.parent / "docs" / "systemd.md").read_text()


CONFINED = """
import mmap, os
from main import app, say

def is_refused(what, *arguments):
    try:
        what(*arguments)
    except PermissionError:
        return True
    return False

say(f"refused {is_refused(os.sched_setaffinity, 0, os.sched_getaffinity(0))}")
say(f"code {is_refused(mmap.mmap, -1, 4096, mmap.MAP_PRIVATE, mmap.PROT_WRITE | mmap.PROT_EXEC)}")
"""


@pytest.mark.skipif(not seccomp.is_possible(), reason="needs systemd-analyze and the kernel's headers, on x86-64")
@pytest.mark.parametrize(("memory", "more"), [((), ()), (("--no-writable-code",), ("--preload",))])
def test_the_server_does_its_work_under_the_units_filter(
    tmp_path: Path, memory: tuple[str, ...], more: tuple[str, ...]
) -> None:
    (tmp_path / "main.py").write_text(APP.replace("['PALFREY_WORKER']", ".get('PALFREY_WORKER')"))
    (tmp_path / "confined.py").write_text(CONFINED)
    command = sys.executable, "-m", "tests.support.seccomp", str(UNITS / "palfrey.service"), *memory
    root = {"PYTHONPATH": str(UNITS.parent)}
    arguments = (
        "confined:app",
        "--bind",
        "127.0.0.1:0",
        "--bind",
        "unix:sock",
        "--workers",
        "2",
        "--pid",
        "pid",
        *more,
    )
    with Server(sys.executable, "-m", "palfrey", *arguments, cwd=tmp_path, command=command, env=root) as server:
        server.wait_for_each("refused True", f"code {bool(memory)}")
        server.wait_for_ready(2)
        server.get()
        before = [int(pid) for pid in re.findall(r"Worker \d \((\d+)\) is ready", server.output)]
        server.signal(signal.SIGHUP)
        server.wait_for_ready(2, generation=2)
        server.wait_for_ends(before)
        assert server.get()[1] == "2"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


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
    assert int(service["WatchdogSec"]) > 2 * 60  # boot_timeout
    assert service["NotifyAccess"] == "main"
    assert service["Environment"] == f"PWD={service['WorkingDirectory']}"


def test_an_instance_differs_by_its_name_alone() -> None:
    one, many = settings("palfrey.service"), settings("palfrey@.service")
    assert one.keys() == many.keys()
    assert all("%i" in many[key] for key in one if one[key] != many[key])
