"""The storm (tests/chaos): half a minute of it finds nothing, and finds every fault that is put in on purpose.

Five minutes and more are for people: `scripts/chaos --seconds 300`.
"""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tests.chaos.site import ROOT

SECONDS = 30
FAULTS = {
    "idle": "of rest, and not",
    "queue": "lost: ",
    "descriptor": "the arbiter has not the descriptors it had",
    "orphan": "processes left behind",
}


def storm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.chaos", "--workers", "3", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.xdist_group("storms")
@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", ["4", "random"])
def test_a_storm_loses_nothing(seed: str) -> None:
    number = str(random.SystemRandom().randrange(1_000_000)) if seed == "random" else seed
    done = storm("--seconds", str(SECONDS), "--seed", number)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "clean: every request is accounted for" in done.stdout


@pytest.mark.xdist_group("faults")
@pytest.mark.timeout(420)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    done = storm("--seconds", "6", "--seed", "1", "--act", "HUP", "--sabotage", fault)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    assert FAULTS[fault] in done.stdout
    assert "to repeat: scripts/chaos --seed 1 " in done.stderr
