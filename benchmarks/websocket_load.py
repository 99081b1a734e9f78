"""The WebSocket load generator, `wsload.c`, compiled where it is needed, and its report as figures."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import Load, generate

if TYPE_CHECKING:
    from benchmarks.scenarios import Scenario

SOURCE = Path(__file__).with_name("wsload.c")


def compiled(folder: Path) -> Path:
    """The program, made once in the folder. Ends this one, saying what is missing, where it cannot be made."""
    program = folder / "wsload"
    if program.exists():
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("the WebSocket benchmarks need a C compiler named cc")
    done = subprocess.run(
        [compiler, "-O3", "-o", str(program), str(SOURCE), "-lz"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"wsload.c does not compile (it needs Linux, and zlib with its headers):\n{done.stderr}")
    return program


def load(program: Path, port: int, scenario: Scenario, connections: int, seconds: int, core: int | None) -> Load:
    """Loads the server as the scenario asks for, so long over so many connections, from one core."""
    message = scenario.message
    command = [str(program), "--port", str(port), "--connections", str(connections), "--seconds", str(seconds)]
    command += ["--size", str(message.size)]
    command += [f"--{name}" for name in ("text", "deflate", "broadcast") if getattr(message, name)]
    return read(*generate(command, seconds, core))


def read(text: str, busy: float = 0.0) -> Load:
    """wsload's report -> figures: a message that came back counts as a response, a wrong one or a connection that was
    lost or stood still as an error."""
    found = json.loads(text)
    return Load(
        rate=found["rate"],
        requests=found["messages"],
        errors=found["wrong"] + found["failed"],
        p50=found["p50"],
        p99=found["p99"],
        busy=busy,
    )
