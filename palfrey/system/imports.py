"""Where Python finds modules, by what the names led to and not by where they lead by now.

A virtual environment that lies below a symlink is on `sys.path` by the symlink's name. When that is switched, the next
import would be from another release: of an application's module beside dependencies that it was not tried with, or of
a part of Palfrey beside parts of another version.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType


def resolved(entries: Iterable[str] | None = None) -> tuple[str, ...]:
    """The entries of `sys.path` (or these) as they are now, symlinks followed; "" stays the working directory."""
    return tuple(os.path.realpath(entry) if entry else entry for entry in (sys.path if entries is None else entries))


def pin(package: str, modules: Mapping[str, ModuleType] | None = None) -> None:
    """What is imported of this package from now on comes from where it lies now."""
    for name, module in list((sys.modules if modules is None else modules).items()):
        if f"{name}.".startswith(f"{package}.") and hasattr(module, "__path__"):
            module.__path__ = list(resolved(module.__path__))
