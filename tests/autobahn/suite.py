"""The suite itself: PyPI's autobahntestsuite, which only Python 2.7 runs.

`prepare` installs it into a directory of its own, once; `run` has its fuzzing client drive one server, and returns its
index: case -> behavior and behaviorClose, in the suite's words.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PINS = (
    "autobahntestsuite==25.10.1",
    "Twisted==19.10.0",
    "cryptography==3.3.2",
    "pyOpenSSL==19.1.0",
    "service_identity==18.1.0",
    "klein==17.10.0",
    "six==1.16.0",
    "zope.interface==4.6.0",
)
"""Versions that still work together."""

Index = Mapping[str, Mapping[str, Any]]


class NotHere(Exception):
    """There is nothing to run the suite with."""


def python2(environ: Mapping[str, str]) -> str:
    """A Python 2.7 with pip. Raises NotHere."""
    for candidate in _candidates(environ):
        found = subprocess.run(
            [candidate, "-c", "import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))"],
            check=False,
            capture_output=True,
        )
        if found.returncode == 0:
            return candidate
    raise NotHere(
        "autobahn: there is no Python 2.7 with pip here, which the suite needs; nothing was tested.\n"
        "  Install one (pyenv install 2.7.18) and name it: PYTHON2=/path/to/python2.7 scripts/autobahn"
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    if environ.get("PYTHON2"):
        yield environ["PYTHON2"]
        return
    for name in ("python2.7", "python2", "pypy2", "pypy"):
        if path := shutil.which(name):
            yield path
    root = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(root.glob("versions/2.7*/bin/python")))


def prepare(python: str, site: Path) -> None:
    """Installs the suite into `site`, unless it is there."""
    stamp = site / "installed"
    if stamp.exists() and stamp.read_text() == "\n".join(PINS):
        return
    shutil.rmtree(site, ignore_errors=True)
    environ = {**os.environ, "PIP_NO_PYTHON_VERSION_WARNING": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--target", str(site), *PINS], check=True, env=environ)
    # A namespace package is one only where its .pth is read, which --target is not.
    (site / "zope" / "__init__.py").touch()
    stamp.write_text("\n".join(PINS))


def run(python: str, site: Path, work: Path, port: int, cases: Sequence[str], minutes: float) -> Index:
    """Drives the server at `port` through the cases, and gives up after so many minutes. Raises RuntimeError."""
    reports = work / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": "server", "url": f"ws://127.0.0.1:{port}"}],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (work / "spec.json").write_text(json.dumps(spec))
    environ = {**os.environ, "PYTHONPATH": str(site)}
    environ.pop("PYTHONHOME", None)
    command = [python, str(site / "bin" / "wstest"), "-m", "fuzzingclient", "-s", str(work / "spec.json")]
    with (work / "wstest.log").open("wb") as output:
        try:
            done = subprocess.run(
                command, check=False, cwd=work, env=environ, stdout=output, stderr=output, timeout=minutes * 60
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not through after {minutes:g} minutes: see {work}/wstest.log") from None
    index = reports / "index.json"
    if done.returncode or not index.exists():
        raise RuntimeError(f"the suite ended with status {done.returncode}: see {work}/wstest.log")
    found: Index = json.loads(index.read_text()).get("server", {})
    announced = re.search(r"will run (\d+) test cases", (work / "wstest.log").read_text(errors="replace"))
    if announced is None or len(found) != int(announced[1]):
        # It passes over cases for which it gets no connection, and thinks nothing of it.
        raise RuntimeError(f"only {len(found)} cases were run: see {work}/wstest.log and {work}/server.log")
    return found
