"""What a run was made on: machine, kernel, interpreter and versions. No host names, no paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    *("palfrey", "uvicorn", "granian", "gunicorn", "hypercorn", "waitress"),
    *("uvloop", "httptools", "h11", "starlette", "fastapi", "pydantic", "websockets", "picows", "h2"),
)


def machine() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    found = {name: package_version(name) for name in PACKAGES}
    commit = _commit()
    if commit:
        found["palfrey"] += f" ({commit})"
    return found | {"nginx": _said("nginx", "-v"), "wrk": _said("wrk", "-v"), "h2load": _said("h2load", "--version")}


def package_version(name: str) -> str:
    """`0.54.0`, or "" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def python_series() -> str:
    """`3.13`."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def _commit() -> str:
    """The commit that is measured, with a + when files differ from it; "" outside a checkout."""
    root = Path(__file__).parents[1]
    try:
        commit = subprocess.run(
            ("git", "describe", "--always", "--abbrev=10", "--exclude=*"),
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        differs = subprocess.run(("git", "diff", "--quiet", "HEAD", "--", "palfrey"), cwd=root, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if differs else "")


def _said(*command: str) -> str:
    """The first version-like word of what a tool says of itself, on either stream."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else ""
